"""H_o of an erasure."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.measures.harmonic import overall_harmonic_mean

SHARE = st.floats(0.01, 0.99)


@given(SHARE, SHARE, SHARE)
def test_it_is_a_harmonic_mean(own: float, synonyms: float, others: float) -> None:
    expected = statistics.harmonic_mean([1 - own, 1 - synonyms, others])
    # Three quotients of at most 100, a sum and a quotient.
    assert overall_harmonic_mean(own, synonyms, others) == pytest.approx(expected, rel=16 * 2**-53)


def test_its_ends() -> None:
    assert overall_harmonic_mean(0, 0, 1) == 1
    assert overall_harmonic_mean(1, 0, 1) == overall_harmonic_mean(0, 1, 1) == overall_harmonic_mean(0, 0, 0) == 0
    with pytest.raises(InputError, match="needs shares from 0 to 1"):
        overall_harmonic_mean(1.5, 0, 0)
