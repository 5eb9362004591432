"""What pictures show after each map, next to text-side methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.erased_models import Bench, settings
from benchmarks.examples.run import SORTS
from benchmarks.image_side.moments import Block, Sums, gathered, maps, with_maps
from pocket_model.rates import Rate
from pocket_model.trials import concept_named, trials

TEXT_SIDE = {
    "projection": ("projection, β 30, to a target", False),
    "UCE, others preserved": ("UCE, to a target", True),
}
COUNTS = (1, 2, 4, 8, 16)
WAYS = (
    "unedited",
    *TEXT_SIDE,
    *(f"image side, {count}" for count in COUNTS),
    *(f"image side, plain, {count}" for count in (1, 4)),
)
SCENES = 12
Key = tuple[str, str, int]
"""Concept, way and pictures of each sort, of the neighbour half as many."""


@dataclass(frozen=True)
class Outcome:
    """What the pictures of one concept show: see `benchmarks.examples.run.Outcome`."""

    concept: str
    way: str
    pictures: int
    own: Rate
    held_out: Rate
    neighbours: Rate
    others: Rate

    @property
    def key(self) -> Key:
        """What it is the measurement of."""
        return self.concept, self.way, self.pictures


class Trial:
    """Measures one way after another, and gathers the moments of a concept once.

    Args:
        bench: the loaded model.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sums: dict[str, dict[Block, Sums]] = {}

    def measured(self, key: Key) -> Outcome:
        """Erase one concept in one way, and look at pictures."""
        name, way, pictures = key
        concept = concept_named(name)
        found = trials(concept, pictures, pictures, seed=3)
        rates: dict[str, Any] = self._bench.rates(self._model(name, way), concept, found, SORTS)
        return Outcome(*key, **rates)

    def _model(self, name: str, way: str) -> object:
        concept = concept_named(name)
        if way == WAYS[0]:
            return self._bench.pocket.model
        if way in TEXT_SIDE:
            setting = next(one for one in settings() if (one.name, one.preserved) == TEXT_SIDE[way])
            return self._bench.erased(setting, [concept])[0]
        if name not in self._sums:
            self._sums[name] = gathered(self._bench, concept, SCENES)
        count = int(way.rsplit(" ", 1)[1])
        return with_maps(self._bench.pocket.model, maps(self._sums[name], count, whitened="plain" not in way))


def report(outcomes: Sequence[Outcome]) -> str:
    """The table: every way over all concepts, then each concept."""
    rows = [
        "| | own prompts | unseen synonyms | nearest neighbour | everything else |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way in (way for way in WAYS if any(one.way == way for one in outcomes)):
        chosen = [one for one in outcomes if one.way == way]
        for label, part in ((f"{way}, all {len(chosen)}", chosen), *((one.concept, [one]) for one in chosen)):
            rates = [sum((getattr(one, sort) for one in part), Rate(0, 0)) for sort in SORTS]
            rows.append(f"| {label} | {' | '.join(map(str, rates))} |")
    return "\n".join(rows)
