"""How the pocket model is trained and kept: resumption, and the compact file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pocket_model.compact import STEPS_PER_SIGMA, UNET, read_compact, write_compact
from pocket_model.recipe import Stage
from pocket_model.train import once
from pocket_model.training import Loss, Training
from tests.windows_rules import holds

STAGE = Stage(steps=12, batch=4, rate=1e-2, warmup=3)


class Stopped(Exception):
    """What a person's Ctrl-C stands for here."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))


def loss_of(trained: nn.Module, stop_after: int | None = None) -> Loss:
    calls = iter(range(10**6))

    def loss(generator: torch.Generator) -> Tensor:
        if next(calls) == stop_after:
            raise Stopped
        rows = torch.randn(STAGE.batch, 5, generator=generator)
        return (trained(rows)[:, 0] - rows.sum(dim=1)).square().mean()

    return loss


def train(state: Path, stop_after: int | None = None) -> dict[str, Tensor]:
    trained = network()
    return Training(trained, STAGE, state, seed=1, weight_decay=0.01).run(loss_of(trained, stop_after))


def test_what_a_stage_ended_with_is_made_once_and_kept(tmp_path: Path) -> None:
    pictures = torch.arange(48.0).view(2, 3, 2, 4).to(memory_format=torch.channels_last)
    path = tmp_path / "pictures.safetensors"
    assert torch.equal(once(path, lambda: {"pictures": pictures})["pictures"], pictures)
    assert torch.equal(once(path, lambda: {"pictures": 0 * pictures})["pictures"], pictures)


@pytest.mark.usefixtures("windows")
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole.safetensors")
    monkeypatch.setattr("pocket_model.training.SAVE_SECONDS", 0.0)
    with pytest.raises(Stopped):
        train(tmp_path / "parts.safetensors", stop_after=7)
    resumed = train(tmp_path / "parts.safetensors")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


def test_a_parameter_may_learn_faster(tmp_path: Path) -> None:
    def moved(faster: dict[str, float]) -> float:
        trained = network()
        before = trained.get_parameter("0.bias").detach().clone()
        one_step = replace(STAGE, steps=1)
        state = tmp_path / f"{len(faster)}.safetensors"
        Training(trained, one_step, state, 1, 0.0, faster).run(loss_of(trained))
        return float((trained.get_parameter("0.bias").detach() - before).abs().max())

    # Adam's first step is the rate times g/(|g| + ε), the same gradient in both. Roundings to float32: of a dozen
    # operations each, and of the parameter itself, a uniform number below 5^-0.5, before and after the step.
    plain = moved({})
    rounding = 24 * 2**-24 * 7 * plain + 2 * 8 * 2**-24 * (5**-0.5 + 7 * plain)
    assert abs(moved({"0.bias": 7.0}) - 7 * plain) <= rounding < plain


def test_training_lowers_the_loss_and_leaves_frozen_parameters_alone(tmp_path: Path) -> None:
    trained = network()
    trained[0].weight.requires_grad_(False)  # type: ignore[union-attr,operator]
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    rows = torch.randn(1000, 5, generator=torch.Generator().manual_seed(99))
    error = (trained(rows)[:, 0] - rows.sum(dim=1)).square().mean().item()
    stage = replace(STAGE, steps=200)
    average = Training(trained, stage, tmp_path / "state.safetensors", seed=1, weight_decay=0.0).run(loss_of(trained))
    # Guessing the mean of the sums misses by their variance, five.
    assert (trained(rows)[:, 0] - rows.sum(dim=1)).square().mean().item() < min(error, 5) / 2
    assert torch.equal(trained.state_dict()["0.weight"], before["0.weight"])
    assert "0.weight" not in average


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 1000), st.sampled_from([1e-6, 1.0, 1e4]))
def test_the_compact_form_rounds_every_weight_by_half_a_step_at_most(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, seed: int, scale: float
) -> None:
    path = tmp_path_factory.mktemp("compact") / "weights.safetensors"
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale
    weight[0] = 0
    bias = torch.randn(rows) * scale
    write_compact(path, {UNET: {"layer.weight": weight, "layer.bias": bias}})
    shapes = {"layer.weight": weight.shape, "layer.bias": bias.shape}
    found = read_compact(path, UNET, shapes)
    assert torch.equal(found["layer.bias"], bias)
    assert not holds(path)
    step = torch.maximum(weight.square().mean(dim=1).sqrt() / STEPS_PER_SIGMA[UNET], weight.abs().amax(dim=1) / 127)
    # The division by the step and the product with it round once each; the step is computed there and here, from a mean
    # of squares, its root and a quotient, and is the same to so much.
    largest, sums = weight.abs().amax(dim=1), (columns + 4) * 2**-23
    bound = step / 2 * (1 + sums) + largest * 4 * 2**-23
    assert ((found["layer.weight"] - weight).abs() <= bound[:, None]).all()


@pytest.mark.parametrize("count", [3, 5000])
def test_a_compact_tensor_of_another_size_is_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "weights.safetensors"
    write_compact(path, {UNET: {"layer.weight": torch.randn(10, 10)}})
    damaged = load_file(path)
    write_compact(tmp_path / "other.safetensors", {UNET: {"layer.weight": torch.randn(1, count)}})
    damaged["unet/layer.weight/deflated"] = load_file(tmp_path / "other.safetensors")["unet/layer.weight/deflated"]
    path = tmp_path / "damaged.safetensors"
    save_file(damaged, path)
    with pytest.raises(ValueError, match="not 100"):
        read_compact(path, UNET, {"layer.weight": torch.Size((10, 10))})
