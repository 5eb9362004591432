"""Which numbers ConceptPrune takes out, against the paper's rule written out, and what comes in their place."""

from __future__ import annotations

import math

import pytest
import torch
from bounds import orthogonal, unit
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.methods.pruning import (
    PairedNorms,
    PruningSettings,
    check_share,
    projected_numbers,
    pruned_numbers,
    pruned_places,
    united_places,
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


DIRECTIONS = 3


def projection_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, uneven places of its rows, of which the first has none and the second fewer than directions, and directions."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    taken = torch.rand(ROWS, COLUMNS, generator=generator) < 0.7
    taken[0], taken[1] = False, False
    taken[1, [2, 7]] = True
    taken[2:, :4] = True
    directions = torch.randn(DIRECTIONS, COLUMNS, generator=generator)
    return weight, taken.flatten().nonzero().flatten().to(torch.int32), directions


def by_row(places: Tensor, numbers: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Columns and numbers of every row that has some."""
    rows = places.long() // COLUMNS
    return {int(row): (places.long()[rows == row] % COLUMNS, numbers[rows == row].double()) for row in rows.unique()}


def rounding(read: Tensor, numbers: Tensor) -> float:
    """‖error‖ of w − VVᵀw at most: a decomposition, whose V is orthonormal up to as much, two products and a rounding."""
    relative = 4 * orthogonal(*read.shape) * float(torch.linalg.cond(read)) + unit(torch.float32)
    return relative * float(numbers.norm())


@pytest.mark.parametrize("seed", range(5))
def test_projected_numbers_read_none_of_the_directions_and_change_as_little_as_that_takes(seed: int) -> None:
    weight, places, directions = projection_case(seed)
    before, after = (
        by_row(places, numbers)
        for numbers in (weight.flatten()[places.long()], projected_numbers(weight, places, directions))
    )
    assert set(after) == set(range(1, ROWS))
    for row in range(1, ROWS):
        columns, left = after[row]
        own, read = before[row][1], directions.double()[:, columns]
        bound = rounding(read, own)
        if row == 1:
            assert float(left.norm()) <= bound, "two numbers cannot be orthogonal to three directions"
            continue
        assert float((read @ left).norm()) <= bound * float(torch.linalg.matrix_norm(read, 2))
        # The change is made of the directions alone, so that nothing smaller would do.
        complement = torch.eye(len(columns), dtype=torch.float64) - torch.linalg.pinv(read) @ read
        assert float((complement @ (own - left)).norm()) <= 2 * bound
        assert float(left.norm()) > 0.01, "more numbers than directions leave something"


def test_a_projection_is_done_once() -> None:
    weight, places, directions = projection_case(9)
    once = projected_numbers(weight, places, directions)
    again = projected_numbers(
        weight.flatten().index_put((places.long(),), once).reshape(ROWS, COLUMNS), places, directions
    )
    for row, (columns, left) in by_row(places, once).items():
        bound = rounding(directions.double()[:, columns], weight[row, columns].double())
        assert float((by_row(places, again)[row][1] - left).norm()) <= 2 * bound


def test_directions_that_are_one_count_once_and_those_that_are_none_not_at_all() -> None:
    weight, places, directions = projection_case(4)
    one = projected_numbers(weight, places, directions[:1])
    twice = projected_numbers(weight, places, torch.cat([directions[:1], 2 * directions[:1], 0 * directions[:1]]))
    for row, (columns, left) in by_row(places, one).items():
        own = weight[row, columns].double()
        # The second and third differ from the first in nothing but rounding, which is taken for no direction.
        bound = 2 * rounding(directions.double()[:1, columns], own)
        assert float((by_row(places, twice)[row][1] - left).norm()) <= bound
    kept = projected_numbers(weight, places, torch.zeros(2, COLUMNS))
    assert torch.equal(kept, weight.flatten()[places.long()])


def test_chunks_of_rows_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, places, directions = projection_case(6)
    whole = projected_numbers(weight, places, directions)
    monkeypatch.setattr("rece_pack.rece_ops.methods.pruning._AT_ONCE", 1)
    assert torch.equal(projected_numbers(weight, places, directions), whole)


def test_projected_numbers_replace_what_stood_there() -> None:
    weight, places, directions = projection_case(2)
    change = pruned_numbers(weight, places, "projection", torch.Generator(), directions)
    assert torch.equal(change.removed, torch.ones(len(places)))
    assert torch.equal(change.added, projected_numbers(weight, places, directions))
    with pytest.raises(ValueError, match="needs directions"):
        pruned_numbers(weight, places, "projection", torch.Generator())


def test_places_are_united_in_rising_order() -> None:
    first, second = torch.tensor([1, 5, 9], dtype=torch.int32), torch.tensor([0, 5], dtype=torch.int32)
    found = united_places(first, second)
    assert (found.dtype, found.tolist()) == (torch.int32, [0, 1, 5, 9])
    assert united_places(first[:0], second).tolist() == [0, 5]


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
        {"adversaries": -1},
        {"adversary_steps": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        PruningSettings(**wrong)  # type: ignore[arg-type]
