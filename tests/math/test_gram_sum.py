"""G in float32 blocks: how far from the sum in float64, and that the sum knows it."""

from __future__ import annotations

import pytest
import torch
from random_examples import pairs, prompts
from rece_pack.rece_ops import (
    Contrast,
    Differences,
    Erasure,
    ProjectionSettings,
    RECESettings,
    erase,
    gram_matrix,
    measure,
    project,
    project_differences,
)
from rece_pack.rece_ops.linear.gram import GramTooRough
from rece_pack.rece_ops.linear.gram_sum import GramSum
from rece_pack.rece_ops.methods.projection import _moved
from rece_pack.rece_ops.methods.rece import iterate
from torch import Tensor

# Unit roundoff of float32.
ROUNDOFF = 2.0**-24


def rows_with_spectrum(rows: int, dimension: int, exponent: float) -> Tensor:
    """[rows, dimension] in float32, singular values about k^-exponent."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)).Q
    values = torch.arange(1, dimension + 1, dtype=torch.float64) ** -exponent
    return (torch.randn(rows, dimension, generator=generator, dtype=torch.float64) @ (basis * values) @ basis.T).float()


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_error_is_as_small_as_float32_sums_are_and_the_estimate_is_above_it(exponent: float) -> None:
    rows = rows_with_spectrum(5000, 256, exponent)
    gram = GramSum(256, rows.device)
    for part in torch.split(rows, 700):
        gram.add(part)
    exact = rows.double().T @ rows.double()
    error = gram.total() - exact
    # A sum of n products in float32, rounded n times at most, is off by n·u·Σ|x||y|; blocks have 1024 rows.
    size = rows.double().abs().T @ rows.double().abs()
    assert (error.abs() <= 1024 * ROUNDOFF * size).all()
    spectral = float(torch.linalg.matrix_norm(error, 2))
    assert 0 < spectral <= gram.error <= 20 * spectral


def test_float64_rows_and_exact_sums_are_those_of_float64() -> None:
    rows = rows_with_spectrum(900, 64, 0.0)
    expected = rows.double().T @ rows.double()
    for gram, given in ((GramSum(64, rows.device), rows.double()), (GramSum(64, rows.device, exact=True), rows)):
        gram.add(given)
        torch.testing.assert_close(gram.total(), expected, rtol=1e-13, atol=1e-11)
        assert gram.error == 0


def test_half_rows_of_several_weights_and_dtypes_are_summed() -> None:
    parts = [
        (rows_with_spectrum(40, 32, 0.0).to(dtype), weight)
        for dtype, weight in ((torch.float16, 1.0), (torch.float64, 2.0), (torch.float32, 0.3), (torch.bfloat16, 0.3))
    ]
    gram = GramSum(32, torch.device("cpu"))
    for part, weight in parts:
        gram.add(part, weight)
    expected = sum(weight * part.double().T @ part.double() for part, weight in parts)
    size = sum(weight * part.double().abs().T @ part.double().abs() for part, weight in parts)
    assert ((gram.total() - expected).abs() <= 40 * ROUNDOFF * size).all()


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e25, 1e37])
def test_rows_whose_squares_leave_float32s_range_are_summed(scale: float) -> None:
    rows = rows_with_spectrum(200, 32, 0.0) * scale
    gram = GramSum(32, rows.device)
    gram.add(rows)
    expected = rows.double().T @ rows.double()
    size = rows.double().abs().T @ rows.double().abs()
    assert ((gram.total() - expected).abs() <= 200 * ROUNDOFF * size).all()


@pytest.mark.parametrize("regularization", [1e-1, 1e-3])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.5])
def test_an_erasure_of_float32_weights_is_that_of_float64_weights_to_a_ten_thousandth(
    exponent: float, regularization: float
) -> None:
    """Whether G is precise enough in float32, or has to be read again: the bound that is stated."""
    dimension = 128
    rows = rows_with_spectrum(3000, dimension, exponent).half().float()
    weights = dict(enumerate_weights(rows))
    concepts, kept = pairs(1, 9, dimension, dtype=torch.float32), prompts(1, 9, dimension, 5, torch.float32)
    settings = RECESettings(epochs=3, regularization=regularization)
    ours = erase(weights, concepts, kept, settings).eraser.to(dtype=torch.float64)
    best = erase({k: w.double() for k, w in weights.items()}, concepts, kept, settings).eraser.to(dtype=torch.float64)
    change = rows.double() @ best.difference()
    assert (rows.double() @ ours.difference() - change).norm() < 1e-4 * change.norm()


class Counted(dict[str, Tensor]):
    """Weights that count how often one of them is read."""

    reads = 0

    def __getitem__(self, key: str) -> Tensor:
        self.reads += 1
        return super().__getitem__(key)


@pytest.mark.parametrize(("exponent", "passes"), [(0.0, 1), (3.0, 2)])
def test_weights_near_singular_are_read_a_second_time_in_float64_and_flat_ones_are_not(
    exponent: float, passes: int
) -> None:
    rows = rows_with_spectrum(3000, 128, exponent)
    concepts = pairs(1, 9, 128, dtype=torch.float32)
    weights, told = Counted(enumerate_weights(rows)), list[tuple[int, int]]()
    settings = RECESettings(epochs=1, regularization=1e-6)
    erasure = erase(weights, concepts, (), settings, progress=lambda done, total, _: told.append((done, total)))
    assert weights.reads == passes * len(weights)
    assert all(done <= total for done, total in told)
    assert told[-1][0] == told[-1][1]
    assert torch.equal(erasure.gram, gram_matrix(weights)) == (passes == 2)


@pytest.mark.parametrize("regularization", [0.02, 0.5, 5.0])
def test_an_epoch_takes_no_error_of_g_that_could_move_derived_embeddings_by_more_than_is_stated(
    regularization: float,
) -> None:
    """c' = M⁻¹TᵀG c with M = λ_r I + TᵀGT moves by at most ‖M⁻¹Tᵀ‖·‖E‖·‖c − T c'‖, which may be 1e-4 of ‖c'‖."""
    gram = gram_matrix(dict(enumerate_weights(rows_with_spectrum(3000, 32, 1.0).double())))
    concepts, kept = pairs(1, 5, 32), prompts(3, 5, 32, 5)
    settings = RECESettings(epochs=1, regularization=regularization)

    def with_error(error: float) -> Erasure:
        return iterate(gram, concepts, kept, settings, kept, {}, gram_error=error)

    first = with_error(0.0).eraser_at(0).matrix()
    system = regularization * torch.eye(32).double() + first.T @ gram @ first
    tokens = concepts[0].concept
    derived = torch.linalg.solve(system, first.T @ gram @ tokens.T).T
    missed = (tokens - derived @ first.T).norm()
    most = 1e-4 * derived.norm() / (missed * torch.linalg.matrix_norm(torch.linalg.solve(system, first.T), 2))
    with_error(float(most) * 0.98)
    with pytest.raises(GramTooRough):
        with_error(float(most) * 1.02)


