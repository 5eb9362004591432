"""The measurement: what is erased, sampled and classified, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.efficacy.records import (
    ALL,
    ATTACKED,
    CAPTIONS,
    DERIVED,
    GRID,
    SHOWN,
    VECTOR_PAIRS,
    VECTOR_SCALE,
    Examples,
    Outcome,
)
from benchmarks.erased_models import UNNAMED, WORD, Bench, Setting, machine, setting_named, settings
from benchmarks.records import read_records, write_records
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import CONCEPTS, Concept, Trials, kept, made, other_captions, trials, vector_pairs, without
from pocket_model.world import KINDS


class Efficacy:
    """The measurement: what is the same for all settings.

    Args:
        bench: what is erased from.
        captions: how many pictures of each sort, and of each attack a fraction of it.
    """

    def __init__(self, bench: Bench, captions: int = CAPTIONS) -> None:
        self.bench = bench
        self._attacked = max(1, captions * ATTACKED // CAPTIONS)
        self.trials = {concept: trials(concept, captions, captions) for concept in CONCEPTS}
        self._all_others = other_captions(CONCEPTS, CAPTIONS)
        self._vector = cache(self._added)

    def measure(self, setting: Setting, concepts: Sequence[Concept]) -> Iterator[Outcome]:
        """The outcomes of erasing `concepts` together."""
        if setting.name == UNNAMED:
            yield from map(self._habit, concepts)
            return
        model, eraser = self.bench.erased(setting, concepts)
        shared = None
        if len(concepts) > 1:
            shared = kept(self._all_others, classify(self.bench.pictures(model, self._all_others)))
        for concept in concepts:
            yield self._outcome(setting, concept, model, eraser, shared)

    def _outcome(self, setting: Setting, concept: Concept, model: Any, eraser: Any, shared: Rate | None) -> Outcome:
        """`shared` is the rate of what is kept where all concepts were erased together."""
        found = self.trials[concept]
        # Erased together, a neighbour is kept only where it was not erased itself.
        names = {one.name for one in CONCEPTS} if shared else set()
        near = tuple(c for c in found.neighbours if not names & {c.says.attribute(concept.kind)})
        elsewhere = self.bench.embeddings(found.others[: self._attacked])
        seen = self.bench.all_seen(
            model,
            {
                "own": self.bench.embeddings(found.own),
                "paraphrased": self.bench.embeddings(found.paraphrased),
                "held_out": self.bench.embeddings(found.held_out),
                "derived": self._derived(eraser, found, DERIVED[0]),
                "derived_closer": self._derived(eraser, found, DERIVED[1]),
                "vector": elsewhere + VECTOR_SCALE * self._vector(concept),
                "neighbours": self.bench.embeddings(near),
                "others": self.bench.embeddings(() if shared else found.others),
            },
        )
        attacks = ("own", "paraphrased", "held_out", "derived", "derived_closer", "vector")
        return Outcome(
            setting.name,
            setting.preserved,
            concept.name + (ALL if shared else ""),
            **{name: made(concept, seen[name]) for name in attacks},
            neighbours=kept(near, seen["neighbours"]),
            others=shared or kept(found.others, seen["others"]),
            rest=kept(found.own, seen["own"], [kind for kind in KINDS if kind != concept.kind]),
            machine=machine(),
        )

    def _habit(self, concept: Concept) -> Outcome:
        """How often the unedited model makes the concept where its captions say another word."""
        captions = without(concept, self.trials[concept].own, WORD)
        seen = classify(self.bench.pictures(self.bench.pocket.model, captions))
        return Outcome(UNNAMED, False, concept.name, made(concept, seen), machine=machine())

    def _derived(self, eraser: Any, found: Trials, regularization: float) -> Tensor:
        """The embeddings that bring the outputs of the concept's own prompts back best."""
        from rece_pack.rece_ops import derive_embedding

        own = self.bench.embeddings(found.own[: self._attacked])
        derived: Tensor = derive_embedding(self.bench.gram, eraser, own.flatten(0, 1), regularization)
        return derived.view_as(own)

    def _added(self, concept: Concept) -> Tensor:
        """What the text encoder adds for the concept: [77, 768], from pairs that differ in that word only."""
        from rece_pack.nodes.host.jobs.concept_vector import concept_vector

        pairs = [(one.text, other.text) for one, other in vector_pairs(concept, VECTOR_PAIRS)]
        with torch.inference_mode():
            vector: Tensor = concept_vector(self.bench.pocket.clip, pairs).tokens
            return vector.cpu()


def run(efficacy: Efficacy, path: Path, only: Sequence[str], groups: Sequence[Sequence[Concept]]) -> None:
    """Measure what the file lacks of the settings `only` (all, where none is named).

    Args:
        groups: concepts that are erased together.
    """
    found = {outcome.key: outcome for outcome in read_records(path, Outcome)}
    for setting in sorted(settings(), key=lambda one: only.index(one.name) if one.name in only else len(only)):
        if only and setting.name not in only:
            continue
        for concepts in groups:
            last = concepts[-1].name + (ALL if len(concepts) > 1 else "")
            if (setting.name, setting.preserved, last) in found or (len(concepts) > 1 and not setting.together):
                continue
            started = time.perf_counter()
            for outcome in efficacy.measure(setting, concepts):
                found[outcome.key] = outcome
                print(
                    f"{outcome.key}: made {outcome.own} {outcome.paraphrased} {outcome.held_out} {outcome.derived} "
                    f"{outcome.vector} kept {outcome.neighbours} {outcome.others}",
                    flush=True,
                )
            print(f"{time.perf_counter() - started:.0f} s", flush=True)
            write_records(path, list(found.values()))


def measured(path: Path) -> list[Outcome]:
    """The outcomes in that file, by setting and concept."""
    order = [(setting.name, setting.preserved) for setting in settings()]
    names = [concept.name for concept in CONCEPTS]
    known = [outcome for outcome in read_records(path, Outcome) if outcome.key[:2] in order]
    return sorted(known, key=lambda one: (order.index(one.key[:2]), names.index(one.concept.removesuffix(ALL))))


def examples(efficacy: Efficacy) -> Examples:
    """Pictures of every concept under the settings of `SHOWN`, with the numbers of columns of `GRID`."""
    found: Examples = {}
    for concept in CONCEPTS:
        captions = [
            caption for group, count in GRID.items() for caption in getattr(efficacy.trials[concept], group)[:count]
        ]
        for name in SHOWN:
            model = efficacy.bench.erased(setting_named(name), [concept])[0]
            found.setdefault(concept.name, {})[name] = efficacy.bench.pictures(model, captions)
    return found
