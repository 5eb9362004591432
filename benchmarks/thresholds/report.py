"""The table and the plot of the thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.records import finding, machines
from benchmarks.thresholds.records import (
    QUESTIONS,
    Case,
    Question,
    best_threshold,
    drift,
    everything,
    precision,
    recall,
    regeneration,
    residual,
    targeted,
    untargeted,
)
from pocket_model.rates import Rate


class Panel(NamedTuple):
    """A number, and the share of pictures that it should tell.

    Attributes:
        number, shown: their names.
        of, share: read them.
        among: the cases that have both.
    """

    number: str
    shown: str
    of: Callable[[Case], float]
    share: Callable[[Case], float]
    among: Callable[[Case], bool] = everything


# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
# The edges of bins of every number.
EDGES = (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, math.inf)
PANELS = (
    Panel("residual, with a target", "own prompts: still made", residual, lambda case: case.left, targeted),
    Panel("residual, without", "own prompts: still made", residual, lambda case: case.left, untargeted),
    Panel("drift", "everything else: kept", drift, lambda case: case.kept),
    Panel("regeneration", "derived embedding: makes it", regeneration, lambda case: case.returned),
)
TEXT = """# From which numbers on do pictures show it?

Measured by `python -m benchmarks.thresholds` on {machine}; every figure is in `thresholds.json`, the pictures are those of
`efficacy.json`. {count} erasures of the pocket model: {concepts}, each erased alone. Shares of pictures are relative to the
unedited model: 100 % is what it does, and for the concept 0 % is what it does of an unknown word in the concept's place.

{finding}

![the numbers, and what pictures showed](thresholds.png)

## Chosen on half of the concepts, judged on the other half

A number says it where it lies above the threshold. Chosen is the threshold where sensitivity + specificity is greatest on {chosen_on};
precision and recall are those of {judged_on}, with 95 % Wilson intervals.

| the pictures show that … | number | threshold | precision | recall | share of cases |
| --- | --- | --- | --- | --- | --- |
{questions}

## By size of the number

Mean and largest share of pictures, and how many erasures there were.

| number | {bins} |
| --- |{rule}
{rows}
"""


def write_report(found: Sequence[Case], path: Path) -> None:
    """Write both tables."""
    first, second = halves(found)
    text = TEXT.format(
        machine=machines([case.numbers for case in found]),
        count=len(found),
        concepts=_names(found),
        finding=finding(FINDING),
        chosen_on=_names(first),
        judged_on=_names(second),
        questions="\n".join(_question_row(question, first, second) for question in QUESTIONS),
        bins=" | ".join(f"{low:g} to {high:g}" for low, high in pairwise(EDGES)),
        rule=" --- |" * (len(EDGES) - 1),
        rows="\n".join(_bin_row(panel, found) for panel in PANELS),
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def halves(found: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The cases of every second concept, and those of the others."""
    names = list(dict.fromkeys(case.numbers.concept for case in found))
    chosen = set(names[::2])
    return [case for case in found if case.numbers.concept in chosen], [
        case for case in found if case.numbers.concept not in chosen
    ]


def _names(found: Sequence[Case]) -> str:
    return ", ".join(dict.fromkeys(case.numbers.concept for case in found))


def _question_row(question: Question, first: Sequence[Case], second: Sequence[Case]) -> str:
    threshold = best_threshold(first, question)
    shown = Rate.of(question.shown(case) for case in second if question.among(case))
    rates = f"{precision(second, question, threshold)} | {recall(second, question, threshold)}"
    return f"| {question.name} | {question.number} | {threshold:.2f} | {rates} | {shown.share:.0%} |"


def _bin_row(panel: Panel, found: Sequence[Case]) -> str:
    cells = []
    for low, high in pairwise(EDGES):
        chosen = [case for case in found if panel.among(case) and low <= panel.of(case) < high]
        values = [share for share in map(panel.share, chosen) if not math.isnan(share)]
        cells.append(f"{sum(values) / len(values):.0%}, {max(values):.0%}, {len(values)}" if values else "–")
    return f"| {panel.number}: {panel.shown} | {' | '.join(cells)} |"


def save_plot(found: Sequence[Case], path: Path) -> None:
    """A panel for each number, a colour for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(PANELS), 4.2), dpi=90, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for method, marker in (("UCE", "o"), ("RECE", "^"), ("projection", "s")):
            points = [case for case in found if panel.among(case) and case.numbers.setting.startswith(method)]
            axes.plot([*map(panel.of, points)], [*map(panel.share, points)], marker, alpha=0.4, label=method)
        axes.set_xlabel(panel.number)
        axes.set_ylabel(panel.shown)
        axes.set_ylim(-0.05, 1.25)
    figure.axes[0].legend()
    figure.savefig(path)
