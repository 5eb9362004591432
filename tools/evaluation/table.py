"""The table: in Markdown, cell by cell for the page, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.columns import Columns
from tools.evaluation.metrics.metric import Measured
from tools.evaluation.published import Published
from tools.evaluation.summary import Line

NAME, CHANGE, HARMONIC, SECONDS, SIZE = "erasure", "change ↓", "H_o ↑", "seconds", "size"
NO_SOURCE = "no source"
"""In a published row, where this repository has no number that it could say the source of."""


@dataclass(frozen=True)
class Told:
    """What is said around the table.

    Attributes:
        title: of the page.
        notes: sentences under the table, what its columns are.
        published: rows to compare with.
    """

    title: str
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = field(default=())


def shown(rate: Rate) -> str:
    """As in '38% (15–65)', in percent with its 95 % interval."""
    if not rate.trials:
        return "–"
    low, high = rate.interval()
    return f"{rate.share:.0%} ({100 * low:.0f}–{100 * high:.0f})"


def heads(lines: Sequence[Line], columns: Columns) -> list[str]:
    """Of all columns."""
    gone = [f"{name} ↓" for name in columns.erased]
    kept = [f"{name} ↑" for name in columns.kept]
    measured = [one.head for one in lines[0].measured] if lines else []
    return [NAME, *gone, *kept, CHANGE, *measured, HARMONIC, SECONDS, SIZE]


def cells(line: Line, columns: Columns) -> list[str]:
    """Of an erasure's row."""
    harmonic = "–" if line.harmonic is None else f"{line.harmonic:.0%}"
    change = "–" if line.change is None else f"{line.change:.1%}"
    cost = [f"{line.seconds:.1f}", f"{line.size / 2**20:.1f} MiB"] if line.size else ["–", "–"]
    measured = [str(one) for one in line.measured]
    return [line.name, *(shown(line.rates[name]) for name in columns.all), change, *measured, harmonic, *cost]


def rows(lines: Sequence[Line], columns: Columns, published: Sequence[Published]) -> list[list[str]]:
    """Of all erasures, and those to compare with."""
    named = heads(lines, columns)
    foreign = [[one.name, *(one.cells.get(head, NO_SOURCE) for head in named[1:])] for one in published]
    return [*(cells(line, columns) for line in lines), *foreign]


def notes(lines: Sequence[Line], columns: Columns, told: Told) -> list[str]:
    """What a reader needs to know of the numbers: how many pictures, what the metrics are, where others are from."""
    counts = {name: max((line.pictures.get(name, 0) for line in lines), default=0) for name in columns.all}
    sizes = "Pictures of each erasure: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + "."
    return [sizes, *told.notes, *dict.fromkeys(f"{one.name}: {one.source}" for one in told.published)]


def by_class(lines: Sequence[Line]) -> list[list[str]]:
    """A row for each class that a detector found, with the number of pictures that have it; empty where none finds classes."""
    labels = sorted({label for line in lines for label in line.classes})
    if not labels:
        return []
    counted = [[label, *(str(line.classes.get(label, 0)) for line in lines)] for label in labels]
    return [["class", *(line.name for line in lines)], *counted]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table whose first row are its heads."""
    ruled = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in ruled)


def record(lines: Sequence[Line], columns: Columns, told: Told) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "title": told.title,
        "erased": list(columns.erased),
        "kept": list(columns.kept),
        "erasures": [_line_record(line) for line in lines],
        "published": [{"name": one.name, "cells": dict(one.cells), "source": one.source} for one in told.published],
        "notes": notes(lines, columns, told),
    }


def _line_record(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "rates": {
            name: {"hits": rate.hits, "pictures": rate.trials, "interval": list(rate.interval())}
            for name, rate in line.rates.items()
        },
        "pictures": dict(line.pictures),
        "classes": dict(line.classes),
        "change": line.change,
        "harmonic": line.harmonic,
        "metrics": {one.head.rstrip(" ↑↓"): _measured_record(one) for one in line.measured},
        "seconds": line.seconds,
        "bytes": line.size,
    }


def _measured_record(one: Measured) -> dict[str, Any]:
    return {"value": one.value, "spread": one.spread, "pictures": one.pictures, "against": one.against or None}
