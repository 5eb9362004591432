"""Numbers at the ends of what dtypes hold: clear errors or right results, never NaN, infinity or a raw LinAlgError."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from bounds import Rounded, assert_same_up_to, gamma, projection_rounding, unit
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import (
    Eraser,
    Erasure,
    InputError,
    NumericalError,
    Projection,
    RECESettings,
    WeightMoments,
    erase,
    lora_factors,
    measure,
    project,
    regenerate,
    relative_changes,
)
from rece_pack.rece_ops.linear.finite import balanced, check_change, is_finite, product_bound
from rece_pack.rece_ops.settings import check_strength
from torch import Tensor

DIMENSION, TOKENS = 32, 5
LARGEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), "1", None, True])
def test_a_strength_that_is_no_finite_number_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match=f"^strength_first is {bad!r}: give a finite number"):
        check_strength(bad, "strength_first")
    with pytest.raises(InputError, match=f"^strength is {bad!r}: give a finite number"):
        Eraser.identity(4).scaled(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_factors_that_are_not_finite_are_refused(bad: float, place: int) -> None:
    factors = [torch.zeros(8, 2), torch.zeros(2, 8)]
    factors[place][1, 1] = bad
    with pytest.raises(InputError, match="This eraser holds NaN or infinite values: lower the strength"):
        Eraser(*factors)


@pytest.mark.parametrize("rank", [1, 7], ids=["thin", "dense"])
def test_finite_factors_with_a_product_beyond_the_dtype_are_refused(rank: int) -> None:
    with pytest.raises(
        InputError, match=r"This eraser changes numbers by up to .*e\+40, where 3.4e\+38 is the largest"
    ):
        Eraser(torch.full((8, rank), 1e20), torch.full((rank, 8), 1e20))
    # In float64 there is room for it.
    wide = Eraser(torch.full((8, rank), 1e20).double(), torch.full((rank, 8), 1e20).double())
    with pytest.raises(InputError, match="This eraser"):
        wide.to(dtype=torch.float32)


def test_a_product_that_only_the_bound_takes_for_too_large_is_taken() -> None:
    """Large numbers that meet zeros: the bound of the norms does not settle it, the product itself does."""
    left, right = torch.zeros(8, 2), torch.zeros(2, 8)
    left[:, 0], right[1] = 1e30, 1e30
    right[0, 0] = 1e-30
    assert product_bound(left.double(), right.double()) > LARGEST
    assert Eraser(left, right).rank == 2


def test_a_strength_that_makes_it_infinite_is_named() -> None:
    eraser = Eraser(torch.full((8, 1), 1e19), torch.full((1, 8), 1e19))
    eraser.scaled(2.0)
    with pytest.raises(InputError, match=r"The eraser at strength 5 changes numbers by up to 5.0e\+38"):
        eraser.scaled(5.0)
    with pytest.raises(InputError, match=r"The eraser at strength 1e\+300 holds NaN or infinite values"):
        eraser.scaled(1e300)


@pytest.mark.parametrize("rank", [2, 8], ids=["thin", "dense"])
def test_an_eraser_combined_with_itself_again_and_again_is_refused_before_it_overflows(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    eraser = Eraser(torch.randn(12, rank, generator=generator) * 3, torch.randn(rank, 12, generator=generator))

    def combined(times: int) -> Eraser:
        found = eraser
        for _ in range(times):
            strong = found.scaled(2.0)
            found = strong @ strong
            assert found.matrix().isfinite().all()
        return found

    combined(2)
    with pytest.raises(InputError, match="This eraser"):
        combined(20)


@given(st.integers(0, 1000), st.integers(0, 6), st.floats(-10, 10))
def test_the_bound_holds_for_every_entry(seed: int, rank: int, power: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(5, rank, generator=generator, dtype=torch.float64) * 10**power
    right = torch.randn(rank, 7, generator=generator, dtype=torch.float64)
    # A norm is a root of a sum of squares, and each of these numbers is a sum of its own.
    rounding = 4 * gamma(7 + 2)
    largest = float((left.abs() @ right.abs()).max())
    found = float((left @ right).abs().max())
    assert found <= product_bound(left, right) * (1 + rounding)
    assert product_bound(left.abs(), right.abs()) * (1 + rounding) >= largest


@pytest.mark.filterwarnings("error")
def test_weights_that_are_being_trained_are_looked_at_without_a_warning() -> None:
    left, right = torch.ones(3, 2, requires_grad=True), torch.ones(2, 4, requires_grad=True)
    # Both norms are roots of 2; a root and a product round, and so does the root of two squares.
    assert abs(product_bound(left, right) - 2.0) <= 2.0 * 4 * unit(torch.float32)


@given(st.integers(0, 1000), st.floats(-200, 200), st.floats(-200, 200))
def test_balancing_rounds_nothing(seed: int, one: float, other: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(5, 2, generator=generator, dtype=torch.float64) * 2.0**one
    right = torch.randn(2, 7, generator=generator, dtype=torch.float64) * 2.0**other
    found = balanced(left, right)
    assert torch.equal(found[0] @ found[1], left @ right)
    ratio = float(found[0].abs().max() / found[1].abs().max())
    assert 0.5 <= ratio <= 2


def test_nothing_to_balance_stays() -> None:
    for left, right in ((torch.zeros(4, 0), torch.zeros(0, 4)), (torch.zeros(4, 1), torch.ones(1, 4))):
        assert balanced(left, right) == (left, right)
        check_change(left, right, "This")


def test_finite_is_told_from_not() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        assert not is_finite(torch.tensor([[0.0, bad]]))
    assert is_finite(torch.zeros(0, 3))
    assert is_finite(torch.tensor([LARGEST, -LARGEST]))


EXTREMES = {
    "zero": lambda weight: weight * 0,
    "zero but one": None,
    "large": lambda weight: weight.float() * 1e37,
    "largest": lambda weight: weight.sign().float() * 1e37,
    "small": lambda weight: weight.float() * 1e-37,
    "smallest": lambda weight: weight.float() * 1e-44,
    "half": lambda weight: (weight.sign() * (0.5 + weight.abs() / 10).clamp(max=1) * 65504).half(),
    "beyond float64": lambda weight: weight * 1e200,
    "below float64": lambda weight: weight * 1e-200,
}


def extreme(name: str) -> dict[str, Tensor]:
    weights = stack(DIMENSION)
    if EXTREMES[name] is None:
        return {key: weight * (key == "layer1") for key, weight in weights.items()}
    return {key: EXTREMES[name](weight) for key, weight in weights.items()}


def erasing(method: str, weights: dict[str, Tensor], regularization: float) -> Erasure | Projection:
    concepts, preserve = pairs(2, TOKENS, DIMENSION), prompts(12, TOKENS, DIMENSION, 9)
    if method == "projection":
        return project(weights, concepts, preserve)
    settings = RECESettings(epochs=2, anchored=method == "anchored", regularization=regularization)
    return erase(weights, concepts, preserve, settings)


@pytest.mark.parametrize("method", ["RECE", "anchored", "projection"])
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("regularization", [0.1, 1e6])
def test_extreme_weights_give_finite_numbers_or_a_sentence(method: str, name: str, regularization: float) -> None:
    weights, kept, sentence = extreme(name), prompts(1, TOKENS, DIMENSION, 9)[0], ""
    try:
        erasure = erasing(method, weights, regularization)
        found = measure(erasure, {"kept": kept}, {"neutral": kept})
    except (InputError, NumericalError) as error:
        sentence = str(error)
    if sentence:
        assert "'regularization'" in sentence or "they are all zero, or far beyond" in sentence
        return
    numbers = [found.total_change, *found.drift.values(), *found.conditions.values()]
    numbers += [number for one in found.concepts for number in (one.residual, one.distance, *one.regeneration)]
    numbers += relative_changes(weights, erasure.eraser).values()
    assert all(map(math.isfinite, numbers)), numbers
    single = erasure.eraser.to(dtype=torch.float32)
    for weight in weights.values():
        assert all(is_finite(factor) for factor in lora_factors(weight, single))


@pytest.mark.parametrize("name", ["zero", "below float64", "beyond float64"])
@pytest.mark.parametrize("method", ["RECE", "projection"])
def test_weights_without_a_size_are_refused(name: str, method: str) -> None:
    with pytest.raises(InputError, match=r"squares of all 4 key and value weights sum up to (0|inf): .* load another"):
        erasing(method, extreme(name), 0.1)


def change_rounding(weight: Tensor, eraser: Eraser) -> float:
    """How far off ‖WD‖ / ‖W‖ may be that is computed in float32: W rounded when it is divided, D's factors, their sums."""
    exact = Rounded(weight).to(torch.float32)
    moved = exact @ Rounded(eraser.left).to(torch.float32) @ Rounded(eraser.right).to(torch.float32)
    entries = gamma(weight.numel() + 2, torch.float32)
    whole, part = float(weight.double().norm()), float(moved.value.norm())
    return (float(moved.error.norm()) + 2 * (entries + float(exact.error.norm()) / whole) * part) / whole


