"""The thin ways of an edit and a derivation give what the dense ones give."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given
from random_examples import pairs, prompts, stack
from rece_pack.rece_ops import Eraser, RECESettings, erase, gram_matrix
from rece_pack.rece_ops.attacks.derivation import Derivations
from rece_pack.rece_ops.linear.moments import PreservedMoment, pair_moments
from rece_pack.rece_ops.linear.thin_system import ThinSystem
from rece_pack.rece_ops.methods.rece import edit

DIMENSION, TOKENS = 48, 5
seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from([1e-3, 0.1, 10.0]), st.integers(0, 3))
def test_a_derivation_from_a_thin_eraser_is_that_from_a_dense_one(
    seed: int, regularization: float, epochs: int
) -> None:
    concepts = pairs(1, TOKENS, DIMENSION, seed)
    erasure = erase(stack(DIMENSION, seed=seed), concepts, (), RECESettings(epochs=epochs))
    thin, derivations = erasure.eraser, Derivations(erasure.gram, regularization)
    assert not thin.is_dense
    ours, other = ThinSystem(derivations.base, thin.left, thin.right), derivations.of_eraser(Eraser(thin.difference()))
    # Float64 rounding (2^-53) times the condition number, and a hundred for the lengths of the sums.
    tolerance = 100 * 2.0**-53 * other.condition
    rows = concepts[0].concept
    for mine, theirs in ((ours.of_tokens(rows), other.of_tokens(rows)), (ours.of_identity(), other.of_identity())):
        assert (mine - theirs).norm() <= tolerance * theirs.norm()
    assert (ours.solve(rows.T) - other.solve(rows.T)).norm() <= tolerance * other.solve(rows.T).norm()
    edited = thin.matrix().T @ erasure.gram @ thin.matrix()
    true = float(torch.linalg.cond(edited + regularization * torch.eye(DIMENSION).double()))
    # Few Lanczos steps: a lower bound, tight to a few per cent.
    for condition in (ours.condition, other.condition):
        assert 0.9 * true <= condition <= true * (1 + tolerance)


@given(seeds, st.booleans())
def test_a_thin_edit_is_the_dense_one(seed: int, with_kept: bool) -> None:
    concepts = pairs(2, TOKENS, DIMENSION, seed, targets=2, scale=0.7)
    moments = pair_moments(concepts, 1.3, torch.device("cpu"))[1]
    kept = PreservedMoment.of_prompts(
        prompts(2 * with_kept, TOKENS, DIMENSION, seed + 1), DIMENSION, torch.device("cpu")
    )
    settings = RECESettings()
    thin, condition = edit(moments, kept, settings)
    dense, expected = edit(
        moments, PreservedMoment(None, kept.add_to(torch.zeros(DIMENSION, DIMENSION).double(), 1.0)), settings
    )
    tolerance = 100 * 2.0**-53 * expected
    assert (thin.difference() - dense.difference()).norm() <= tolerance * dense.difference().norm()
    assert 0.9 * expected <= condition <= 1.1 * expected


def test_the_gram_of_few_outputs_is_singular_and_the_thin_derivation_does_not_mind() -> None:
    """Flux reads 4096 dimensions with 3072 outputs."""
    weights = {"only": stack(DIMENSION, layers=1)["layer0"][:30]}
    gram, concepts = gram_matrix(weights), pairs(1, TOKENS, DIMENSION)
    thin = erase(weights, concepts, (), RECESettings(epochs=0)).eraser
    derivations = Derivations(gram, 1e-3)
    ours, other = ThinSystem(derivations.base, thin.left, thin.right), derivations.of_eraser(Eraser(thin.difference()))
    rows = concepts[0].concept
    error = (ours.of_tokens(rows) - other.of_tokens(rows)).norm() / other.of_tokens(rows).norm()
    assert error <= 100 * 2.0**-53 * other.condition
