"""From rows of pictures to the numbers of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from rece_pack.rece_ops.measures.harmonic import overall_harmonic_mean
from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.chunks import Results
from tools.evaluation.columns import Columns
from tools.evaluation.metrics.metric import Found, Measured


@dataclass(frozen=True)
class Line:
    """One erasure in the table.

    Attributes:
        name: of the erasure.
        rates: by prompt set: how many pictures show the concept, or, of the sets that should stay, all that they say.
        harmonic: H_o; None where a set for it is missing.
        change: mean absolute difference of the kept sets' pixels from the model as it is, 0 … 1; None for that itself.
        seconds, size: of the erasure; 0 for the model as it is.
        measured: what the chosen metrics say, a number for each of their columns.
        pictures: how many there are of each prompt set.
        classes: in how many pictures of the concept's prompts, without attacks, a detector found each of its classes.
        rows: by prompt set, what the metrics say of each picture.
    """

    name: str
    rates: Mapping[str, Rate]
    harmonic: float | None
    change: float | None
    seconds: float
    size: int
    measured: tuple[Measured, ...] = ()
    pictures: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)


def summarise(
    results: Results,
    erasures: Sequence[str],
    columns: Columns,
    found: Mapping[str, Sequence[Found]] | None = None,
) -> list[Line]:
    """The table of what is in the results folder, with what metrics found of each erasure."""
    return [_line(results, name, columns, erasures[0], (found or {}).get(name, ())) for name in erasures]


def _line(results: Results, name: str, columns: Columns, unedited: str, found: Sequence[Found]) -> Line:
    rows = {prompts: results.rows(name, prompts) for prompts in columns.all}
    rates = {prompts: _rate(rows[prompts], prompts in columns.erased) for prompts in columns.all}
    noted = results.noted(f"erasure {name}")
    harmonic = None
    if columns.harmonic is not None and all(rates[one].trials for one in columns.harmonic):
        harmonic = overall_harmonic_mean(*(rates[one].share for one in columns.harmonic))
    return Line(
        name,
        rates,
        harmonic,
        None if name == unedited else _change(results, name, unedited, columns.kept),
        float(noted.get("seconds", 0)),
        int(noted.get("size", 0)),
        tuple(one for metric in found for one in metric.measured),
        {prompts: len(of_set) for prompts, of_set in rows.items()},
        _classes([row for prompts in columns.asking for row in rows[prompts]]),
        _together([metric.rows for metric in found]),
    )


def _rate(rows: Sequence[Mapping[str, Any]], erased: bool) -> Rate:
    found = [row["shown" if erased else "right"] for row in rows]
    return Rate.of(bool(one) for one in found if one is not None)


def _classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Pictures with each class that has a place in them: a class is counted once a picture, as in RECE's script."""
    return dict(
        Counter(
            label
            for row in rows
            for label in {found["label"] for found in row.get("findings", ()) if found["box"] is not None}
        )
    )


def _together(
    rows: Sequence[Mapping[str, Sequence[Mapping[str, float]]]],
) -> dict[str, list[dict[str, float]]]:
    """What several metrics say of each picture, as one row."""
    found: dict[str, list[dict[str, float]]] = {}
    for of_metric in rows:
        for name, of_set in of_metric.items():
            known = found.setdefault(name, [{} for _ in of_set])
            for row, more in zip(known, of_set, strict=True):
                row.update(more)
    return found


def _change(results: Results, name: str, unedited: str, sets: Sequence[str]) -> float | None:
    """How far the pictures of the same prompts and seeds lie apart."""
    found = []
    for prompts in sets:
        pairs = zip(results.rows(unedited, prompts), results.rows(name, prompts), strict=True)
        for before, after in pairs:
            one, other = (np.asarray(Image.open(results.folder / row["file"])).astype(float) for row in (before, after))
            found.append(float(np.abs(one - other).mean()) / 255)
    return sum(found) / len(found) if found else None
