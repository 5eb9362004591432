"""The search for the mixture whose pictures have the shares that were asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from rece_pack.rece_ops.methods.shares import ShareSearch


def turned(shares: Sequence[float], middles: Sequence[float], steepness: float) -> list[float]:
    """What pictures of a mixture show: a softmax, which turns over where each share is in the middle."""
    sizes = [math.exp(steepness * (share - middle)) for share, middle in zip(shares, middles, strict=True)]
    return [size / sum(sizes) for size in sizes]


@pytest.mark.parametrize(
    ("wanted", "middles", "steepness"),
    [
        ((1, 1), (0.5, 0.5), 8),
        ((1, 1), (0.2, 0.8), 8),
        ((3, 1), (0.35, 0.65), 12),
        ((1, 1), (0.8, 0.2), 16),
        ((1, 1, 2), (0.3, 0.2, 0.5), 8),
        ((1, 1, 1, 1), (0.4, 0.3, 0.2, 0.1), 8),
    ],
)
def test_the_shares_asked_for_are_found(wanted: tuple[int, ...], middles: tuple[float, ...], steepness: float) -> None:
    search = ShareSearch(wanted)
    for _ in range(30):
        seen = turned(search.shares, middles, steepness)
        if search.off(seen) < 0.02:
            break
        search.move(seen)
    assert search.off(turned(search.shares, middles, steepness)) < 0.02
    assert math.isclose(sum(search.shares), 1)
    assert min(search.shares) > 0


def test_it_begins_with_what_is_wanted_and_stays_where_the_pictures_agree() -> None:
    search = ShareSearch((3, 1))
    assert search.shares == (0.75, 0.25)
    assert search.off((0.5, 0.5)) == 0.25
    search.move((0.75, 0.25))
    assert search.shares == pytest.approx((0.75, 0.25))


def test_pictures_that_turn_over_all_at_once_are_met_in_the_middle() -> None:
    """Steps of one size would swing for ever."""
    search = ShareSearch((1, 1))
    tried = []
    for _ in range(12):
        tried.append(search.shares[0])
        search.move((1.0, 0.0) if search.shares[0] > 0.3 else (0.0, 1.0))
    assert abs(tried[-1] - tried[-2]) < 0.03
    assert tried[-1] == pytest.approx(0.3, abs=0.03)
