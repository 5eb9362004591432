"""Somebody else's numbers, to stand beside one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A row of somebody else's numbers.

    Attributes:
        name: of the method and who says it.
        cells: by the head of the column.
        source: of the numbers, and in what they were measured otherwise, in sentences.
    """

    name: str
    cells: Mapping[str, str]
    source: str
