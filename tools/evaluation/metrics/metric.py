"""What a metric is: a few columns of the table for an erasure, and where it looks at single pictures, a number for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tools.evaluation.chunks import Results, read_json, save_text
from tools.evaluation.columns import Columns


@dataclass(frozen=True)
class Measured:
    """One number of an erasure.

    Attributes:
        head: of its column, with an arrow to where it is better.
        value: None where there is nothing to measure, as between the model as it is and itself.
        spread: the standard error of a mean; of KID, the standard deviation over its subsets; None without either.
        pictures: that the number is of.
        against: how many others they were compared with, where that is another number.
        digits: after the point.
    """

    head: str
    value: float | None
    spread: float | None = None
    pictures: int = 0
    against: int = 0
    digits: int = 3

    @classmethod
    def mean(cls, head: str, values: Sequence[float], digits: int = 3) -> Measured:
        """Of numbers of single pictures, with its standard error."""
        from rece_pack.rece_ops.measures.means import mean_with_error

        if not values:
            return cls(head, None, digits=digits)
        mean, error = mean_with_error(values)
        return cls(head, mean, error, len(values), digits=digits)

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        spread = "" if self.spread is None else f" ± {self.spread:.{self.digits}f}"
        against = f" against {self.against}" if self.against else ""
        return f"{self.value:.{self.digits}f}{spread} (n {self.pictures}{against})"


@dataclass(frozen=True)
class Found:
    """What a metric says of an erasure.

    Attributes:
        measured: one for each of its columns.
        rows: by prompt set, a number for each picture, by what it is called in rows.csv.
    """

    measured: tuple[Measured, ...]
    rows: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """What is going to be measured, known before any picture is made.

    Attributes:
        columns: what the sets are for.
        counts: prompts of each set.
        side: the shortest of any picture, in pixels; 0 where it is not known.
    """

    columns: Columns
    counts: Mapping[str, int]
    side: int = 0

    @classmethod
    def of(cls, columns: Columns, sets: Mapping[str, Any]) -> Planned:
        """Of a subject's sets. Prompts from files say how large their pictures become."""
        captions = [caption for prompts in sets.values() for caption in prompts.captions]
        sides = [side for one in captions for side in (getattr(one, "width", 0), getattr(one, "height", 0)) if side]
        return cls(columns, {name: len(prompts.captions) for name, prompts in sets.items()}, min(sides, default=0))

    def pictures(self, names: Sequence[str]) -> int:
        """How many pictures of an erasure these sets have."""
        return sum(self.counts[name] for name in names)


class Metric(Protocol):
    """A metric with its network.

    Attributes:
        name: as on the command line.
        says: what its columns are, in sentences.
    """

    name: str
    says: str

    def check(self, planned: Planned) -> None:
        """Raise InputError where it could not say anything of what is planned."""

    def of(self, results: Results, erasure: str, unedited: str, columns: Columns) -> Found:
        """Of an erasure whose pictures, and those of the model as it is, are all there."""


def kept_numbers(
    chunk: Path, name: str, source: Sequence[Any], count: int, numbers: Callable[[], list[float]]
) -> list[float]:
    """A number for each of a chunk's pictures, from the chunk's folder where they were found before.

    Args:
        name: of the file.
        source: what else the numbers depend on, as plain JSON values.
        count: of the pictures.
        numbers: finds them.
    """
    known = read_json(chunk / f"{name}.json") or {}
    if known.get("of") == list(source) and len(known.get("values", ())) == count:
        return [float(one) for one in known["values"]]
    found = numbers()
    save_text(chunk / f"{name}.json", json.dumps({"of": list(source), "values": found}, ensure_ascii=False))
    return found
