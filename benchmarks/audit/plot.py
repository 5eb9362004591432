"""The plot of the audit: a column a measurement, a row a method, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pocket_model.rates import Rate

# What an erasure should bring down, and what it should leave.
_GONE, _KEPT = "#c0392b", "#2c6fad"


def save_plot(
    methods: Mapping[str, int],
    columns: Sequence[tuple[str, Callable[[str], Rate], bool]],
    path: Path,
) -> None:
    """One point a method and column where there are pictures.

    Args:
        methods: of how many concepts each was measured.
        columns: a title, the rate of a method, and whether it is of what should stay.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure

    names = [f"{method} ({count})" for method, count in methods.items()]
    figure = Figure(figsize=(2.6 * len(columns) + 4, 0.36 * len(names) + 1.6), dpi=100, layout="constrained")
    for axes, (title, rate, stays) in zip(figure.subplots(1, len(columns), sharey=True), columns, strict=True):
        found = [(place, rate(method)) for place, method in enumerate(methods)]
        _draw(axes, [(place, one) for place, one in found if one.trials], _KEPT if stays else _GONE)
        axes.set_title(title, fontsize=10)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        "share of pictures with its 95 % interval: red should be low, blue high; in brackets: concepts", fontsize=10
    )
    figure.savefig(path)


def _draw(axes: Any, found: Sequence[tuple[int, Rate]], colour: str) -> None:
    from matplotlib.ticker import PercentFormatter

    for place, one in found:
        axes.plot(one.interval(), (place, place), color=colour, linewidth=2, alpha=0.45)
        axes.plot(one.share, place, "o", color=colour, markersize=5)
    axes.set_xlim(-0.05, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="both", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)
