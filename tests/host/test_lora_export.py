"""The LoRA file, read back by the stock loader and by diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bounds
import comfy.lora
import comfy.sd
import comfy.utils
import pytest
import torch
from bounds import Rounded, assert_within
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.jobs.export_lora import lora_metadata, lora_names, lora_tensors
from rece_pack.nodes.host.patching.weights import EffectiveWeights
from rece_pack.nodes.host.session import Session
from rece_pack.rece_ops import Eraser, EraserSet
from torch import Tensor

from tools.launch_comfyui import supply_missing_modules

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(checkpoint: Callable[[str], Path]) -> Any:
    return comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_vae=False, output_clip=False)[0]


@pytest.fixture(scope="module", params=[6, 768], ids=["thin", "dense"])
def eraser(request: pytest.FixtureRequest) -> EraserSet:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(768, request.param, generator=generator) / 768**0.5 for _ in range(2))
    return EraserSet({"text": Eraser(left, right.T.contiguous())}, {"architecture": "SD1", "concepts": ["x"]})


def weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(EffectiveWeights(model, architecture_of(model).streams[0].keys, CPU))


def as_lora(
    model: Any, eraser: EraserSet, strength: float = 1.0, rank: int = 0, dtype: torch.dtype = torch.float32
) -> Any:
    return lora_tensors(Session.open(model), eraser, strength, rank, dtype)


def with_lora(weight: Tensor, up: Tensor, down: Tensor, eraser: Eraser, strength: float = 1.0) -> Rounded:
    """W + up·down, computed in float32 by others, as it should be of an eraser."""
    left, right = eraser.factors()
    # The strength is on a factor, in float32, before anything is computed in float64.
    scaled = Rounded(left) * strength
    change = Rounded(weight.double()) @ Rounded(scaled.value, scaled.error, torch.float64)
    exact = bounds.as_lora(up, down, change if right is None else change @ right.double())
    summed = Rounded(exact.value, exact.error + bounds.product(up, down, torch.float32), torch.float32)
    # α over the rank, which is one, and the strength of the loader.
    return summed * 1.0 + weight


@torch.no_grad()
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_the_stock_loader_makes_the_erased_weights(model: Any, eraser: EraserSet, strength: float) -> None:
    tensors = as_lora(model, eraser, strength)
    loaded, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    names = lora_names(model, architecture_of(model), architecture_of(model).keys)
    for key, weight in weights(model).items():
        factors = [tensors[f"{names[key]}.lora_{side}.weight"] for side in ("up", "down")]
        assert_within(weights(loaded)[key], with_lora(weight, *factors, eraser["text"], strength), key)


@torch.no_grad()
def test_no_key_is_left_over(model: Any, eraser: EraserSet, caplog: pytest.LogCaptureFixture) -> None:
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    tensors = as_lora(model, eraser)
    patches = comfy.lora.load_lora(tensors, keys)
    assert set(patches) == set(architecture_of(model).streams[0].keys)
    assert "lora key not loaded" not in caplog.text


@torch.no_grad()
def test_half_precision_and_small_ranks_are_close(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(768, 12, generator=generator) for _ in range(2))
    falling = EraserSet({"text": Eraser(left * 0.5 ** torch.arange(12), right.T.contiguous() / 768)})
    # Rounding both factors of each direction, or leaving out all but the first six, each half of the one before.
    for rank, dtype, bound in ((0, torch.float16, 2.1 * bounds.unit(torch.float16)), (6, torch.float32, 2**-5)):
        tensors = as_lora(model, falling, rank=rank, dtype=dtype)
        loaded, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
        for key, weight in weights(model).items():
            expected = falling["text"].apply_to_weight(weight)
            assert float((weights(loaded)[key] - expected).norm() / (expected - weight).norm()) < bound
            if rank:
                assert max(t.shape[1] for name, t in tensors.items() if "lora_up" in name) <= rank


def test_metadata_names_the_base_and_the_concepts(model: Any, eraser: EraserSet) -> None:
    metadata = lora_metadata(architecture_of(model), eraser)
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert '"concepts": ["x"]' in metadata["rece_provenance"]


@torch.no_grad()
def test_diffusers_makes_the_erased_weights(model: Any, eraser: EraserSet, comfyui: Path) -> None:
    """A diffusers UNet of the same layout, its own LoRA converter and loader, and the weights they end up with."""
    supply_missing_modules(comfyui)
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    unet = UNet2DConditionModel(
        block_out_channels=(320,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=768,
        attention_head_dim=8,
    )
    by_diffusers_name = _copy_projections(model, unet)
    tensors = as_lora(model, eraser)
    names = lora_names(model, architecture_of(model), architecture_of(model).keys)
    factors = {
        _diffusers_name(model, key): [tensors[f"{names[key]}.lora_{side}.weight"] for side in ("up", "down")]
        for key in names
    }
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(tensors))
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, network_alphas=alphas, unet=unet)
    unet.fuse_lora()
    for name, weight in by_diffusers_name.items():
        layer = unet.get_submodule(name.removesuffix(".weight"))
        found = getattr(layer, "base_layer", layer).weight
        assert_within(found, with_lora(weight, *factors[name], eraser["text"]), name)


def _diffusers_name(model: Any, key: str) -> str:
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return next(name for name, one in names.items() if f"diffusion_model.{one}" == key)


def _copy_projections(model: Any, unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give `unet` the MODEL's projections, and return them by their diffusers names."""
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    by_key = {f"diffusion_model.{key}": name for name, key in names.items()}
    found = {by_key[key]: weight for key, weight in weights(model).items()}
    for name, weight in found.items():
        unet.get_parameter(name).copy_(weight)
    return found
