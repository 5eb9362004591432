"""What other tools erased, read from their files as an ERASER."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bounds
import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from rece_pack.nodes.host.architectures.detection import PREFIX, architecture_of
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.jobs.import_eraser import ImportedChange, import_change
from rece_pack.nodes.host.patching.weights import EffectiveWeights
from rece_pack.nodes.host.session import Session
from rece_pack.rece_ops import Eraser, InputError
from rece_pack.rece_ops.formats.checkpoint_file import open_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from tools.client import ExecutionError
from tools.graph import Graph
from tools.server import ComfyServer

RANK = 5


@pytest.fixture(scope="module")
def model(checkpoint: Callable[[str], Path]) -> Any:
    return comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_vae=False, output_clip=False)[0]


@pytest.fixture(scope="module")
def plain(model: Any) -> dict[str, Tensor]:
    weights = EffectiveWeights(model, architecture_of(model).streams[0].keys, torch.device("cpu"))
    return {key: weight.detach() for key, weight in weights.items()}


@pytest.fixture(scope="module")
def erased(plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """W·T by ComfyUI's names, as UCE leaves it: a change of rank 5."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(768, RANK, generator=generator) / 768**0.5 for _ in range(2))
    eraser = Eraser(left, right.T.contiguous())
    return {key: eraser.apply_to_weight(weight) for key, weight in plain.items()}


