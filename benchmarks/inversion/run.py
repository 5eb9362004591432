"""The attacks: inversions of the pocket model, erased in several ways, and erasing what they found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import Bench, Setting, machine, setting_named
from benchmarks.inversion.records import (
    ATTACKED,
    BATCH,
    CAPTIONS,
    FED_BACK,
    PICTURES,
    ROUNDS,
    STARTS,
    STEPS,
    TOKENS,
    TOKENS_OF_ROUNDS,
    Attack,
)
from benchmarks.records import read_records, write_records
from pocket_model.rates import Rate
from pocket_model.trials import Concept, kept, made, trials


class Attacks:
    """Inversions of one concept under one setting."""

    def __init__(self, bench: Bench, setting: Setting, concept: Concept) -> None:
        self._bench, self._setting, self._concept = bench, setting, concept
        self._trials = trials(concept, max(CAPTIONS, PICTURES), CAPTIONS)
        self._targets = bench.pictures(bench.pocket.model, self._trials.own[:PICTURES])

    def of_tokens(self, counts: Sequence[int]) -> Iterator[Attack]:
        """Attacks on the plain erasure with those numbers of tokens."""
        model = self._bench.erased(self._setting, [self._concept])[0]
        itself = self._made_by_itself(model)
        for tokens in counts:
            yield self._attack(model, 0, tokens, itself)[0]

    def of_rounds(self) -> Iterator[Attack]:
        """Attacks on erasures that know what the attacks before them found."""
        found: list[Tensor] = []
        for number in range(ROUNDS + 1):
            model = self._bench.erased(self._setting, [self._concept], found)[0]
            attack, embedding = self._attack(model, number, TOKENS_OF_ROUNDS, self._made_by_itself(model))
            found.append(embedding)
            yield attack

    def _attack(self, model: Any, rounds: int, tokens: int, itself: tuple[Rate, Rate, Rate]) -> tuple[Attack, Tensor]:
        from rece_pack.nodes.host.jobs.invert import invert_concept
        from rece_pack.nodes.host.session import Session
        from rece_pack.rece_ops.attacks.inversion import InversionSettings

        pocket = self._bench.pocket
        session = Session.open(model, pocket.clip, pocket.vae)
        found: list[tuple[Rate, Tensor]] = []
        for start in range(STARTS):
            settings = InversionSettings(tokens, STEPS, seed=STARTS * rounds + start, batch=BATCH)
            with torch.inference_mode():
                inverted = invert_concept(session, self._targets.movedim(1, -1), "", settings)
            embedding: Tensor = inverted.conditioning[0][0][0].cpu()
            seen = self._bench.all_seen(model, {"found": embedding.expand(CAPTIONS, -1, -1)})["found"]
            found.append((made(self._concept, seen), embedding))
        best, embedding = max(found, key=lambda one: one[0].hits)
        every = sum((rate for rate, _ in found), Rate(0, 0))
        own, neighbours, others = itself
        setting, name = self._setting.name, self._concept.name
        return Attack(setting, name, rounds, tokens, best, every, own, neighbours, others, machine()), embedding

    def _made_by_itself(self, model: Any) -> tuple[Rate, Rate, Rate]:
        """Of its own prompts, of its neighbour's, and of others."""
        found = self._trials
        groups = {"own": found.own[:CAPTIONS], "neighbours": found.neighbours, "others": found.others}
        embeddings = {name: self._bench.embeddings(captions) for name, captions in groups.items()}
        seen = self._bench.all_seen(model, embeddings)
        return (
            made(self._concept, seen["own"]),
            kept(found.neighbours, seen["neighbours"]),
            kept(found.others, seen["others"]),
        )


def run(bench: Bench, path: Path, concepts: Sequence[Concept]) -> None:
    """Make the attacks on `concepts` that the file lacks."""
    found = {attack.key: attack for attack in read_records(path, Attack)}
    for concept in concepts:
        for name in ATTACKED:
            attacks = Attacks(bench, setting_named(name), concept)
            # The rounds begin with an attack on the plain erasure.
            counts = [tokens for tokens in TOKENS if name not in FED_BACK or tokens != TOKENS_OF_ROUNDS]
            _measure(attacks.of_tokens(counts), [(name, concept.name, 0, tokens) for tokens in counts], found, path)
    for concept in concepts:
        for name in FED_BACK:
            attacks = Attacks(bench, setting_named(name), concept)
            wanted = [(name, concept.name, number, TOKENS_OF_ROUNDS) for number in range(ROUNDS + 1)]
            _measure(attacks.of_rounds(), wanted, found, path)


def _measure(
    attacks: Iterator[Attack],
    wanted: list[tuple[str, str, int, int]],
    found: dict[tuple[str, str, int, int], Attack],
    path: Path,
) -> None:
    """Run `attacks`, which give what is `wanted` and depend on each other, unless all of it is known."""
    if all(key in found for key in wanted):
        return
    started = time.perf_counter()
    for attack in attacks:
        found[attack.key] = attack
        print(
            f"{attack.key}: inversion {attack.inverted}, own {attack.own}, kept {attack.neighbours} {attack.others}, "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
        write_records(path, list(found.values()))
