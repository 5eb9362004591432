"""How often something happened, and the interval that the true rate lies in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InputError

NORMAL_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


@dataclass(frozen=True)
class Rate:
    """`hits` of `trials`.

    Raises:
        InputError: there are more hits than trials, or a number is negative.
    """

    hits: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials:
            raise InputError(f"A rate of {self.hits} of {self.trials} cannot be: count again.")

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """Count outcomes."""
        found = list(outcomes)
        return cls(sum(map(bool, found)), len(found))

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.hits + other.hits, self.trials + other.trials)

    @property
    def share(self) -> float:
        """hits / trials, NaN without trials."""
        return self.hits / self.trials if self.trials else math.nan

    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval (Wilson 1927): the p with |hits/trials − p| ≤ z √(p(1 − p)/trials)."""
        if not self.trials:
            return 0.0, 1.0
        n, p, z = self.trials, self.share, NORMAL_95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        # Rounding alone would leave 1e-17 where the bound is exact.
        low = 0.0 if self.hits == 0 else centre - half
        high = 1.0 if self.hits == n else centre + half
        return low, high
