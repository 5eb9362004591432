"""Which mixture of targets gives the shares of pictures that were asked for: UCE's debiasing (arXiv:2308.14761), section 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEP = 2.0
"""How far the logarithm of a share moves for each unit that the pictures are off."""


class ShareSearch:
    """Moves the shares w of a mixture c* = Σ w_i a_i towards those that give the pictures asked for.

    UCE adds α_i ← α_i + s (wanted_i − seen_i), with a step that stays. What pictures show turns over within a small range of
    w, where such steps swing to and fro. So here it is log w_i ← log w_i + s (wanted_i − seen_i), which keeps shares above
    0. Where that leads past a share that was tried and found too large or too small, it goes half-way there instead: for two
    targets, bisection.

    Attributes:
        wanted: shares of the pictures, which sum to 1.
        shares: w, which sum to 1; in the first round the same.
    """

    def __init__(self, wanted: Sequence[float]) -> None:
        self.wanted = tuple(one / sum(wanted) for one in wanted)
        self.shares = self.wanted
        self._too_small = [-math.inf] * len(self.wanted)
        self._too_large = [math.inf] * len(self.wanted)

    def off(self, seen: Sequence[float]) -> float:
        """By how much the share of a target differs most from what is wanted."""
        return max(abs(wanted - share) for wanted, share in zip(self.wanted, seen, strict=True))

    def move(self, seen: Sequence[float]) -> None:
        """Take the shares of the pictures of this round, and choose `shares` for the next."""
        errors = [wanted - share for wanted, share in zip(self.wanted, seen, strict=True)]
        for place, error in enumerate(errors):
            self._bound(place, error)
        moved = _normalized([math.log(share) + STEP * error for share, error in zip(self.shares, errors, strict=True)])
        self.shares = tuple(map(math.exp, _normalized([self._within(place, one) for place, one in enumerate(moved)])))

    def _bound(self, place: int, error: float) -> None:
        """Note that the share in that place is too small or too large; older bounds that contradict it are forgotten."""
        tried = math.log(self.shares[place])
        if error > 0:
            self._too_small[place] = tried
            self._too_large[place] = self._too_large[place] if self._too_large[place] > tried else math.inf
        elif error < 0:
            self._too_large[place] = tried
            self._too_small[place] = self._too_small[place] if self._too_small[place] < tried else -math.inf

    def _within(self, place: int, proposed: float) -> float:
        low, high = self._too_small[place], self._too_large[place]
        if low < proposed < high:
            return proposed
        tried = math.log(self.shares[place])
        passed = low if proposed <= low else high
        return (tried + passed) / 2 if math.isfinite(passed) else proposed


def _normalized(logarithms: Sequence[float]) -> list[float]:
    total = math.log(sum(map(math.exp, logarithms)))
    return [one - total for one in logarithms]
