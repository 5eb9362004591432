"""The tables of what Suggest Concepts finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.records import finding
from benchmarks.suggestions.run import NOT_MEASURED, Outcome
from pocket_model.rates import Rate
from pocket_model.trials import CONCEPTS

_TESTED = {concept.name for concept in CONCEPTS}


def write_report(outcomes: Sequence[Outcome], path: Path, measured_on: str) -> None:
    """Write the page next to the records."""
    sampled = [one for one in outcomes if one.held_out != NOT_MEASURED]
    page = "\n\n".join(
        [
            "# What Suggest Concepts finds on the pocket model",
            f"Measured by `python -m benchmarks.suggestions` on {measured_on}; the limits of likeness were chosen on the tuning words, "
            "the limit of kinds with all of them before the eyes. "
            "*Precision*: of the words suggested for erasure, how many are synonyms of the concept or words out of one. "
            "*Recall*: of its synonyms that the vocabulary holds as one word, how many were suggested. *Neighbour*: whether its "
            "nearest neighbour is among the words suggested for preservation.",
            finding(Path(__file__).with_name("finding.md")),
            _summary(outcomes),
            "## Pictures, erased by the suggestions alone (UCE)",
            _pictures(sampled),
            "## By word",
            _words(outcomes),
        ]
    )
    path.write_text(page + "\n", encoding="utf-8", newline="\n")


def _summary(outcomes: Sequence[Outcome]) -> str:
    rows = ["| words | precision | recall | neighbour |", "| --- | --- | --- | --- |"]
    for name, tested in (("tuning", False), ("test", True)):
        part = [one for one in outcomes if (one.concept in _TESTED) == tested]
        sums = [sum((getattr(one, field) for one in part), Rate(0, 0)) for field in ("found", "recalled", "neighbour")]
        rows.append(f"| {name} ({len(part)}) | {' | '.join(map(str, sums))} |")
    return "\n".join(rows)


def _pictures(sampled: Sequence[Outcome]) -> str:
    rows = [
        "| concept | unseen synonyms: still made (before) | neighbour: kept (before) | everything else: kept (before) |",
        "| --- | --- | --- | --- |",
    ]
    for one in sampled:
        rows.append(
            f"| {one.concept} -> {one.target or '(empty)'} | {one.held_out} ({one.held_out_before}) | {one.neighbours} "
            f"({one.neighbours_before}) | {one.others} ({one.others_before}) |"
        )
    return "\n".join(rows)


def _words(outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| concept | lines | precision | recall | neighbour | target | share in unseen synonyms before, after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        share = f"{one.share_before:.0%}, {one.share_after:.0%}" if one.share_before else "–"
        counts = [f"{rate.hits} of {rate.trials}" for rate in (one.found, one.recalled, one.neighbour)]
        rows.append(f"| {one.concept} | {one.lines} | {' | '.join(counts)} | {one.target} | {share} |")
    return "\n".join(rows)
