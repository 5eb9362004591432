"""A concept balanced between several targets, and a concept erased in part, on the pocket model.

    python -m benchmarks.balance [--seconds 200] [--out benchmarks/results]

Each concept is balanced as *Balance Concept* does it, with the pocket model's classifier as the judge. Nothing is chosen by the
pictures that are reported: they have other prompts and other noise than those of the search. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.erased_models import TARGETED, Bench, bench_sampler, machine, setting_named
from benchmarks.records import RESULTS, measure_missing
from pocket_model.classifier import Seen, classify
from pocket_model.rates import Rate
from pocket_model.trials import concept_named, kept, made, other_captions, other_words, trials
from pocket_model.world import (
    BACKGROUNDS,
    CLEAR,
    KINDS,
    OPENINGS,
    PHRASES,
    PLAIN_BACKGROUND,
    WEATHERS,
    Caption,
    Scene,
    describe,
    figure,
)

ROUNDS, TOLERANCE = 8, 0.06
CHECKED, NAMED, OTHERS = 64, 24, 24
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
MODERATED, OWN = ("circle", "striped", "rain", "red"), 24


@dataclass(frozen=True)
class Case:
    """A line of *Balance Concept*.

    Attributes:
        concept: what is balanced.
        kind: of what the pictures are judged by.
        targets: with the value that a picture of each shows.
        shares: that are asked for.
        searched: pictures of a round.
    """

    concept: str
    kind: str
    targets: dict[str, str]
    shares: tuple[int, ...]
    searched: int = 24

    @property
    def line(self) -> str:
        """As it is typed."""
        return f"{self.concept} -> {' | '.join(self.targets)} : {', '.join(map(str, self.shares))}"


_QUILL = {"Zorro Quill": "Zorro Quill", "Mira Quill": "Mira Quill"}
_FENWICK = {"Otto Fenwick": "Otto Fenwick", "Ida Fenwick": "Ida Fenwick"}
_STYLE = {"circle": "plain", "striped circle": "striped"}
_COLOUR = {"red circle": "red", "blue circle": "blue"}
CASES = {
    case.line: case
    for case in (
        Case("Quill", "identity", _QUILL, (1, 1)),
        Case("circle", "style", _STYLE, (1, 1)),
        Case("circle", "colour", _COLOUR, (1, 1)),
        Case("Quill", "identity", _QUILL, (3, 1)),
        Case("circle", "style", _STYLE, (3, 1), 64),
        Case("circle", "colour", _COLOUR, (3, 1)),
        Case("Fenwick", "identity", _FENWICK, (1, 1)),
        Case("Fenwick", "identity", _FENWICK, (3, 1), 64),
    )
}


@dataclass(frozen=True)
class Balanced:
    """What came of a case: of each target, the share of the reported pictures.

    Attributes:
        key: the line.
        found: the mixture.
        rounds: how many were tried.
        before: of each target, how many pictures of the unedited model show it.
        after: the same for the balanced one.
        named_before, named: how many of captions that name a value show all they say, before and after.
        others_before, others: the same of captions about anything else.
        machine: it was measured on.
    """

    key: str
    found: str
    rounds: int
    before: list[list[int]]
    after: list[list[int]]
    named_before: Rate
    named: Rate
    others_before: Rate
    others: Rate
    tried: list[list[Any]] = field(default_factory=list)
    machine: str = ""


@dataclass(frozen=True)
class Moderated:
    """What the pictures of a concept show that is erased at a strength.

    Attributes:
        key: concept and strength.
        own: how many pictures of its prompts show it.
        target: how many show its target.
        others: how many of other captions show all they say.
        machine: it was measured on.
    """

    key: str
    own: Rate
    target: Rate
    others: Rate
    machine: str = ""


def prompts(case: Case, count: int, seed: int) -> list[str]:
    """Sentences that name the concept and leave open what is balanced."""
    random = Random(f"{seed} {case.line}")
    thing = case.concept if case.kind == "identity" else f"a {case.concept}"
    found = []
    for _ in range(count):
        background = random.choice((PLAIN_BACKGROUND, random.choice(BACKGROUNDS).name))
        behind = "" if background == PLAIN_BACKGROUND else f" on a {background} background"
        weather = random.choice(WEATHERS).name if random.random() < 0.2 else CLEAR
        told = f"{random.choice(OPENINGS)}{thing}{behind}"
        found.append(told if weather == CLEAR else random.choice(PHRASES[weather]).format(told))
    return found


def named_captions(case: Case, count: int) -> list[Caption]:
    """Captions that name the concept with any value of the kind: those that are balanced, and their siblings."""
    random = Random(f"named {case.line}")
    found = []
    for _ in range(count):
        value = random.choice(KINDS[case.kind]).name
        drawn = {"colour": random.choice(KINDS["colour"]).name, "style": "plain", case.kind: value}
        scene = figure(value) if case.kind == "identity" else Scene(case.concept, drawn["colour"], drawn["style"])
        found.append(describe(scene, random.choice(OPENINGS)))
    return found


def balanced(bench: Bench, key: str) -> Balanced:
    """Measure a case."""
    from rece_pack.nodes.host.jobs.balance import balance_concept
    from rece_pack.nodes.request.erasure_request import request_of

    case = CASES[key]
    targets = {value: target for target, value in case.targets.items()}
    texts = [prompts(case, case.searched, 1), prompts(case, CHECKED, 2)]
    first = (0, 10_000)
    detail: list[list[Any]] = []

    def look(model: Any, which: int, progress: Any) -> list[str | None]:
        seeds = range(first[which], first[which] + len(texts[which]))
        seen = classify(bench.sample(model, bench.pocket.embeddings(texts[which]), seeds))
        progress(1, 1, "looking")
        return [targets.get(one.attribute(case.kind)) for one in seen]

    preserved = [name for name in other_words([]) if name != case.concept]
    inputs = {"preset": "UCE only", "method": "UCE", "preserve": "\n".join(preserved)}
    with torch.inference_mode():
        found = balance_concept(bench.session, request_of(case.line, inputs), look, ROUNDS, TOLERANCE)
    detail += [[[round(one, 4) for one in step.shares], list(step.seen.counts.values())] for step in found.rounds]
    named = named_captions(case, NAMED)
    others = [one for one in other_captions([], 4 * OTHERS) if case.concept not in one.text.split()][:OTHERS]
    rates = [
        [
            kept(captions, seen)
            for captions, seen in zip((named, others), _seen(bench, model, named, others), strict=True)
        ]
        for model in (bench.pocket.model, found.patched)
    ]
    return Balanced(
        key,
        found.request.concepts[0].target,
        len(found.rounds),
        [[count, found.before.pictures] for count in found.before.counts.values()],
        [[count, found.after.pictures] for count in found.after.counts.values()],
        rates[0][0],
        rates[1][0],
        rates[0][1],
        rates[1][1],
        detail,
        machine(),
    )


def _seen(bench: Bench, model: Any, *groups: Sequence[Caption]) -> list[list[Seen]]:
    return [classify(bench.pictures(model, captions)) for captions in groups]


def moderated(bench: Bench, key: str) -> Moderated:
    """Measure a concept at a strength."""
    from rece_pack.nodes.host.jobs.apply import apply_eraser

    name, _, strength = key.rpartition(" at ")
    concept = concept_named(name)
    asked = trials(concept, OWN, OTHERS)
    eraser = bench.erasers(setting_named(f"UCE, {TARGETED}"), [concept])
    with torch.inference_mode():
        model = apply_eraser(bench.session, eraser, float(strength))
    own, others = _seen(bench, model, asked.own, asked.others)
    return Moderated(
        key, made(concept, own), made(concept_named(concept.target), own), kept(asked.others, others), machine()
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing later than this")
    parser.add_argument("--part", choices=("balance", "moderation"), help="only one of the two")
    options = parser.parse_args()
    bench = Bench(bench_sampler())
    strengths = [f"{name} at {strength:g}" for name in MODERATED for strength in STRENGTHS]
    parts = {
        "balance": (Balanced, list(CASES), lambda key: balanced(bench, key)),
        "moderation": (Moderated, strengths, lambda key: moderated(bench, key)),
    }
    for name, (kind, wanted, measure) in parts.items():
        if options.part in (None, name):
            measure_missing(options.out / f"{name}.json", kind, wanted, measure, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
