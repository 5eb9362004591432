"""What a soak counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Memory:
    """Of the server: resident bytes, those of them that malloc has given out, and the blocks of Python's own allocator."""

    resident: int
    in_use: int
    blocks: int


@dataclass
class Life:
    """One server from start to end: how it ended, and its memory after every graph.

    Attributes:
        trimmed: its memory at the end, after free memory went back to the system; None where it was killed.
    """

    number: int
    ending: str = "not answering"
    memory: list[Memory] = field(default_factory=list)
    trimmed: Memory | None = None


@dataclass
class Soak:
    """What happened so far.

    Attributes:
        outcomes: how often graphs of each kind ended in each way.
        longest: seconds that a graph of each kind took at most.
        lives: of the server.
        host_alone: a life of the host without the pack, to compare its memory with.
        failures: sentences about what did not hold.
        files: what each saved file may name as concepts; several where a save was cut off.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    longest: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    lives: list[Life] = field(default_factory=list)
    host_alone: Life | None = None
    failures: list[str] = field(default_factory=list)
    files: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    aged: int = 0
    compared: int = 0
    seconds: float = 0.0
