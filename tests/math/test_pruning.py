"""Which numbers ConceptPrune takes out, against the paper's rule written out, and what comes in their place."""

from __future__ import annotations

import math

import pytest
import torch
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.methods.pruning import (
    PairedNorms,
    PruningSettings,
    check_share,
    pruned_numbers,
    pruned_places,
)
from torch import Tensor

ROWS, COLUMNS, STEPS = 5, 12, 3


def random_norms(seed: int) -> PairedNorms:
    generator = torch.Generator().manual_seed(seed)
    concept, base = (torch.rand(STEPS, COLUMNS, generator=generator) for _ in range(2))
    return PairedNorms(concept, base)


def literal(weight: Tensor, norms: list[PairedNorms], share: float) -> list[int]:
    """One number after the other, as the paper says it."""
    found = set()
    for pair in norms:
        for own, other in zip(pair.concept, pair.base, strict=True):
            for row in range(ROWS):
                scores = [float(abs(weight[row, column]) * own[column]) for column in range(COLUMNS)]
                top = sorted(range(COLUMNS), key=scores.__getitem__, reverse=True)[: int(share * COLUMNS)]
                found |= {
                    row * COLUMNS + column
                    for column in top
                    if scores[column] > float(abs(weight[row, column]) * other[column])
                }
    return sorted(found)


@pytest.mark.parametrize("share", [1 / 12, 0.25, 0.5, 1.0])
def test_the_places_are_those_of_the_papers_rule(share: float) -> None:
    weight = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(3))
    norms = [random_norms(4), random_norms(5)]
    found = pruned_places(weight, norms, share)
    assert found.dtype == torch.int32
    assert found.tolist() == literal(weight, norms, share)
    assert len(found)


def test_what_is_no_more_active_for_the_concept_stays() -> None:
    same = torch.rand(STEPS, COLUMNS, generator=torch.Generator().manual_seed(0))
    assert len(pruned_places(torch.ones(ROWS, COLUMNS), [PairedNorms(same, same)], 1.0)) == 0
    assert len(pruned_places(torch.zeros(ROWS, COLUMNS), [random_norms(1)], 1.0)) == 0


def test_a_share_that_rounding_would_lower_is_whole() -> None:
    assert int(0.29 * 100) == 28
    weight, norms = torch.ones(1, 100), PairedNorms(torch.arange(1.0, 101.0)[None], torch.zeros(1, 100))
    assert pruned_places(weight, [norms], 0.29).tolist() == list(range(71, 100))


def test_zero_leaves_nothing_and_noise_has_the_spread_of_the_row() -> None:
    rows, columns = 3, 4000
    scales = torch.tensor([0.5, 2.0, 8.0])
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * scales[:, None]
    places = torch.arange(rows * columns, dtype=torch.int32)
    zero = pruned_numbers(weight, places, "zero", torch.Generator())
    assert not (weight.flatten() + zero.difference(weight)).any()
    noise, again, other = (
        pruned_numbers(weight, places, "noise", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(noise.added, again.added)
    assert not torch.equal(noise.added, other.added)
    filled = (weight.flatten() + noise.difference(weight)).reshape(rows, columns)
    # Of a sample of n normal numbers the standard deviation is within 1 ± 6/√(2n) of the true one, but for one in 10^8.
    spread = filled.std(dim=1, correction=0) / weight.std(dim=1, correction=0)
    assert ((spread - 1).abs() < 6 / math.sqrt(2 * columns)).all()
    assert (torch.corrcoef(torch.stack([filled[1], weight[1]]))[0, 1].abs() < 6 / math.sqrt(columns)).all()


def test_a_damaged_weight_is_refused() -> None:
    weight = torch.full((2, 2), float("nan"))
    with pytest.raises(InputError, match="holds NaN"):
        pruned_numbers(weight, torch.zeros(1, dtype=torch.int32), "zero", torch.Generator())


def test_a_share_of_less_than_one_number_is_refused_with_what_suffices() -> None:
    check_share(0.01, {"w": 100})
    with pytest.raises(InputError, match=r"less than one of the 100 numbers .* give 0.01 or more"):
        check_share(0.009, {"w": 100})


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0.0},
        {"share": 1.1},
        {"share": float("nan")},
        {"share": True},
        {"first_steps": 0},
        {"fill": "ones"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        PruningSettings(**wrong)  # type: ignore[arg-type]