@pytest.mark.parametrize("size", [1e-44, 1e-37, 1e-20, 1e20, 1e37])
def test_relative_changes_do_not_depend_on_the_size_of_the_weights(size: float) -> None:
    weights = {key: weight.float() for key, weight in stack(DIMENSION).items()}
    eraser = erase(weights, pairs(2, TOKENS, DIMENSION), (), RECESettings(epochs=1)).eraser
    expected = relative_changes(weights, eraser)
    scaled = {key: weight * size for key, weight in weights.items()}
    found = relative_changes(scaled, eraser)
    for key, change in expected.items():
        # Down there, a float32 has a few bits left: the weights themselves are others, by so much of their norm.
        exact = weights[key].double() * size
        moved = float((scaled[key].double() - exact).norm() / exact.norm())
        spread = float(torch.linalg.matrix_norm(eraser.difference().double(), 2))
        rounding = 2 * change_rounding(weights[key], eraser)
        assert abs(found[key] - change) <= (moved * (spread + change) + rounding) / (1 - moved)


def test_zero_weights_have_not_changed() -> None:
    zero = {"layer": torch.zeros(3, DIMENSION)}
    eraser = erase(stack(DIMENSION), pairs(2, TOKENS, DIMENSION)).eraser
    assert relative_changes(zero, eraser) == {"layer": 0.0}