def test_what_a_first_edit_of_few_outputs_left_can_be_measured_with_little_regularization() -> None:
    """G is singular; with float32's errors it is indefinite."""
    weights = {"thin": rows_with_spectrum(60, 96, 0.0)}
    settings = RECESettings(epochs=0, regularization=1e-8)
    erasure = erase(weights, pairs(1, 5, 96, dtype=torch.float32), (), settings)
    assert 0 <= measure(erasure, {}).concepts[0].regeneration[0] <= 1


def test_a_projection_of_few_weights_is_made_in_float64() -> None:
    """Of fewer outputs than dimensions G is singular, and only a thousand-millionth of it holds its root up."""
    weights = {"thin": rows_with_spectrum(60, 96, 0.0)}
    concepts, kept = pairs(1, 5, 96, dtype=torch.float32), prompts(4, 5, 96, 5, torch.float32)
    ours, best = (
        project(given, concepts, kept, ProjectionSettings(directions=1)).eraser.matrix()
        for given in (weights, {"thin": weights["thin"].double()})
    )
    assert torch.equal(ours, best)


@pytest.mark.parametrize("robustness", [0.3, 30.0])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("exactly", [False, True])
def test_a_projection_of_float32_weights_is_that_of_float64_weights_to_a_ten_thousandth(
    exponent: float, robustness: float, exactly: bool
) -> None:
    """Several concepts, some with targets: the bound that is stated."""
    dimension = 128
    rows = rows_with_spectrum(3000, dimension, exponent).half().float()
    weights = dict(enumerate_weights(rows))
    concepts, kept = pairs(2, 9, dimension, dtype=torch.float32), prompts(4, 9, dimension, 5, torch.float32)
    others, target = prompts(2, 9, dimension, 7, torch.float32)
    contrasts = [
        Contrast(pair.name, pair.concept, others, target if turn else None) for turn, pair in enumerate(concepts)
    ]
    staying = {"preserve_exactly": {"one": kept[0][:3]}} if exactly else {}
    ours, best = (
        project(given, concepts, kept, ProjectionSettings(robustness), contrasts=contrasts, **staying).eraser
        for given in (weights, {name: weight.double() for name, weight in weights.items()})
    )
    change = rows.double() @ best.to(dtype=torch.float64).difference()
    assert (rows.double() @ ours.to(dtype=torch.float64).difference() - change).norm() < 1e-4 * change.norm()


