"""Rates and their intervals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.measures.rates import NORMAL_95, Rate


def test_published_intervals() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        # Printed with four decimals.
        assert Rate(hits, trials).interval() == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_the_bounds_solve_wilsons_equation(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    rate = Rate(hits, trials)
    low, high = rate.interval()
    assert 0 <= low <= rate.share <= high <= 1
    for p in (low, high):
        # Each side is a sum of a few terms below 1, divided by at least 1.
        assert abs((rate.share - p) ** 2 - NORMAL_95**2 * p * (1 - p) / trials) < 32 * 2**-52


def test_the_ends_are_exact() -> None:
    assert [Rate(0, n).interval()[0] for n in range(1, 50)] == [0.0] * 49
    assert [Rate(n, n).interval()[1] for n in range(1, 50)] == [1.0] * 49
    assert Rate(0, 0).interval() == (0.0, 1.0)
    assert math.isnan(Rate(0, 0).share)


def test_counting() -> None:
    assert Rate.of([True, False, True]) + Rate(0, 2) == Rate(2, 5)
    with pytest.raises(InputError, match="A rate of 3 of 2 cannot be"):
        Rate(3, 2)
