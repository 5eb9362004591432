"""How often something happened, with the interval that the true rate lies in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Rate:
    """`hits` of `trials`."""

    hits: int
    trials: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """Count outcomes."""
        found = list(outcomes)
        return cls(sum(found), len(found))

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.hits + other.hits, self.trials + other.trials)

    @property
    def share(self) -> float:
        """hits / trials, NaN without trials."""
        return self.hits / self.trials if self.trials else math.nan

    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval (Wilson 1927)."""
        if not self.trials:
            return 0.0, 1.0
        n, p, z = self.trials, self.share, NORMAL_95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        if not self.trials:
            return "–"
        low, high = self.interval()
        return f"{self.share:.0%} ({low:.0%}–{high:.0%})"
