"""The measurement of one concept that is given in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch

from benchmarks.erased_models import Bench
from pocket_model.rates import Rate
from pocket_model.trials import Concept, concept_named, scene_with, trials
from pocket_model.world import OPENINGS, describe, paraphrase

WAYS = ("bare word", "sample", "pairs")
SORTS = ("own", "held_out", "neighbours", "others")
Key = tuple[str, str, int, int]
"""Concept, way, examples (0 for the bare word) and pictures."""
# Of the examples' scenes, which are none of those that are measured.
_SEED = 7


@dataclass(frozen=True)
class Outcome:
    """What the pictures of one concept show.

    Attributes:
        concept: its name.
        way: one of `WAYS`.
        examples: how many prompts were given.
        pictures: of each sort, half as many of the neighbour.
        own, held_out: pictures that still make the concept, of prompts that name it, and that say it with an unseen synonym.
        neighbours, others: pictures that show what their prompts say, of the nearest neighbour and of everything else.
        note: how the examples were read.
    """

    concept: str
    way: str
    examples: int
    pictures: int
    own: Rate
    held_out: Rate
    neighbours: Rate
    others: Rate
    note: str = ""

    @property
    def key(self) -> Key:
        """What it is the measurement of."""
        return self.concept, self.way, self.examples, self.pictures


def example_lines(concept: Concept, count: int, pairs: bool) -> str:
    """The text of 'examples': every other prompt names the concept, the others say it with a synonym that the UNet saw."""
    random = Random(f"{_SEED} {concept.name}")
    lines = []
    for number in range(count):
        scene = scene_with(random, concept)
        state = random.getstate()
        sides = []
        for name in (concept.name, concept.target):
            # The same opening, turn and background on both sides.
            random.setstate(state)
            shown = replace(scene, **{concept.kind: name})
            sides.append(paraphrase(shown, name, random) if number % 2 else describe(shown, random.choice(OPENINGS)))
        lines.append(" -> ".join(side.text for side in sides) if pairs else sides[0].text)
    return "\n".join(lines)


def measured(bench: Bench, key: Key) -> Outcome:
    """Erase the concept by a projection to its target, and look at pictures."""
    from rece_pack.nodes.host.jobs.erase import erase_concepts
    from rece_pack.nodes.request.erasure_request import request_of

    name, way, examples, pictures = key
    concept = concept_named(name)
    text = example_lines(concept, examples, pairs=way == WAYS[2]) if examples else ""
    inputs = {"preset": "nudity", "method": "projection", "examples": text}
    with torch.inference_mode():
        result = erase_concepts(bench.session, request_of(f"{concept.name} -> {concept.target}", inputs))
    found = trials(concept, pictures, pictures, seed=3)
    rates: dict[str, Any] = bench.rates(bench.with_erasers(result.eraser), concept, found, SORTS)
    return Outcome(*key, **rates, note=" ".join(result.notes))


def report(outcomes: Sequence[Outcome]) -> str:
    """The table: every concept in every way, and their sums over the concepts that were measured in all of them."""
    rows = [
        "| | own prompts | unseen synonyms | nearest neighbour | everything else |",
        "| --- | --- | --- | --- | --- |",
    ]
    ways = list(dict.fromkeys((one.way, one.examples, one.pictures) for one in outcomes))
    for way in ways:
        chosen = [one for one in outcomes if (one.way, one.examples, one.pictures) == way]
        of_all = [one for one in chosen if all((one.concept, *other) in {o.key for o in outcomes} for other in ways)]
        for label, part in (*((one.concept, [one]) for one in chosen), (f"all {len(of_all)}", of_all)):
            rates = [sum((getattr(one, sort) for one in part), Rate(0, 0)) for sort in SORTS]
            rows.append(f"| {label}, {way[0]}{f' of {way[1]}' if way[1] else ''} | {' | '.join(map(str, rates))} |")
    return "\n".join(rows)