def test_the_projection_of_small_or_large_weights_is_the_same() -> None:
    """T does not depend on the size of the weights; its factors do not either, so that they fit float32."""
    concepts = [
        type(pair)(pair.name, pair.concept.float(), pair.target.float()) for pair in pairs(2, TOKENS, DIMENSION)
    ]
    preserve = prompts(12, TOKENS, DIMENSION, 9)
    # Numbers of float32, which a power of two takes to others without rounding.
    weights = {key: weight.float().double() for key, weight in stack(DIMENSION).items()}
    found = project(weights, concepts, preserve)
    plain, rounding = found.eraser, projection_rounding(found)
    for power in (-120, 120):
        other = project({key: weight * 2.0**power for key, weight in weights.items()}, concepts, preserve).eraser
        assert other.dtype == torch.float32
        assert 0.5 <= float(other.left.abs().max() / other.right.abs().max()) <= 2
        # Each factor is rounded to float32 once.
        factors = sum(
            2.1 * unit(torch.float32) * float((one.left.double().abs() @ one.right.double().abs()).norm())
            for one in (plain, other)
        )
        left, right = (one.left.double() @ one.right.double() for one in (plain, other))
        assert_same_up_to(left, right, factors + 2 * rounding)


def test_a_zero_model_regenerates_nothing() -> None:
    weights = extreme("zero")
    concept, target = prompts(2, TOKENS, DIMENSION)
    found = regenerate(WeightMoments.of_weights(weights, stack(DIMENSION)), concept, target, 0.1)
    assert found.regeneration == 0
    assert not found.tokens.any()
