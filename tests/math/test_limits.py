"""Limits: when the iteration stops, and how far the edit is weakened."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import Erasure, InputError, Limits, RECESettings, erase, iterate, keep_limits
from rece_pack.rece_ops.measures.outputs import concept_regenerations, derivations_of, drift

DIMENSION, TOKENS = 24, 4
TUNING = {f"tuning {i}": tokens for i, tokens in enumerate(prompts(3, TOKENS, DIMENSION, 99))}
seeds = st.integers(0, 10_000)


def erased(seed: int, **values: object) -> tuple[Erasure, Callable[[RECESettings], Erasure]]:
    concepts, preserve = pairs(2, TOKENS, DIMENSION, seed), prompts(2, TOKENS, DIMENSION, seed + 1)
    erasure = erase(stack(DIMENSION, seed=seed), concepts, preserve, RECESettings(**values))
    return erasure, lambda settings: iterate(erasure.gram, concepts, preserve, settings, preserve, {})


def drifts(erasure: Erasure) -> list[float]:
    return [max(drift(erasure.gram, eraser, tokens) for tokens in TUNING.values()) for eraser in erasure.erasers()]


@given(seeds)
def test_without_limits_nothing_changes(seed: int) -> None:
    erasure, again = erased(seed)
    kept = keep_limits(erasure, Limits(), TUNING, again)
    assert kept.erasure is erasure
    assert (kept.lowered_from, kept.stopped_after) == (None, None)
    assert torch.equal(again(erasure.settings).eraser.matrix(), erasure.eraser.matrix())


@given(seeds, st.integers(0, 2))
def test_an_epoch_that_exceeds_the_drift_is_not_taken(seed: int, last: int) -> None:
    erasure, again = erased(seed)
    path = drifts(erasure)
    # A little more than what those epochs reach: no rounding bound, but what tells one epoch from the next.
    budget = max(path[: last + 1]) * 1.0001
    expected = next((number for number, one in enumerate(path) if one > budget), len(path)) - 1
    kept = keep_limits(erasure, Limits(drift=budget), TUNING, again)
    assert len(kept.erasure.epochs) == kept.erasure.settings.epochs == expected
    assert torch.equal(kept.erasure.eraser.matrix(), erasure.eraser_at(expected).matrix())
    assert (kept.stopped_after is not None) == (expected < 3)


@given(seeds)
def test_an_edit_that_exceeds_the_drift_is_weakened_as_little_as_needed(seed: int) -> None:
    erasure, again = erased(seed, epochs=0)
    (whole,) = drifts(erasure)
    kept = keep_limits(erasure, Limits(drift=whole / 3), TUNING, again)
    assert max(drifts(kept.erasure)) <= whole / 3
    assert kept.lowered_from == 1.0
    # The scale is looked for to a sixteenth of a doubling; a thousandth more is beyond.
    stronger = again(RECESettings(epochs=0, erase_scale=kept.erasure.settings.erase_scale * 2 ** (1 / 16) * 1.001))
    assert max(drifts(stronger)) > whole / 3


@given(seeds, st.integers(0, 3))
def test_it_stops_when_no_derived_embedding_reaches_the_limit(seed: int, at: int) -> None:
    erasure, again = erased(seed)
    path = [max(concept_regenerations(erasure, eraser, derivations_of(erasure))) for eraser in erasure.erasers()]
    # The very number that is compared with it; where that is zero, any limit above.
    limit = max(path[at], 1e-9)
    expected = next(number for number, one in enumerate(path) if one <= limit)
    kept = keep_limits(erasure, Limits(regeneration=limit), TUNING, again)
    assert len(kept.erasure.epochs) == expected
    assert (kept.stopped_after is not None) == (expected < 3)


def test_a_drift_that_no_edit_keeps_is_refused() -> None:
    erasure, again = erased(0)
    with pytest.raises(InputError, match="Even the weakest edit"):
        keep_limits(erasure, Limits(drift=1e-12), TUNING, again)


@pytest.mark.parametrize("limit", [{"drift": -1.0}, {"regeneration": float("nan")}, {"drift": "much"}])
def test_limits_that_are_no_numbers_are_refused(limit: dict[str, object]) -> None:
    with pytest.raises(InputError, match="the limit of"):
        Limits(**limit)
