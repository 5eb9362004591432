"""The table and the plot of the thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.records import finding, machines
from benchmarks.thresholds.records import QUESTIONS, Case, Question, best_threshold, precision, recall

# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
# The edges of bins of every number.
EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, float("inf"))
PANELS: tuple[tuple[str, str, Callable[[Case], float], Callable[[Case], float]], ...] = (
    ("residual", "own prompts: still made", lambda case: case.numbers.residual, lambda case: case.left),
    ("drift", "everything else: kept", lambda case: case.numbers.drift, lambda case: case.kept),
    ("regeneration", "derived embedding: makes it", lambda case: case.numbers.regeneration, lambda case: case.returned),
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

Mean share of pictures, and how many erasures there were.

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
        bins=" | ".join(f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)),
        rule=" --- |" * (len(EDGES) - 1),
        rows="\n".join(_bin_row(f"{number}: {shown}", of, show, found) for number, shown, of, show in PANELS),
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
    shown = sum(map(question.shown, second)) / len(second) if second else 0.0
    rates = f"{precision(second, question, threshold)} | {recall(second, question, threshold)}"
    return f"| {question.name} | {question.number} | {threshold:.2f} | {rates} | {shown:.0%} |"


def _bin_row(name: str, of: Callable[[Case], float], shown: Callable[[Case], float], found: Sequence[Case]) -> str:
    cells = []
    for low, high in itertools.pairwise(EDGES):
        values = [shown(case) for case in found if low <= of(case) < high and shown(case) == shown(case)]
        cells.append(f"{sum(values) / len(values):.0%} of {len(values)}" if values else "–")
    return f"| {name} | {' | '.join(cells)} |"


def save_plot(found: Sequence[Case], path: Path) -> None:
    """A panel for each number, a colour for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(PANELS), 4.2), dpi=100, layout="constrained")
    for axes, (number, shown, of, show) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for method, marker in (("UCE", "o"), ("RECE", "^"), ("projection", "s")):
            points = [case for case in found if case.numbers.setting.startswith(method)]
            axes.plot([of(case) for case in points], [show(case) for case in points], marker, alpha=0.4, label=method)
        axes.set_xlabel(number)
        axes.set_ylabel(shown)
        axes.set_ylim(-0.05, 1.25)
    figure.axes[0].legend()
    figure.savefig(path)
