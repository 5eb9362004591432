"""What each erasure leaves of the concept against what it costs, and which of them no other beats in both."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.columns import Columns
from tools.evaluation.summary import Line


@dataclass(frozen=True)
class Point:
    """One erasure.

    Attributes:
        name: of the erasure.
        left: share of the pictures of all sets that should not show the concept which do, 0 … 1.
        price: share of the pictures of the kept sets which do not show all that their prompts say; where nothing tells
            that, the mean difference of their pixels from the unedited model's. 0 … 1.
    """

    name: str
    left: float
    price: float

    def beats(self, other: Point) -> bool:
        """At least as good in both, and better in one."""
        mine, its = (self.left, self.price), (other.left, other.price)
        return all(one <= two for one, two in zip(mine, its, strict=True)) and mine != its


def points(lines: Sequence[Line], columns: Columns) -> list[Point]:
    """Of every line that says both, with prices of one kind."""
    judged, found = is_judged(lines, columns), []
    for line in lines:
        left, kept = _together(line, columns.erased), _together(line, columns.kept)
        price = line.change if not judged else 1 - kept.share if kept.trials else None
        if left.trials and price is not None:
            found.append(Point(line.name, left.share, price))
    return found


def front(found: Sequence[Point]) -> list[Point]:
    """The points that no other beats, from the least that is left on."""
    best = [one for one in found if not any(other.beats(one) for other in found)]
    return sorted(best, key=lambda one: (one.left, one.price))


def save_plot(path: Path, found: Sequence[Point], judged: bool) -> None:
    """A point for each erasure, and a line through the front."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    axes = figure.subplots()
    best = front(found)
    axes.plot([one.price for one in best], [one.left for one in best], color="#2c6fad", alpha=0.5)
    for one in found:
        axes.plot(one.price, one.left, marker="o", color="#2c6fad" if one in best else "#999999")
        name = one.name.replace("$", r"\$")
        axes.annotate(name, (one.price, one.left), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xlabel("of what should stay: comes out wrong" if judged else "of what should stay: mean change of pixels")
    axes.set_ylabel("concept still made, over all sets")
    # Both are shares, of which prices are often small.
    axes.set_xlim(-0.01, min(1.05, 0.05 + 1.2 * max((one.price for one in found), default=0.0)))
    axes.set_ylim(-0.03, 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    path.write_bytes(picture.getvalue())


def is_judged(lines: Sequence[Line], columns: Columns) -> bool:
    """Whether something says of the kept sets' pictures if they are right."""
    return any(_together(line, columns.kept).trials for line in lines)


def _together(line: Line, names: Sequence[str]) -> Rate:
    return reduce(add, (line.rates[name] for name in names), Rate(0, 0))
