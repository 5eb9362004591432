"""Words of one kind, told by which parts of the model read them."""

from __future__ import annotations

import pytest
import torch
from bounds import gamma
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.measures.kinds import (
    KIN_LIMIT,
    NEARLY,
    PARTS,
    can_tell_kinds,
    kind_distances,
    nearest_kin,
    target_of_kind,
)
from torch import Tensor

WORDS, TOKENS, DIMENSION = 40, 2, 12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words(seed: int = 0) -> Tensor:
    return torch.randn(WORDS, TOKENS, DIMENSION, generator=generator(seed)) + 1


def weights() -> dict[str, Tensor]:
    # The second has fewer rows than there are parts.
    return {name: torch.randn(rows, DIMENSION, generator=generator(rows)) for name, rows in (("k", 20), ("v", 5))}


def test_distances_are_those_of_their_definition() -> None:
    concepts = words(1)[:3]
    found = kind_distances(weights(), words(), concepts)
    rows = torch.cat([words(), concepts]).double() - words().mean(dim=0).double()
    energies, errors = [], []
    for weight in weights().values():
        for part in torch.tensor_split(weight.double(), min(PARTS, len(weight))):
            outputs = rows @ part.T
            # Of the mean over 40 words and of the product; squares and their sums add two roundings a number.
            away = gamma(WORDS + DIMENSION + 2, torch.float32) * ((rows.abs() + 2) @ part.abs().T)
            energy = outputs.square().sum(dim=(1, 2))
            energies.append(energy.log())
            errors.append(
                (2 * (outputs.abs() * away).sum(dim=(1, 2)) + away.square().sum(dim=(1, 2))) / energy
                + gamma(2 * outputs[0].numel(), torch.float32)
            )
    scores, error = torch.stack(energies, dim=1), torch.stack(errors, dim=1)
    spread, mean = torch.std_mean(scores[:WORDS], dim=0)
    u = (scores - mean) / spread
    expected = torch.cdist(u[WORDS:], u[:WORDS]) / u[WORDS:].norm(dim=1, keepdim=True)
    # An error of e moves u by as much, by that of the mean, and by that of the deviation, over the deviation.
    moved = ((error + error.amax(dim=0)) / spread + u.abs() * error.amax(dim=0) / spread).norm(dim=1)
    bound = 2 * (moved[WORDS:, None] * (1 + expected) + moved[None, :WORDS]) / u[WORDS:].norm(dim=1, keepdim=True)
    assert bool(((found - expected).abs() <= bound).all())
    assert float(bound.max()) < 0.05


def test_kinds_are_told_by_who_reads_a_word_and_not_by_what_it_says() -> None:
    """Half of the weights read the first coordinates, half the others; words lie in one half, in any direction."""
    halves = {}
    for place in range(8):
        weight = torch.zeros(16, DIMENSION)
        start = 0 if place % 2 else DIMENSION // 2
        weight[:, start : start + DIMENSION // 2] = torch.randn(16, DIMENSION // 2, generator=generator(place))
        halves[str(place)] = weight
    found = 0.05 * torch.randn(WORDS, 1, DIMENSION, generator=generator(3))
    found[::2, :, : DIMENSION // 2] += torch.randn(WORDS // 2, 1, DIMENSION // 2, generator=generator(4))
    found[1::2, :, DIMENSION // 2 :] += torch.randn(WORDS // 2, 1, DIMENSION // 2, generator=generator(5))
    distances = kind_distances(halves, found, found[:1])[0]
    assert float(distances[0]) == pytest.approx(0, abs=1e-3)
    assert set(distances.argsort()[: WORDS // 2].tolist()) == set(range(0, WORDS, 2))


def test_a_part_that_reads_nothing_counts_nothing() -> None:
    with_dead = {**weights(), "dead": torch.zeros(16, DIMENSION)}
    assert torch.equal(kind_distances(with_dead, words(), words()[:2]), kind_distances(weights(), words(), words()[:2]))


def test_each_weight_is_read_once_and_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kind_distances(weights(), words(), words()[:2])
    monkeypatch.setattr("rece_pack.rece_ops.measures.kinds._AT_ONCE", 7)
    seen: list[tuple[int, int, str]] = []
    parts = kind_distances(weights(), words(), words()[:2], lambda *step: seen.append(step))
    assert seen == [(1, 2, "comparing kinds"), (2, 2, "comparing kinds")]
    # The same products, in batches of another size.
    assert torch.allclose(parts, whole, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, TOKENS, DIMENSION), (WORDS, DIMENSION), (WORDS, 3, DIMENSION)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="give at least two words"):
        kind_distances(weights(), torch.zeros(shape), words()[:2])


def test_a_weight_that_is_not_finite_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="'v' holds NaN"):
        kind_distances({**weights(), "v": torch.full((3, DIMENSION), torch.nan)}, words(), words()[:2])


def test_a_target_is_the_commonest_of_the_nearest() -> None:
    every = torch.ones(5, dtype=torch.bool)
    near = torch.tensor([0.35, 0.2 + NEARLY - 0.01, 0.2, 0.21, 0.0])
    allowed = torch.tensor([True, True, True, True, False])
    assert target_of_kind(near, allowed) == 1
    assert target_of_kind(near, every) == 4
    # None of its kind: the nearest of all.
    assert target_of_kind(near + KIN_LIMIT, allowed) == 2
    # Not beyond the limit, however near to the nearest.
    assert target_of_kind(torch.tensor([KIN_LIMIT + 0.01, KIN_LIMIT - 0.01]), every[:2]) == 1
    assert target_of_kind(near, ~every) is None


def test_kin_come_nearest_first_and_within_the_limit() -> None:
    distances = torch.tensor([0.3, KIN_LIMIT + 0.01, 0.1, 0.2])
    allowed = torch.tensor([True, True, True, False])
    assert nearest_kin(distances, allowed, 10) == [2, 0]
    assert nearest_kin(distances, allowed, 1) == [2]


def test_few_weights_or_words_tell_no_kinds() -> None:
    assert can_tell_kinds(4, 200)
    assert not can_tell_kinds(3, 200)
    assert not can_tell_kinds(4, 199)