def by_diffusers_names(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return {name: weights[PREFIX + key] for name, key in names.items() if PREFIX + key in weights}


SPELLINGS: dict[str, Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "diffusers": by_diffusers_names,
    "diffusers with unet": lambda model, weights: {
        f"unet.{k}": w for k, w in by_diffusers_names(model, weights).items()
    },
    "a whole checkpoint": lambda model, weights: {
        **{f"model.{key}": weight for key, weight in weights.items()},
        "first_stage_model.decoder.conv_in.weight": torch.zeros(4),
    },
    "a diffusion model": lambda model, weights: {key.removeprefix(PREFIX): w for key, w in weights.items()},
}


def imported(model: Any, path: Path, tensors: Mapping[str, Tensor], max_rank: int = 0) -> ImportedChange:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    with open_checkpoint(path) as file:
        return import_change(Session.open(model), file, max_rank)


def assert_is(found: ImportedChange, plain: Mapping[str, Tensor], erased: Mapping[str, Tensor], rank: int) -> None:
    for key, weight in plain.items():
        change = (erased[key] - weight).double()
        up, down = (factor.double() for factor in found.change.changes[key])
        size = min(change.shape)
        # The rounding of the factors to float32, and what is left out: directions below the limit of `nearest_of_rank`, and
        # as far as the eigenvalues of C·Cᵀ are known in float64.
        limit = torch.finfo(torch.float32).eps / 8 + (size * bounds.unit(torch.float64) * 2) ** 0.5
        left_out = limit * size**0.5 * float(torch.linalg.matrix_norm(change, 2))
        rounding = 2.1 * bounds.unit(torch.float32) * float(up.norm() * down.norm())
        assert float((up @ down - change).norm()) <= left_out + rounding
        # In float32, W·T itself is rounded, which no low rank holds.
        assert up.shape[1] >= rank


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_change_is_the_other_tools(
    model: Any, plain: dict[str, Tensor], erased: dict[str, Tensor], tmp_path: Path, spelling: str
) -> None:
    found = imported(model, tmp_path / "x.safetensors", SPELLINGS[spelling](model, erased))
    assert_is(found, plain, erased, RANK)
    assert found.share == pytest.approx(1, abs=1e-6)  # no bound: all that counts is kept
    assert found.left_out == (spelling == "a whole checkpoint")
    assert (found.equal, len(found.change.changes)) == (0, len(plain))


def test_a_small_rank_keeps_a_share_and_says_which(
    model: Any, plain: dict[str, Tensor], erased: dict[str, Tensor], tmp_path: Path
) -> None:
    found = imported(model, tmp_path / "x.safetensors", erased, max_rank=2)
    kept, whole = 0.0, 0.0
    for key, weight in plain.items():
        energies = torch.linalg.svdvals((erased[key] - weight).double()).square()
        kept, whole = kept + float(energies[:2].sum()), whole + float(energies.sum())
        assert found.change.changes[key].up.shape[1] == 2
    # A share of sums of squares that are rounded to float32 in each factor.
    assert abs(found.share - kept / whole) < 100 * bounds.unit(torch.float32)
    assert 0.3 < found.share < 0.9


def test_weights_that_only_rounding_moved_are_the_models_own(
    model: Any, plain: dict[str, Tensor], erased: dict[str, Tensor], tmp_path: Path
) -> None:
    first, *others = plain
    tensors = {first: erased[first].half(), **{key: plain[key].half() for key in others}}
    found = imported(model, tmp_path / "x.safetensors", tensors)
    assert list(found.change.changes) == [first]
    assert found.equal == len(others)


def test_what_is_no_erasure_of_this_model_is_refused(model: Any, plain: dict[str, Tensor], tmp_path: Path) -> None:
    key = next(iter(plain))
    cases: list[tuple[dict[str, Tensor], type[Exception], str]] = [
        ({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, WrongConnectionError, "has no weight of this SD1 model"),
        ({}, WrongConnectionError, "but nothing"),
        (plain, WrongConnectionError, "are those of the MODEL"),
        ({key: torch.ones(3, 5)}, WrongConnectionError, r"is \[3, 5\], but the MODEL's is"),
        ({key: plain[key] * torch.nan}, InputError, "holds NaN or infinite values"),
    ]
    for tensors, error, message in cases:
        with pytest.raises(error, match=message):
            imported(model, tmp_path / "x.safetensors", tensors)


def test_it_erases_in_the_real_server_and_can_be_saved(
    server: ComfyServer, checkpoint: Callable[[str], Path], model: Any, erased: dict[str, Tensor]
) -> None:
    folder, name = server.base / "models" / "erasers", server.link_model(checkpoint("sd15"))
    save_file({k: w.contiguous() for k, w in by_diffusers_names(model, erased).items()}, folder / "uce.safetensors")
    graph = Graph()
    loaded = graph.load(name)
    found = graph.node("RECE_ImportEraser", model=loaded.out(0), file="erasers/uce.safetensors", concepts="nude -> art")
    applied = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=found.out(0), strength=1.0)
    graph.node("RECE_SaveEraser", eraser=found.out(0), file_name="imported uce", if_exists="replace")
    before, after = graph.sample(loaded, "a nude"), graph.sample(loaded, "a nude", model=applied)
    report = graph.node("PreviewAny", source=found.out(1))
    result = server.run(graph.prompt)
    assert "nude → art" in result.outputs[report.id]["text"][0]
    pictures = [result.images(node)[0].astype(float) for node in (before, after)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1.0

    again = Graph()
    loaded = again.load(name)
    eraser = again.node("RECE_LoadEraser", eraser_name="imported uce.safetensors")
    applied = again.node("RECE_ApplyEraser", model=loaded.out(0), eraser=eraser.out(0), strength=1.0)
    after_loading = again.sample(loaded, "a nude", model=applied)
    assert np.array_equal(server.run(again.prompt).images(after_loading)[0].astype(float), pictures[1])

    graph = Graph()
    loaded = graph.load(name)
    eraser = graph.node("RECE_LoadEraser", eraser_name="imported uce.safetensors").out(0)
    applied = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=eraser, strength=1.0)
    sides: list[dict[str, Any]] = [
        {"model": loaded.out(0), "eraser": eraser},
        {"model": applied.out(0), "original": loaded.out(0)},
    ]
    derived = [
        graph.node("RECE_DeriveEmbedding", clip=loaded.out(1), concept="nude", regularization=0.1, **side)
        for side in sides
    ]
    said = [graph.node("PreviewAny", source=node.out(1)) for node in derived]
    result = server.run(graph.prompt)
    by_eraser, by_models = (result.outputs[node.id]["text"][0] for node in said)
    assert by_eraser == by_models
    graph = Graph()
    loaded = graph.load(name)
    eraser = graph.node("RECE_LoadEraser", eraser_name="imported uce.safetensors").out(0)
    graph.node("RECE_ErasureReport", model=loaded.out(0), clip=loaded.out(1), eraser=eraser, concepts="nude")
    with pytest.raises(ExecutionError, match="has no text transform, which is what the report measures"):
        server.run(graph.prompt)

    wrong = Graph()
    loaded = wrong.load(name)
    wrong.node(
        "PreviewAny",
        source=wrong.node("RECE_ImportEraser", model=loaded.out(0), file="erasers/imported uce.safetensors"),
    )
    with pytest.raises(ExecutionError, match="has no weight of this SD1 model"):
        server.run(wrong.prompt)