@pytest.mark.parametrize(("exponent", "passes"), [(0.0, 1), (3.0, 2)])
def test_a_projection_reads_weights_near_singular_a_second_time_and_flat_ones_not(exponent: float, passes: int) -> None:
    weights = Counted(enumerate_weights(rows_with_spectrum(3000, 128, exponent)))
    found = project(weights, pairs(1, 9, 128, dtype=torch.float32), prompts(4, 9, 128, 5, torch.float32))
    assert weights.reads == passes * len(weights)
    assert torch.equal(found.gram, gram_matrix(weights)) == (passes == 2)


def test_a_projection_takes_no_error_of_g_that_moves_the_weights_by_more_than_is_stated() -> None:
    """G moved by a random matrix of that size may move W·T − W by a ten-thousandth of its size."""
    gram = gram_matrix(dict(enumerate_weights(rows_with_spectrum(3000, 32, 0.5).double())))
    concepts, kept = pairs(1, 5, 32), prompts(20, 5, 32, 5)

    def with_error(error: float, known: Tensor = gram) -> Tensor:
        differences = Differences(known)
        differences.add(Contrast.of(concepts[0]))
        differences.gram_error = error
        return project_differences(differences, concepts, kept, ProjectionSettings()).eraser.difference()

    change, root = with_error(0.0), torch.linalg.cholesky(gram).T
    small = float(gram.norm()) * 1e-9
    moved = float((root @ (with_error(0.0, _moved(gram, small)) - change)).norm() / (root @ change).norm())
    # As long as it is small, twice the error moves them twice as far: to about as many digits as are asked for here.
    most = small * 1e-4 / moved
    with_error(most * 0.9)
    with pytest.raises(GramTooRough):
        with_error(most * 1.1)
    assert float(torch.linalg.matrix_norm(_moved(gram, small) - gram, 2)) == pytest.approx(small, rel=0.3)


def test_a_concept_whose_length_the_error_of_g_reaches_is_not_weighed_by_it() -> None:
    gram = torch.eye(4, dtype=torch.float64)
    contrast = Contrast("one", torch.ones(1, 4).double(), torch.zeros(1, 4).double())
    Differences(gram, gram_error=0.9e-5).add(contrast)
    with pytest.raises(GramTooRough):
        Differences(gram, gram_error=1.1e-5).add(contrast)


def enumerate_weights(rows: Tensor) -> list[tuple[str, Tensor]]:
    return [(f"layer{i}", part) for i, part in enumerate(torch.split(rows, 500))]
