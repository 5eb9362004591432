"""What a soak counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Life:
    """One server from start to end: how it ended, and its resident bytes after every graph."""

    number: int
    ending: str = "not answering"
    resident: list[int] = field(default_factory=list)


@dataclass
class Soak:
    """What happened so far.

    Attributes:
        outcomes: how often graphs of each kind ended in each way.
        lives: of the server.
        failures: sentences about what did not hold.
        files: what each saved file may name as concepts; several where a save was cut off.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    lives: list[Life] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    files: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    aged: int = 0
    compared: int = 0
    seconds: float = 0.0
