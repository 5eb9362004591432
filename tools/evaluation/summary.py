"""From rows of pictures to the numbers of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from rece_pack.rece_ops.measures.harmonic import overall_harmonic_mean
from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.chunks import Results


@dataclass(frozen=True)
class Line:
    """One erasure in the table.

    Attributes:
        name: of the erasure.
        rates: by prompt set: how many pictures show the concept, or, of the sets that should stay, all that they say.
        harmonic: H_o; None where a set for it is missing.
        change: mean absolute difference of the kept sets' pixels from the model as it is, 0 … 1; None for that itself.
        seconds, size: of the erasure; 0 for the model as it is.
    """

    name: str
    rates: Mapping[str, Rate]
    harmonic: float | None
    change: float | None
    seconds: float
    size: int


@dataclass(frozen=True)
class Columns:
    """What the prompt sets are for.

    Attributes:
        erased: sets whose pictures should not show the concept, in order.
        kept: sets whose pictures should show all that they say.
        harmonic: the concept's own prompts, those with synonyms, and the others, for H_o.
    """

    erased: tuple[str, ...]
    kept: tuple[str, ...]
    harmonic: tuple[str, str, str] | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Every set."""
        return (*self.erased, *self.kept)


def summarise(results: Results, erasures: Sequence[str], columns: Columns) -> list[Line]:
    """The table of what is in the results folder."""
    return [_line(results, name, columns, erasures[0]) for name in erasures]


def _line(results: Results, name: str, columns: Columns, unedited: str) -> Line:
    rates = {prompts: _rate(results.rows(name, prompts), prompts in columns.erased) for prompts in columns.all}
    noted = results.noted(f"erasure {name}")
    harmonic = None
    if columns.harmonic is not None and all(rates[one].trials for one in columns.harmonic):
        harmonic = overall_harmonic_mean(*(rates[one].share for one in columns.harmonic))
    change = None if name == unedited else _change(results, name, unedited, columns.kept)
    return Line(name, rates, harmonic, change, float(noted.get("seconds", 0)), int(noted.get("size", 0)))


def _rate(rows: Sequence[Mapping[str, Any]], erased: bool) -> Rate:
    found = [row["shown" if erased else "right"] for row in rows]
    return Rate.of(bool(one) for one in found if one is not None)


def _change(results: Results, name: str, unedited: str, sets: Sequence[str]) -> float | None:
    """How far the pictures of the same prompts and seeds lie apart."""
    found = []
    for prompts in sets:
        pairs = zip(results.rows(unedited, prompts), results.rows(name, prompts), strict=True)
        for before, after in pairs:
            one, other = (np.asarray(Image.open(results.folder / row["file"])).astype(float) for row in (before, after))
            found.append(float(np.abs(one - other).mean()) / 255)
    return sum(found) / len(found) if found else None
