"""The mathematics of trained erasers: what is changed, what it is pulled to, who attacks it, and how it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.rece_ops import EraserFileError, InputError
from rece_pack.rece_ops.training.adversaries import LONGEST_LIFE, AdversaryPool
from rece_pack.rece_ops.training.low_rank import TrainedFactors
from rece_pack.rece_ops.training.objectives import (
    bounded_ascent,
    chosen,
    erasing_target,
    error,
    errors,
    excess,
    level_weight,
    role_counts,
)
from rece_pack.rece_ops.training.record import TrainingRecord
from rece_pack.rece_ops.training.settings import HardenedSettings, UnlearningSettings
from rece_pack.rece_ops.training.state import TrainingState, load_state

CPU = torch.device("cpu")
BLOCKS = 2
SHAPES = {"linear.weight": (6, 8), "conv.weight": (4, 3, 3, 3)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def factors(rank: int = 5) -> TrainedFactors:
    return TrainedFactors(SHAPES, rank, generator(), CPU)


def pool(size: int = 4, seed: int = 0) -> AdversaryPool:
    starts = torch.randn(3, 7, 5, generator=generator(9))
    return AdversaryPool(starts, size, BLOCKS, 0.05, generator(seed))


def test_a_target_lies_beyond_the_anchor_away_from_the_concept() -> None:
    concept, anchor = torch.tensor([3.0]), torch.tensor([1.0])
    assert erasing_target(concept, anchor, 0.0).item() == 1.0
    assert erasing_target(concept, anchor, 1.0).item() == -1.0
    assert error(concept, anchor).item() == 4.0


@pytest.mark.parametrize("size", range(1, 65))
@pytest.mark.parametrize("adversarial", [True, False])
def test_every_erased_picture_has_one_role(size: int, adversarial: bool) -> None:
    attacked, named, empty = role_counts(size, adversarial)
    assert attacked + named + empty == size
    assert min(attacked, named, empty) >= 0
    assert (attacked > 0) == adversarial
    assert adversarial or named > 0


def test_places_are_drawn_as_evenly_as_can_be() -> None:
    counts = torch.bincount(chosen(generator(), 4, 10), minlength=4)
    assert counts.sum() == 10
    assert counts.max() - counts.min() <= 1


def test_factors_change_nothing_at_first_and_have_no_more_rank_than_their_weight() -> None:
    change = factors(5).change()
    assert {key: tuple(pair.up.shape) for key, pair in change.changes.items()} == {
        "linear.weight": (6, 5),
        "conv.weight": (4, 4),
    }
    for key, shape in SHAPES.items():
        assert not change.of_weight(key, torch.ones(shape)).any()


def test_factors_are_taken_up_where_they_were() -> None:
    first, second = factors(), factors()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    second.load(first.tensors())
    for key, shape in SHAPES.items():
        weight = torch.zeros(shape)
        assert torch.equal(second.change().of_weight(key, weight), first.change().of_weight(key, weight))
    assert second.change().of_weight("conv.weight", torch.zeros(4, 3, 3, 3)).any()


def test_a_change_is_a_copy_that_training_on_does_not_move() -> None:
    trained = factors()
    change = trained.change()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.fill_(float("nan"))
    assert not trained.is_finite()
    assert all(torch.isfinite(factor).all() for pair in change.changes.values() for factor in pair)


def test_adversaries_go_downhill_and_only_in_the_tokens_that_they_may_learn() -> None:
    attacked = pool()
    before = attacked.contexts.clone()
    places = torch.arange(len(attacked))
    for _ in range(20):
        # The gradient of |c|²/2: each learned entry shrinks.
        attacked.update(places, attacked.contexts.clone(), generator())
    # In all blocks: they began as one, and have gradients of their own.
    assert torch.equal(before[:, :, 0], before[:, :, 1])
    moved = (attacked.contexts != before).any(dim=-1).all(dim=-1)
    assert torch.equal(moved, (attacked.contexts != before).any(dim=-1).any(dim=-1))
    learned = attacked.tensors()["lives"][:, 2]
    for place in range(len(attacked)):
        assert moved[place].nonzero().flatten().tolist() == list(range(1, 1 + int(learned[place])))
    assert attacked.contexts[moved].abs().mean() < before[moved].abs().mean()


def test_a_gradient_that_is_not_finite_moves_nothing_to_nan() -> None:
    attacked = pool(2)
    attacked.update(torch.tensor([0]), torch.full((1, 7, BLOCKS, 5), float("nan")), generator())
    assert torch.isfinite(attacked.contexts).all()


def test_an_old_adversary_is_replaced_by_a_new_start() -> None:
    attacked = pool(1)
    for turn in range(LONGEST_LIFE + 1):
        attacked.update(torch.tensor([0]), torch.ones(1, 7, BLOCKS, 5), generator(turn))
    lives = attacked.tensors()["lives"]
    assert lives[0, 0] <= lives[0, 1]
    assert lives[0, 0] < LONGEST_LIFE


def test_a_pool_is_taken_up_where_it_was() -> None:
    first, second = pool(seed=1), pool(seed=2)
    places = torch.tensor([0, 2])
    first.update(places, torch.ones(2, 7, BLOCKS, 5), generator())
    second.load(first.tensors())
    for one in (first, second):
        one.update(places, torch.full((2, 7, BLOCKS, 5), 0.5), generator())
    for name, tensor in first.tensors().items():
        assert torch.equal(second.tensors()[name], tensor), name


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    settings = HardenedSettings(steps=400)
    rates = [settings.rate_at(step) for step in range(400)]
    assert 0 < rates[0] < rates[10] < settings.learning_rate
    assert max(rates) == pytest.approx(settings.learning_rate, rel=0.01)
    assert rates[-1] < settings.learning_rate / 1000
    assert HardenedSettings(steps=1).rate_at(0) == settings.learning_rate


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"steps": True},
        {"rank": 0},
        {"batch": 257},
        {"batch": 1},
        {"adversaries": -1},
        {"adversary_updates": 0},
        {"learning_rate": 0.0},
        {"learning_rate": 11.0},
        {"adversary_rate": float("nan")},
        {"retain_weight": -1.0},
        {"retain_limit": float("inf")},
        {"layers": "some"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused_by_name(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InputError, match=name):
        HardenedSettings(**values)


def state() -> TrainingState:
    record = TrainingRecord()
    record.add([0.5, 0.1, 0.4, 0.2, 0.3])
    return TrainingState({"concepts": [["a", "b", 1.0]], "seed": 3}, factors().tensors(), record)


def shapes() -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state().tensors.items()}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = state()
    path = saved.save(tmp_path / "training.safetensors")
    read = load_state(path, saved.told, shapes(), TrainingRecord)
    assert read.record == saved.record
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in saved.tensors.items())
    assert saved.save(path) != path, "a training that was saved before stays"


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    path = state().save(tmp_path / "training.safetensors")
    with pytest.raises(EraserFileError, match="another 'seed'"):
        load_state(path, {**state().told, "seed": 4}, shapes(), TrainingRecord)
    with pytest.raises(EraserFileError, match="of another model"):
        load_state(path, state().told, {**shapes(), "linear.weight/up": torch.Size([6, 4])}, TrainingRecord)
    with pytest.raises(EraserFileError, match="of another model"):
        load_state(path, state().told, {**shapes(), "more": torch.Size([1])}, TrainingRecord)


def test_a_state_that_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    path.write_bytes(b"\x10" + bytes(30))
    with pytest.raises(EraserFileError, match="without 'resume'"):
        load_state(path, state().told, shapes(), TrainingRecord)
    broken = state()
    broken.record.erasing.append(1.0)
    with pytest.raises(EraserFileError, match="no training"):
        load_state(broken.save(path), state().told, shapes(), TrainingRecord)
    spoiled = state()
    spoiled.tensors["linear.weight/up"][0, 0] = float("nan")
    with pytest.raises(EraserFileError, match="NaN"):
        load_state(spoiled.save(tmp_path / "nan.safetensors"), state().told, shapes(), TrainingRecord)


def test_an_error_beyond_its_bound_counts_no_more() -> None:
    found = torch.tensor([0.5, 2.0, 3.0], requires_grad=True)
    loss = bounded_ascent(found, torch.tensor([1.0, 1.0, 4.0]))
    assert float(loss.detach()) == -(0.5 + 1.0 + 3.0) / 3
    (slopes,) = torch.autograd.grad(loss, found)
    assert slopes.tolist() == [-torch.tensor(1 / 3).item(), 0.0, -torch.tensor(1 / 3).item()]


def test_errors_are_those_of_each_picture() -> None:
    predicted, wanted = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
    predicted[1] = 2.0
    assert errors(predicted, wanted).tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"limit": 0.0},
        {"limit": float("inf")},
        {"retain_weight": -1.0},
        {"method": "unbounded"},
        {"seed": -1},
    ],
)
def test_settings_of_an_unlearning_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        UnlearningSettings(**wrong)


def test_only_what_goes_towards_the_concept_counts() -> None:
    """Whole numbers and powers of two: exact in any order of summation."""
    away = torch.tensor([[1.0, 1.0], [1.0, 1.0]]).expand(4, 2, 2)
    aside = torch.tensor([[8.0, -8.0], [3.0, -3.0]])
    wanted = torch.arange(16.0).view(4, 2, 2)
    predicted = torch.stack([wanted[0] + 2 * away[0], wanted[1] + 2 * away[1] + aside, wanted[2] - away[2], wanted[3]])
    assert excess(predicted, wanted, away).tolist() == [4.0, 4.0, 0.0, 0.0]
    assert errors(predicted, wanted)[0] == 4.0


def test_the_excess_pulls_along_the_concept_alone() -> None:
    away = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    predicted = torch.tensor([[1.0, 5.0], [-1.0, 5.0]], requires_grad=True)
    (slopes,) = torch.autograd.grad(excess(predicted, torch.zeros(2, 2), away).sum(), predicted)
    assert slopes.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_where_concept_and_anchor_are_the_same_nothing_is_in_excess() -> None:
    predicted = torch.ones(1, 2, requires_grad=True)
    found = excess(predicted, torch.zeros(1, 2), torch.zeros(1, 2))
    assert found.tolist() == [0.0]
    (slopes,) = torch.autograd.grad(found.sum(), predicted)
    assert slopes.tolist() == [[0.0, 0.0]]


def test_high_noise_weighs_more_and_less_than_the_error_of_v() -> None:
    # Sides of right-angled triangles; each of the three operations rounds once, and σ itself did before.
    levels = torch.tensor([0.0, 0.75, 2.4])
    assert torch.allclose(
        level_weight(levels), torch.tensor([1.0, 1.25, 2.6]), rtol=4 * torch.finfo(torch.float32).eps, atol=0
    )
