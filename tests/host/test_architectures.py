"""Which models are supported, at their full size (on the meta device), and which are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.architectures.table import FAMILIES, REFUSED
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs.export_lora import lora_names
from small_models import SMALL

SD_DEPTHS = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}


def sdxl_depths(down: list[int], middle: int, up: list[int], blocks: int = 2) -> dict[str, Any]:
    return {
        "channel_mult": [1, 2, 4],
        "num_res_blocks": [blocks] * 3,
        "transformer_depth": down,
        "transformer_depth_middle": middle,
        "transformer_depth_output": up,
    }


SDXL_DEPTHS = sdxl_depths([0, 0, 2, 2, 10, 10], 10, [0, 0, 0, 2, 2, 2, 10, 10, 10])
REFINER_DEPTHS = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_middle": 4,
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
}
KOALA_700M = sdxl_depths([0, 2, 5], -1, [0, 0, 2, 2, 5, 5], blocks=1)

# Configuration, what a checkpoint of it adds to ComfyUI's own entry, number of projections, text dimension.
FULL_SIZE = {
    "SD15": ("SD15", SD_DEPTHS, 32, 768),
    "SD15 inpainting": ("SD15", {**SD_DEPTHS, "in_channels": 9}, 32, 768),
    "instruct-pix2pix": ("SD15_instructpix2pix", {**SD_DEPTHS, "in_channels": 8}, 32, 768),
    "SD2.1": ("SD20", SD_DEPTHS, 32, 1024),
    "SD2.1 unCLIP": ("SD21UnclipH", SD_DEPTHS, 32, 1024),
    "SDXL": ("SDXL", SDXL_DEPTHS, 140, 2048),
    "SDXL inpainting": ("SDXL", {**SDXL_DEPTHS, "in_channels": 9}, 140, 2048),
    "SDXL ip2p": ("SDXL_instructpix2pix", {**SDXL_DEPTHS, "in_channels": 8}, 140, 2048),
    "SDXL refiner": ("SDXLRefiner", REFINER_DEPTHS, 88, 1280),
    "SSD-1B": ("SSD1B", sdxl_depths([0, 0, 2, 2, 4, 4], -1, [0, 0, 0, 1, 1, 2, 10, 4, 4]), 68, 2048),
    "Vega": ("Segmind_Vega", sdxl_depths([0, 0, 1, 1, 2, 2], -1, [0, 0, 0, 1, 1, 1, 2, 2, 2]), 30, 2048),
    "KOALA-700M": ("KOALA_700M", KOALA_700M, 42, 2048),
}


def on_meta(configuration: str, unet_config: dict[str, Any]) -> Any:
    """A full-size MODEL without memory, made by ComfyUI's own configuration class."""
    config_class = getattr(comfy.supported_models, configuration)
    common = {"image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False}
    if "num_heads" not in (config_class.unet_extra_config or {}):
        common |= {"num_heads": -1, "num_head_channels": 64}
    config = config_class({**common, **config_class.unet_config, **unet_config})
    if config.unet_config.get("adm_in_channels") is not None:
        config.unet_config["num_classes"] = "sequential"
    base = config.get_model({}, "", device="meta")
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


@pytest.mark.parametrize("case", FULL_SIZE)
def test_full_size_models_are_read_in_the_right_places(case: str) -> None:
    configuration, extra, projections, dimension = FULL_SIZE[case]
    model = on_meta(configuration, extra)
    architecture = architecture_of(model)
    stream, *pooled = architecture.streams
    assert (len(stream.keys), stream.dimension) == (projections, dimension)
    # SDXL and its relatives read 1280 pooled numbers, and sizes after them.
    assert [(one.name, one.dimension, one.sliced) for one in pooled] == (
        [("pooled", 1280, True)] if architecture.name.startswith("SDXL") else []
    )
    assert configuration in architecture.family.configurations
    weights = model.model.state_dict()
    assert all(weights[key].shape[1] == dimension for key in stream.keys)
    assert all(".attn2.to_k." in key or ".attn2.to_v." in key for key in stream.keys)
    names = lora_names(model, architecture, architecture.keys)
    assert len(set(names.values())) == projections + len(pooled)
    known = ("lora_unet_down", "lora_unet_mid", "lora_unet_up", "lora_unet_add_embedding_linear_1")
    assert all(name.startswith(known) for name in names.values())


# What a small model is of, what makes it one of full size, and the dimension and number of projections per stream.
FULL_SIZE_BY_SMALL: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]]]] = {
    "Flux dev": (
        {"hidden_size": 3072, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56]}
        | {"context_in_dim": 4096, "vec_in_dim": 768, "mlp_ratio": 4.0},
        {"text": (4096, 1), "pooled": (768, 1)},
    ),
    "SD3": (
        {"depth": 24, "adm_in_channels": 2048}
        | {
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 1536},
            }
        },
        {"text": (4096, 1), "pooled": (2048, 1)},
    ),
    "Wan 2.1": (
        {"dim": 5120, "ffn_dim": 13824, "freq_dim": 256, "text_dim": 4096, "num_heads": 40, "num_layers": 40},
        {"text": (4096, 1)},
    ),
    "Cosmos Predict2": (
        {
            "model_channels": 2048,
            "num_blocks": 28,
            "num_heads": 16,
            "adaln_lora_dim": 256,
            "crossattn_emb_channels": 1024,
        },
        {"text": (1024, 56)},
    ),
    "Qwen-Image": (
        {"num_layers": 60, "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 3584}
        | {"axes_dims_rope": (16, 56, 56)},
        {"text": (3584, 1)},
    ),
    "HiDream": (
        {"attention_head_dim": 128, "axes_dims_rope": [64, 32, 32], "caption_channels": [4096, 4096]}
        | {"llama_layers": [*range(32), *[31] * 16], "num_attention_heads": 20, "num_routed_experts": 4}
        | {"num_activated_experts": 2, "num_layers": 16, "num_single_layers": 32, "text_emb_dim": 2048},
        {
            **{f"llama.{layer}": (4096, 1) for layer in range(31)},
            "llama.31": (4096, 17),
            "t5xxl": (4096, 1),
            "pooled": (2048, 1),
        },
    ),
}


