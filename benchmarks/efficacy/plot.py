"""The plot of the efficacy benchmark: what each setting still makes against what it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

from benchmarks.efficacy.records import ALL, GRID, Examples, Outcome
from benchmarks.erased_models import BETAS, TARGETED, UNEDITED, UNNAMED, changed_in_one_thing
from pocket_model.rates import Rate

ATTACKS: tuple[tuple[str, Callable[[Outcome], Rate]], ...] = (
    ("own prompts", lambda outcome: outcome.own),
    ("synonyms", lambda outcome: outcome.paraphrased + outcome.held_out),
    ("derived embeddings", lambda outcome: outcome.derived + outcome.derived_closer),
    ("concept vector", lambda outcome: outcome.vector),
)
_COLOURS = {
    "UCE": "#2c6fad",
    f"UCE {TARGETED}": "#7fb2dd",
    "RECE": "#c0392b",
    "RECE anchored": "#e08e0b",
    f"RECE anchored {TARGETED}": "#f4d03f",
    f"RECE {TARGETED}": "#e59b93",
    "projection": "#1e8449",
    f"projection {TARGETED}": "#58d68d",
}
# Shares that differ by less are one point to the eye.
_APART = 0.06
_GROUPS = {
    "own": "own prompts",
    "paraphrased": "synonyms",
    "held_out": "new to the UNet",
    "neighbours": "neighbour",
    "others": "everything else",
}


def save_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """A column an attack, a row without and one with other words preserved, each with a scale of its own for what is kept.

    One point a setting; those of a family are joined in their order (epochs, β).
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(20, 9), dpi=100, layout="constrained")
    rows = figure.subplots(2, len(ATTACKS), sharex=True, sharey="row")
    for panels, (preserved, kept) in zip(
        rows, ((False, "nothing preserved"), (True, "other words preserved")), strict=True
    ):
        for axes, (title, attack) in zip(panels, ATTACKS, strict=True):
            _draw_families(axes, [one for one in outcomes if one.preserved == preserved], attack)
            unedited = [outcome for outcome in outcomes if outcome.setting == UNEDITED]
            axes.axhline(_kept(unedited), color="grey", linewidth=0.8, label="unedited")
            axes.set_xlabel(f"{title}: concept made")
            axes.set_xlim(-0.03, 1.2)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        panels[0].set_ylabel(f"everything else kept, {kept}")
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path)


def _draw_families(axes: Any, outcomes: Sequence[Outcome], attack: Callable[[Outcome], Rate]) -> None:
    named: list[tuple[float, float]] = []
    for family, settings in _families(outcomes).items():
        points = [(_rate(chosen, attack), _kept(chosen)) for chosen in settings.values()]
        axes.plot(*zip(*points, strict=True), marker="o", color=_COLOURS[family], alpha=0.8, label=family)
        if len(points) > 1:
            _label(axes, settings, points, named)


def _label(
    axes: Any, names: Iterable[str], points: Iterable[tuple[float, float]], named: list[tuple[float, float]]
) -> None:
    """Name points, except those that lie on one of a panel's that has a name."""
    for name, point in zip(names, points, strict=True):
        if all(math.dist(point, other) > _APART for other in named):
            named.append(point)
            axes.annotate(name, point, textcoords="offset points", xytext=(5, 4), fontsize=8)


def save_grids(examples: Examples, path: Path) -> None:
    """One panel a concept: a row of pictures for each setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(24, 5 * math.ceil(len(examples) / 3)), dpi=100, layout="constrained")
    places = [(place, name) for name, count in GRID.items() for place in range(count)]
    for axes, (concept, rows) in zip(figure.subplots(4, 3).flat, examples.items(), strict=False):
        axes.imshow(torch.cat([torch.cat(list(row), dim=-1) for row in rows.values()], dim=-2).movedim(0, -1))
        side = next(iter(rows.values())).shape[-1]
        axes.set_title(concept)
        axes.set_yticks([(row + 0.5) * side for row in range(len(rows))], list(rows))
        # Each group of columns is named at its first.
        first = {_GROUPS[name]: (column + 0.5) * side for column, (place, name) in enumerate(places) if place == 0}
        axes.set_xticks(list(first.values()), list(first))
        axes.tick_params(length=0)
    figure.savefig(path)


def _families(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[Outcome]]]:
    """Outcomes of single concepts by family and, within it, by the number of epochs or β."""
    others = {setting.name for setting in changed_in_one_thing()} - {
        f"projection, β {beta:g}, {TARGETED}" for beta in BETAS
    }
    found: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        if outcome.concept.endswith(ALL) or outcome.setting in (UNEDITED, UNNAMED, *others):
            continue
        family, short = _named(outcome.setting)
        found.setdefault(family, {}).setdefault(short, []).append(outcome)
    return found


def _named(setting: str) -> tuple[str, str]:
    name, *details = setting.split(", ")
    variants = [detail for detail in details if detail in ("anchored", TARGETED)]
    return " ".join([name, *variants]), "".join(detail for detail in details if detail not in variants)


def _rate(outcomes: Sequence[Outcome], of: Callable[[Outcome], Rate]) -> float:
    return reduce(add, map(of, outcomes)).share


def _kept(outcomes: Sequence[Outcome]) -> float:
    return _rate(outcomes, lambda outcome: outcome.others + outcome.neighbours)
