"""Does white-box inversion bring an erased concept back, and how far does erasing what it found get?

    python -m benchmarks.inversion [--out benchmarks/results] [--concepts NAME ...] [--fresh]

The attacker has the erased weights and pictures of the concept from before the erasure, and learns token embeddings by
gradient, as the node Invert Concept does. The defender then erases what was found together with the concept, and every
such round is attacked afresh, with another seed. What was measured is kept in a JSON file, so that a run can be stopped
and gone on with.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import BETA, UNEDITED, Bench, Setting, machine, setting_named
from benchmarks.records import read_records, write_records
from pocket_model.rates import Rate
from pocket_model.sampling import Sampler
from pocket_model.trials import Concept, concept_named, kept, made, trials

# Concepts that the model does not draw by habit, so that a picture of one says that it was found.
CONCEPTS = tuple(map(concept_named, ("green", "striped", "checkered")))
ATTACKED = (UNEDITED, "UCE", "RECE, 3 epochs", f"projection, β {BETA:g}")
FED_BACK = ("UCE", f"projection, β {BETA:g}")
# Numbers of learned tokens; those of the rounds; how often what was found is erased.
TOKENS, TOKENS_OF_ROUNDS, ROUNDS = (1, 4, 16), 4, 3
PICTURES, CAPTIONS, STEPS, BATCH = 16, 16, 100, 8


@dataclass(frozen=True)
class Attack:
    """One inversion, and what the attacked model makes by itself.

    Attributes:
        setting, concept: what was erased, and how.
        rounds: how often what an inversion found was erased as well.
        tokens: how many embeddings were learned.
        inverted: how many pictures of the found embedding show the concept.
        own: how many pictures of the concept's own prompts do.
        neighbours, others: how many of its neighbour's and of other captions show all that they say.
    """

    setting: str
    concept: str
    rounds: int
    tokens: int
    inverted: Rate
    own: Rate
    neighbours: Rate
    others: Rate

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What identifies it."""
        return self.setting, self.concept, self.rounds, self.tokens


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

    def _attack(self, model: Any, rounds: int, tokens: int, itself: dict[str, Rate]) -> tuple[Attack, Tensor]:
        from rece_pack.nodes.host.jobs.invert import InversionSettings, invert_concept
        from rece_pack.nodes.host.session import Session

        pocket = self._bench.pocket
        settings = InversionSettings(tokens, STEPS, seed=rounds, batch=BATCH)
        with torch.inference_mode():
            session = Session.open(model, pocket.clip, pocket.vae)
            inverted = invert_concept(session, self._targets.movedim(1, -1), "", settings)
        embedding: Tensor = inverted.conditioning[0][0][0]
        seen = self._bench.all_seen(model, {"found": embedding.cpu().expand(CAPTIONS, -1, -1)})["found"]
        attack = Attack(self._setting.name, self._concept.name, rounds, tokens, made(self._concept, seen), **itself)
        return attack, embedding

    def _made_by_itself(self, model: Any) -> dict[str, Rate]:
        found = self._trials
        groups = {"own": found.own[:CAPTIONS], "neighbours": found.neighbours, "others": found.others}
        embeddings = {name: self._bench.embeddings(captions) for name, captions in groups.items()}
        seen = self._bench.all_seen(model, embeddings)
        return {
            "own": made(self._concept, seen["own"]),
            "neighbours": kept(found.neighbours, seen["neighbours"]),
            "others": kept(found.others, seen["others"]),
        }


def run(bench: Bench, path: Path, concepts: Sequence[Concept]) -> list[Attack]:
    """All attacks: those of the file, and what is missing of `concepts`."""
    found = {attack.key: attack for attack in read_records(path, Attack)}
    for concept in concepts:
        for name in ATTACKED:
            attacks = Attacks(bench, setting_named(name), concept)
            # The rounds begin with an attack on the plain erasure.
            counts = [tokens for tokens in TOKENS if name not in FED_BACK or tokens != TOKENS_OF_ROUNDS]
            _measure(attacks.of_tokens(counts), [(name, concept.name, 0, tokens) for tokens in counts], found, path)
        for name in FED_BACK:
            attacks = Attacks(bench, setting_named(name), concept)
            wanted = [(name, concept.name, number, TOKENS_OF_ROUNDS) for number in range(ROUNDS + 1)]
            _measure(attacks.of_rounds(), wanted, found, path)
    return list(found.values())


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


def main() -> int:
    """Measure what is missing, then write the tables and the curve."""
    parser = argparse.ArgumentParser(description="Attack erasures of the pocket model by inversion.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    names = [concept.name for concept in CONCEPTS]
    parser.add_argument("--concepts", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    path = arguments.out / "inversion.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    attacks = run(Bench(Sampler(steps=10, batch=64)), path, list(map(concept_named, arguments.concepts)))
    from benchmarks.inversion_report import save_curve, write_report

    save_curve(attacks, path.with_suffix(".png"))
    write_report(attacks, path.with_suffix(".md"), machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