@pytest.mark.parametrize("name", FULL_SIZE_BY_SMALL)
def test_full_size_models_of_other_architectures_have_the_same_streams(name: str) -> None:
    unet, streams = FULL_SIZE_BY_SMALL[name]
    config = replace(SMALL[name], unet={**SMALL[name].unet, **unet}).config()
    base = config.get_model({}, "", device="meta")
    model = comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))
    found = {stream.name: (stream.dimension, len(stream.keys)) for stream in architecture_of(model).streams}
    assert found == streams


def test_the_x4_upscaler_also_reads_the_text_where_its_self_attention_is_disabled() -> None:
    model = on_meta("SD_X4Upscaler", {"in_channels": 7, "num_heads": 8, "num_head_channels": -1, **_upscaler_depths()})
    keys = architecture_of(model).streams[0].keys
    blocks = {key.split(".attn")[0]: model.model.get_submodule(key.split(".attn")[0]) for key in keys}
    assert any(block.disable_self_attn for block in blocks.values())
    for prefix, block in blocks.items():
        read = {key.removeprefix(f"{prefix}.").split(".")[0] for key in keys if key.startswith(f"{prefix}.")}
        assert read == ({"attn1", "attn2"} if block.disable_self_attn else {"attn2"})


def _upscaler_depths() -> dict[str, Any]:
    return {
        "channel_mult": [1, 2, 2, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [0, 0, 1, 1, 1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "disable_self_attentions": [True, True, True, False],
        "num_classes": 1000,
    }


def test_every_architecture_of_this_host_is_in_the_table() -> None:
    supported = [name for family in FAMILIES for name in family.configurations]
    assert len(set(supported)) == len(supported)
    assert not set(supported) & set(REFUSED)
    known = {config.__name__ for config in comfy.supported_models.models}
    assert known <= {*supported, *REFUSED}, "add a row for these, or say why they are refused"


def test_architectures_that_cannot_be_erased_from_are_refused_in_a_sentence() -> None:
    refused = [config for config in comfy.supported_models.models if config.__name__ in REFUSED]
    assert len(refused) > 5
    for config in refused:
        with pytest.raises(UnsupportedModelError, match=rf"{config.__name__}, .*: {REFUSED[config.__name__]}"):
            architecture_of(_Named(config.__name__))
    with pytest.raises(UnsupportedModelError, match="not conditioned on text"):
        architecture_of(_Named("SVD_img2vid"))
    with pytest.raises(WrongConnectionError, match="MODEL is None"):
        architecture_of(None)


def test_an_architecture_that_nobody_has_heard_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unheard = type("Unheard", (comfy.supported_models.SD15,), {})
    monkeypatch.setattr(comfy.supported_models, "Unheard", unheard, raising=False)
    with pytest.raises(UnsupportedModelError, match=r"Unheard, .*does not know it\. Supported are: SD1, SD2, SDXL"):
        architecture_of(_Named("Unheard"))


def test_an_sd3_that_processes_its_text_first_is_refused() -> None:
    small = SMALL["SD3"]
    processed = replace(small, unet={**small.unet, "context_processor_layers": 1, "context_size": 40})
    with pytest.raises(UnsupportedModelError, match=r"SD3 model cannot be erased from exactly: .*context_processor"):
        architecture_of(processed.model())


def test_a_model_whose_projections_read_something_else_is_refused() -> None:
    model = SMALL["Mochi"].model()
    layer = model.model.diffusion_model.t5_yproj
    layer.weight = torch.nn.Parameter(layer.weight[:, :8].detach().clone())
    with pytest.raises(UnsupportedModelError, match="several that read different ones"):
        architecture_of(model)


class _Named:
    """As much of a MODEL as is looked at before it is refused: the class of its configuration.

    The configuration itself is not initialised: some want more of a checkpoint than their own entry says.
    """

    def __init__(self, configuration: str) -> None:
        config_class = getattr(comfy.supported_models, configuration)
        self.model = torch.nn.Module()
        self.model.model_config = config_class.__new__(config_class)
