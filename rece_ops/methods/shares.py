"""Which mixture of targets gives the shares of pictures that were asked for: UCE's debiasing (arXiv:2308.14761), section 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEP = 2.0
"""How far the logarithm of a share moves in the first round, for each unit that the pictures are off."""


class ShareSearch:
    """Moves the shares w of a mixture c* = Σ w_i a_i towards those that give the pictures asked for.

    UCE adds α_i ← α_i + s (wanted_i − seen_i), with a step that stays. What pictures show turns over within a small range of
    w, where such steps swing to and fro. So here it is log w_i ← log w_i + s_i (wanted_i − seen_i), which keeps shares above
    0, and s_i is halved whenever wanted_i − seen_i changes its sign (Kesten 1958).

    Attributes:
        wanted: shares of the pictures, which sum to 1.
        shares: w, which sum to 1; in the first round the same.
    """

    def __init__(self, wanted: Sequence[float]) -> None:
        self.wanted = tuple(one / sum(wanted) for one in wanted)
        self.shares = self.wanted
        self._steps = [STEP] * len(self.wanted)
        self._last = [0.0] * len(self.wanted)

    def off(self, seen: Sequence[float]) -> float:
        """By how much the share of a target differs most from what is wanted."""
        return max(abs(wanted - share) for wanted, share in zip(self.wanted, seen, strict=True))

    def move(self, seen: Sequence[float]) -> None:
        """Take the shares of the pictures of this round, and choose `shares` for the next."""
        errors = [wanted - share for wanted, share in zip(self.wanted, seen, strict=True)]
        self._steps = [
            step / 2 if error * last < 0 else step
            for step, error, last in zip(self._steps, errors, self._last, strict=True)
        ]
        self._last = [error or last for error, last in zip(errors, self._last, strict=True)]
        moved = [
            share * math.exp(step * error) for share, step, error in zip(self.shares, self._steps, errors, strict=True)
        ]
        self.shares = tuple(one / sum(moved) for one in moved)
