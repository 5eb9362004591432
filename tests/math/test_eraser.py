"""Properties of the eraser as an object."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from bounds import Rounded, applied, assert_agree, assert_same_up_to, assert_within, orthogonal
from hypothesis import given
from rece_pack.rece_ops import Eraser, EraserSet, InputError
from torch import Tensor

DIMENSION = 20
IDENTITY = torch.eye(DIMENSION, dtype=torch.float64)


def transform(eraser: Eraser) -> Rounded:
    """T of an eraser with those factors."""
    return applied(IDENTITY, *eraser.factors())


def applied_to(rows: Tensor | Rounded, *erasers: Eraser) -> Rounded:
    """rows·T of one eraser after the other."""
    found = rows if isinstance(rows, Rounded) else Rounded(rows)
    for eraser in erasers:
        found = applied(found, *eraser.factors())
    return found


def random_eraser(rank: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Eraser:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(DIMENSION, rank, generator=generator, dtype=torch.float64) / 5
    right = torch.randn(rank, DIMENSION, generator=generator, dtype=torch.float64) / 5
    return Eraser(left.to(dtype), right.to(dtype), {"seed": seed})


erasers = st.builds(random_eraser, st.integers(0, DIMENSION), st.integers(0, 1000))
weights = st.integers(0, 1000).map(
    lambda seed: torch.randn(7, DIMENSION, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)


def combined(*several: Eraser) -> Rounded:
    """T₁T₂… with every product that may be in it: T of one goes through sums of up to three times d numbers."""
    found = Rounded(IDENTITY)
    for eraser in several:
        found = found @ transform(eraser) + torch.zeros_like(IDENTITY)
    # Moved factors, multiplied with the others in their place, and added to what was there.
    again = Rounded(IDENTITY)
    for eraser in several:
        again = again @ transform(eraser)
    return Rounded(found.value, 2 * (found.error + again.error))


@given(erasers, weights)
def test_weight_and_context_are_two_views_of_one_erasure(eraser: Eraser, weight: torch.Tensor) -> None:
    """W T c = W (T c)."""
    context = torch.randn(2, 5, DIMENSION, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    by_weight = context @ eraser.apply_to_weight(weight).T
    by_context = eraser.apply_to_context(context) @ weight.T
    left, right = eraser.left, eraser.right
    expected = Rounded(context) @ applied_to(weight, eraser).T
    assert_agree(expected, applied(context, right.T, left.T) @ weight.T, by_weight, by_context)
    assert_agree(
        applied_to(weight, eraser),
        Rounded(weight) @ transform(eraser),
        eraser.apply_to_weight(weight),
        weight @ eraser.matrix(),
    )


@given(erasers, st.floats(-2, 2))
def test_strength_is_linear(eraser: Eraser, strength: float) -> None:
    expected = (Rounded(eraser.left) @ eraser.right) * strength + IDENTITY
    # The strength can be on the factor or on the product.
    assert_agree(expected, expected, eraser.scaled(strength).matrix(), expected.value)


@given(erasers, weights)
def test_strength_zero_is_the_identity_bit_for_bit(eraser: Eraser, weight: torch.Tensor) -> None:
    assert torch.equal(eraser.scaled(0.0).apply_to_weight(weight), weight)


@given(erasers, erasers, weights)
def test_composition_is_one_after_the_other(first: Eraser, second: Eraser, weight: torch.Tensor) -> None:
    one_by_one = second.apply_to_weight(first.apply_to_weight(weight))
    at_once = (first @ second).apply_to_weight(weight)
    assert_agree(Rounded(weight) @ combined(first, second), applied_to(weight, first, second), at_once, one_by_one)


@given(erasers, erasers, erasers)
def test_composition_is_associative(a: Eraser, b: Eraser, c: Eraser) -> None:
    expected = combined(a, b, c)
    assert_agree(expected, expected, ((a @ b) @ c).matrix(), (a @ (b @ c)).matrix())


@given(erasers)
def test_identity_is_neutral(eraser: Eraser) -> None:
    identity = Eraser.identity(DIMENSION)
    assert torch.equal((identity @ eraser).matrix(), eraser.matrix())
    expected = combined(eraser, identity)
    assert_agree(expected, transform(eraser), (eraser @ identity).matrix(), eraser.matrix())


@given(erasers)
def test_nothing_changes_an_eraser(eraser: Eraser) -> None:
    before = eraser.matrix().clone()
    eraser.scaled(0.3)
    eraser @ eraser
    eraser.compressed()
    eraser.apply_to_weight(torch.ones(2, DIMENSION, dtype=torch.float64)).zero_()
    eraser.to(dtype=torch.float32)
    assert torch.equal(eraser.matrix(), before)


@given(st.integers(0, DIMENSION), st.integers(0, 1000))
def test_compression_finds_the_least_rank(rank: int, seed: int) -> None:
    eraser = random_eraser(min(rank, 4), seed)
    doubled = Eraser(torch.cat([eraser.left, eraser.left], 1), torch.cat([eraser.right, eraser.right], 0) / 2)
    compressed = doubled.compressed(tolerance=1e-12)
    assert compressed.rank == eraser.rank
    # Two QR decompositions, their product decomposed, and its factors multiplied out again.
    sizes = float(doubled.left.norm() * doubled.right.norm())
    rounding = 4 * orthogonal(DIMENSION, doubled.rank or 1) + 1e-12
    assert_same_up_to(compressed.matrix(), eraser.matrix(), rounding * sizes)


def test_compression_to_a_rank_is_the_closest_of_that_rank() -> None:
    eraser = random_eraser(8)
    error = eraser.compressed(max_rank=3).matrix() - eraser.matrix()
    sigma = torch.linalg.svdvals(eraser.difference())
    rounding = 6 * orthogonal(DIMENSION, DIMENSION) * float(eraser.left.norm() * eraser.right.norm())
    assert abs(float(torch.linalg.svdvals(error)[0] - sigma[3])) <= rounding < 1e-3 * float(sigma[3])


def test_factors_are_kept_thin_only_while_that_is_smaller() -> None:
    assert not random_eraser(DIMENSION // 2 - 1).is_dense
    assert random_eraser(DIMENSION // 2).is_dense
    dense = random_eraser(DIMENSION // 2)
    assert_within(dense.matrix(), Rounded(dense.left @ dense.right) + IDENTITY)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_come_back_in_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    eraser = random_eraser(4)
    weight = torch.randn(6, DIMENSION, generator=torch.Generator().manual_seed(1)).to(dtype)
    result = eraser.apply_to_weight(weight)
    assert result.dtype == dtype
    # Half precision computes in float32 in between.
    assert_within(result, applied_to(weight, eraser).to(dtype))
    context = eraser.apply_to_context(weight)
    assert context.dtype == dtype
    assert_within(context, applied(weight, eraser.right.T, eraser.left.T).to(dtype))


def test_wrong_shapes_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="belongs to another architecture"):
        random_eraser(3).apply_to_weight(torch.zeros(4, DIMENSION + 1))
    with pytest.raises(InputError, match="cannot be combined"):
        random_eraser(3) @ Eraser.identity(DIMENSION + 1)
    with pytest.raises(InputError, match="do not fit together"):
        Eraser(torch.zeros(4, 2), torch.zeros(3, 4))
    with pytest.raises(InputError, match="must be square"):
        Eraser(torch.zeros(4, 2))
    with pytest.raises(InputError, match="finite"):
        random_eraser(3).scaled(float("nan"))


def test_a_set_combines_stream_by_stream() -> None:
    first = EraserSet({"text": random_eraser(2, 1), "pooled": random_eraser(3, 2)}, {"name": "first"})
    second = EraserSet({"text": random_eraser(2, 3), "pooled": random_eraser(3, 4)})
    both = first.combined(second, {"method": "combined"})
    for stream in first:
        assert torch.equal(both[stream].matrix(), (first[stream] @ second[stream]).matrix())
    with pytest.raises(InputError, match="cannot be combined"):
        first.combined(EraserSet({"text": random_eraser(2), "other": random_eraser(2)}), {})
    with pytest.raises(InputError, match="at least one"):
        EraserSet({})
    assert first.scaled(0.5).metadata == {"name": "first"}


def test_a_set_may_leave_the_pooled_stream_alone() -> None:
    whole = EraserSet({"text": random_eraser(2, 1), "pooled": random_eraser(3, 2)})
    without = EraserSet({"text": random_eraser(2, 3)})
    for first, second in ((whole, without), (without, whole)):
        both = first.combined(second, {})
        assert torch.equal(both["text"].matrix(), (first["text"] @ second["text"]).matrix())
        assert both["pooled"] is whole["pooled"]
