"""The plot of the audit: a column a measurement, a row a method, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocket_model.rates import Rate

# What an erasure should bring down, and what it should leave.
_GONE, _KEPT = "#c0392b", "#2c6fad"


def save_plot(rows: Mapping[str, Sequence[Rate]], columns: Mapping[str, bool], path: Path) -> None:
    """One point a row and column where there are pictures.

    Args:
        rows: the rates of each, one a column.
        columns: whether what is measured is to stay, by its title.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(columns) + 4, 0.36 * len(rows) + 1.6), dpi=100, layout="constrained")
    panels = zip(
        figure.subplots(1, len(columns), sharey=True), columns.items(), zip(*rows.values(), strict=True), strict=True
    )
    for axes, (title, stays), rates in panels:
        _draw(axes, rates, _KEPT if stays else _GONE)
        axes.set_title(title, fontsize=10)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(
        "share of pictures with its 95 % interval: red should be low, blue high; in brackets: concepts", fontsize=10
    )
    figure.savefig(path)


def _draw(axes: Any, rates: Sequence[Rate], colour: str) -> None:
    from matplotlib.ticker import PercentFormatter

    for place, one in enumerate(rates):
        if one.trials:
            axes.plot(one.interval(), (place, place), color=colour, linewidth=2, alpha=0.45)
            axes.plot(one.share, place, "o", color=colour, markersize=5)
    axes.set_xlim(-0.05, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="both", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)
