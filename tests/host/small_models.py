"""A small random instance of every architecture, made by the host's own classes, and a prompt for each."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch
from torch import Tensor

CPU = torch.device("cpu")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class SmallModel:
    """One case.

    Attributes:
        configuration: class in ComfyUI's `supported_models`.
        unet: its `unet_config`, as small as the class allows.
        latent: shape of a picture [channels, (frames,) height, width].
        tokens: shape of the token embeddings of a prompt.
        values: shapes of what else CONDITIONING holds; an attention mask, given as the numbers of tokens read and not
            read; or the value itself.
        streams: dimension and number of projections of every text stream that is to be found.
        parameters: a class of the host whose fields of a later version are to be filled in (module, class, values).
    """

    configuration: str
    unet: dict[str, Any]
    latent: Shape
    tokens: Shape
    streams: dict[str, tuple[int, int]]
    values: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[str, str, dict[str, Any]] | None = None

    @property
    def exists(self) -> bool:
        """Whether this host knows the architecture."""
        return hasattr(comfy.supported_models, self.configuration)

    def config(self, dtype: torch.dtype = torch.float32) -> Any:
        """The host's configuration, with our sizes instead of those that it adds."""
        config_class = getattr(comfy.supported_models, self.configuration)
        config = config_class({**config_class.unet_config, **self.unet})
        config.unet_config.update({**self.unet, **self._later_fields()})
        config.set_inference_dtype(dtype, None)
        return config

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
        """The MODEL, with random weights, which computes in `dtype`."""
        base = self.config(dtype).get_model({}, "", device=CPU)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in base.state_dict().items():
                if weight.is_floating_point() and name.startswith("diffusion_model."):
                    weight.copy_(_random(name, weight.shape, generator))
        return comfy.model_patcher.ModelPatcher(base, CPU, CPU)

    def prompt(self, seed: int) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings [1, n, d] and values, as an entry of CONDITIONING."""
        generator = torch.Generator().manual_seed(seed)
        values = {name: _value(name, given, generator) for name, given in self.values.items()}
        return torch.randn(1, *self.tokens, generator=generator), values

    def _later_fields(self) -> dict[str, Any]:
        if self.parameters is None:
            return {}
        module, name, values = self.parameters
        known = {one.name for one in dataclasses.fields(getattr(importlib.import_module(module), name))}
        return {field: value for field, value in values.items() if field in known}


def denoised(base: Any, prompt: tuple[Tensor, dict[str, Any]], latent: Shape) -> Tensor:
    """What a loaded model makes of noise with that prompt, by the way that sampling takes."""
    embedding, values = prompt
    noise = torch.randn(1, *latent, generator=torch.Generator().manual_seed(7))
    conditions = base.extra_conds(
        cross_attn=embedding.clone(),
        **{"pooled_output": None, **values},
        noise=noise,
        device=CPU,
        latent_image=noise,
        denoise_mask=None,
        width=64,
        height=64,
        prompt_type="positive",
        seed=0,
    )
    ready = {name: one.process_cond(batch_size=1, device=CPU, area=None).cond for name, one in conditions.items()}
    sigma = base.model_sampling.sigma_max.float().reshape(1) / 2
    with torch.no_grad():
        return base.apply_model(noise, sigma, transformer_options={}, **ready)


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values that keep activations near 1, and no gain of a norm at 1 exactly."""
    values = torch.randn(shape, generator=generator)
    if len(shape) < 2:
        return values * 0.2 + (1.0 if name.endswith(("weight", "scale")) else 0.0)
    return values * shape[1:].numel() ** -0.5


def _value(name: str, given: Any, generator: torch.Generator) -> Any:
    if not isinstance(given, tuple):
        return given
    if "mask" in name:
        read, hidden = given
        return torch.tensor([[1] * read + [0] * hidden])
    return torch.randn(1, *given, generator=generator)


_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "model_channels": 32,
    "channel_mult": [1, 1],
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
    "num_heads": 2,
    "num_head_channels": -1,
    "context_dim": 40,
}
_JOINT = {
    "in_channels": 16,
    "out_channels": 16,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [8, 12, 12],
    "theta": 100,
    "patch_size": 2,
    "qkv_bias": True,
    "context_in_dim": 40,
}
_FLUX_FIELDS = ("comfy.ldm.flux.model", "FluxParams", {"txt_ids_dims": [], "txt_norm": False})
_NORMED_FLUX_FIELDS = ("comfy.ldm.flux.model", "FluxParams", {"txt_ids_dims": [], "txt_norm": True})
_CHROMA = {
    **_JOINT,
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 48,
    "n_layers": 2,
}
_RADIANCE = {
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 16,
    "nerf_mlp_ratio": 2,
    "nerf_depth": 1,
    "nerf_max_freqs": 2,
    "nerf_tile_size": 64,
    "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32,
}
_LATER_CHROMA = {"txt_ids_dims": [], "vec_in_dim": None, "use_x0": False, "use_sequential_txt_ids": False}
_HUNYUAN = {
    **_JOINT,
    "image_model": "hunyuan_video",
    "patch_size": [1, 2, 2],
    "vec_in_dim": None,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
_HUNYUAN_FIELDS = ("comfy.ldm.hunyuan_video.model", "HunyuanVideoParams", {"meanflow_sum": False})
_COSMOS = {
    "max_img_h": 16,
    "max_img_w": 16,
    "max_frames": 8,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "concat_padding_mask": True,
    "crossattn_emb_channels": 40,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 8,
    "num_blocks": 2,
    "num_heads": 2,
}
_LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 48,
    "cap_feat_dim": 40,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "multiple_of": 16,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 2,
    "axes_dims": [8, 8, 8],
    "axes_lens": [64, 64, 64],
    "rope_theta": 100.0,
    "ffn_dim_multiplier": 2.0,
}
_Z_IMAGE = {
    **_LUMINA,
    # Its modulation is of fixed size, which the width must not be below.
    "dim": 256,
    "n_heads": 8,
    "n_kv_heads": 8,
    "axes_dims": [8, 12, 12],
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 8,
}
_WAN = {
    "image_model": "wan2.1",
    "dim": 48,
    "ffn_dim": 64,
    "freq_dim": 32,
    "text_dim": 40,
    "in_dim": 16,
    "out_dim": 16,
    "num_heads": 2,
    "num_layers": 2,
    "text_len": 16,
    "patch_size": (1, 2, 2),
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}

PICTURE: Shape = (16, 8, 8)
VIDEO: Shape = (16, 2, 8, 8)
TOKENS: Shape = (16, 40)

SMALL: Mapping[str, SmallModel] = {
    "SD1": SmallModel("SD15", _UNET, (4, 8, 8), TOKENS, {"text": (40, 14)}),
    "SDXL": SmallModel(
        "SDXL",
        {**_UNET, "num_classes": "sequential", "adm_in_channels": 2816},
        (4, 8, 8),
        TOKENS,
        {"text": (40, 14), "pooled": (1280, 1)},
        {"pooled_output": (1280,)},
    ),
    "Stable Cascade": SmallModel(
        "Stable_Cascade_C",
        {
            "stable_cascade_stage": "c",
            "c_in": 16,
            "c_out": 16,
            "c_r": 8,
            "c_cond": 32,
            "c_hidden": [32, 32],
            "nhead": [2, 2],
            "blocks": [[1, 1], [1, 1]],
            "c_clip_text": 40,
            "c_clip_text_pooled": 24,
            "c_clip_img": 768,
            "c_clip_seq": 2,
        },
        PICTURE,
        TOKENS,
        {"text": (40, 1), "pooled": (24, 1)},
        {"pooled_output": (24,)},
    ),
    "SD3": SmallModel(
        "SD3",
        {
            "in_channels": 16,
            "pos_embed_scaling_factor": None,
            "depth": 2,
            "adm_in_channels": 24,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 40, "out_features": 128},
            },
            "pos_embed_max_size": 16,
            "num_patches": 256,
            "input_size": None,
            "qk_norm": "rms",
            "x_block_self_attn_layers": [],
        },
        PICTURE,
        TOKENS,
        {"text": (40, 1), "pooled": (24, 1)},
        {"pooled_output": (24,)},
    ),
    "AuraFlow": SmallModel(
        "AuraFlow",
        {"max_seq": 64, "n_layers": 3, "n_double_layers": 1, "dim": 64, "n_heads": 2, "cond_seq_dim": 40}
        | {"global_conddim": 64},
        (4, 8, 8),
        TOKENS,
        {"text": (40, 1)},
    ),
    # Below 33 places a side its table of positions has no places.
    "PixArt": SmallModel(
        "PixArtAlpha",
        {
            "image_model": "pixart_alpha",
            "num_heads": 2,
            "patch_size": 2,
            "hidden_size": 48,
            "in_channels": 4,
            "depth": 2,
        }
        | {"model_max_length": 20, "caption_channels": 40, "micro_condition": True, "pe_interpolation": 1},
        (4, 40, 40),
        TOKENS,
        {"text": (40, 1)},
    ),
    "HunyuanDiT": SmallModel(
        "HunyuanDiT",
        {"image_model": "hydit", "depth": 4, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2.0, "in_channels": 4}
        | {"text_states_dim": 40, "text_states_dim_t5": 48, "text_len": 7, "text_len_t5": 9, "patch_size": 2}
        | {"size_cond": True, "use_style_cond": True, "qk_norm": True, "input_size": None},
        (4, 8, 8),
        (7, 40),
        {"text": (40, 4)},
        {"attention_mask": (4, 3), "conditioning_mt5xl": (9, 48), "attention_mask_mt5xl": (5, 4)},
    ),
    "Flux dev": SmallModel(
        "Flux",
        {**_JOINT, "image_model": "flux", "guidance_embed": True, "vec_in_dim": 24},
        PICTURE,
        TOKENS,
        {"text": (40, 1), "pooled": (24, 1)},
        {"pooled_output": (24,)},
        _FLUX_FIELDS,
    ),
    "Flux schnell": SmallModel(
        "FluxSchnell",
        {**_JOINT, "image_model": "flux", "guidance_embed": False, "vec_in_dim": 24},
        PICTURE,
        TOKENS,
        {"text": (40, 1), "pooled": (24, 1)},
        {"pooled_output": (24,)},
        _FLUX_FIELDS,
    ),
    "Flux with a norm": SmallModel(
        "Flux",
        {**_JOINT, "image_model": "flux", "guidance_embed": True, "vec_in_dim": None},
        PICTURE,
        TOKENS,
        {"text": (40, 1)},
        {},
        _NORMED_FLUX_FIELDS,
    ),
    "Flux.2": SmallModel(
        "Flux2",
        {**_JOINT, "image_model": "flux2", "guidance_embed": True, "vec_in_dim": None, "patch_size": 1}
        | {"global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False}
        | {"axes_dim": [8, 8, 8, 8]},
        PICTURE,
        TOKENS,
        {"text": (40, 1)},
        {},
        _FLUX_FIELDS,
    ),
    "Chroma": SmallModel(
        "Chroma",
        {**_CHROMA, "image_model": "chroma"},
        PICTURE,
        TOKENS,
        {"text": (40, 1)},
        {},
        ("comfy.ldm.chroma.model", "ChromaParams", _LATER_CHROMA),
    ),
    "Chroma Radiance": SmallModel(
        "ChromaRadiance",
        {**_CHROMA, **_RADIANCE, "image_model": "chroma_radiance"},
        (3, 32, 32),
        TOKENS,
        {"text": (40, 1)},
        {},
        ("comfy.ldm.chroma_radiance.model", "ChromaRadianceParams", _LATER_CHROMA),
    ),
    # Its widths are written into the host's class: one block of the real size.
    "Mochi": SmallModel(
        "GenmoMochi",
        {"image_model": "mochi_preview", "depth": 1, "patch_size": 2, "num_heads": 24, "hidden_size_x": 3072}
        | {"hidden_size_y": 1536, "mlp_ratio_x": 4.0, "mlp_ratio_y": 4.0, "learn_sigma": False, "in_channels": 12}
        | {"qk_norm": True, "qkv_bias": False, "out_bias": True, "patch_embed_bias": True, "timestep_mlp_bias": True}
        | {"attend_to_padding": False, "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": 40}
        | {"t5_token_length": 16, "rope_theta": 10000.0},
        (12, 2, 8, 8),
        TOKENS,
        {"text": (40, 3)},
        {"attention_mask": (10, 6)},
    ),
    "LTX-Video": SmallModel(
        "LTXV",
        {"image_model": "ltxv", "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
        | {"cross_attention_dim": 32, "caption_channels": 40, "in_channels": 128},
        (128, 2, 4, 4),
        TOKENS,
        {"text": (40, 1)},
        {"attention_mask": (10, 6)},
    ),
    "Hunyuan Video": SmallModel(
        "HunyuanVideo",
        {**_HUNYUAN, "vec_in_dim": 24},
        VIDEO,
        TOKENS,
        {"text": (40, 2), "pooled": (24, 1)},
        {"pooled_output": (24,)},
        _HUNYUAN_FIELDS,
    ),
    "Hunyuan Image": SmallModel(
        "HunyuanImage21",
        {**_HUNYUAN, "patch_size": [1, 1], "in_channels": 64, "out_channels": 64, "axes_dim": [16, 16], "byt5": True},
        (64, 8, 8),
        TOKENS,
        {"text": (40, 2)},
        {"conditioning_byt5small": (5, 1472)},
        _HUNYUAN_FIELDS,
    ),
    "Hunyuan Video 1.5": SmallModel(
        "HunyuanVideo15",
        {**_HUNYUAN, "in_channels": 65, "out_channels": 32, "vision_in_dim": 1152}
        | {"use_cond_type_embedding": True, "byt5": True},
        (32, 2, 8, 8),
        TOKENS,
        {"text": (40, 2)},
        {},
        _HUNYUAN_FIELDS,
    ),
    "Cosmos": SmallModel(
        "CosmosT2V",
        {**_COSMOS, "image_model": "cosmos", "block_config": "FA-CA-MLP", "block_x_format": "THWBD"}
        | {"affline_emb_norm": True, "pos_emb_learnable": False, "extra_per_block_abs_pos_emb": True}
        | {"extra_per_block_abs_pos_emb_type": "learnable"},
        VIDEO,
        TOKENS,
        {"text": (40, 4)},
        {"frame_rate": 24},
    ),
    "Cosmos Predict2": SmallModel(
        "CosmosT2IPredict2",
        {**_COSMOS, "image_model": "cosmos_predict2", "pos_emb_learnable": True, "min_fps": 1, "max_fps": 30}
        | {"extra_per_block_abs_pos_emb": False, "rope_enable_fps_modulation": False}
        | dict.fromkeys((f"{kind}_{axis}_extrapolation_ratio" for kind in ("rope", "extra") for axis in "hwt"), 1.0),
        (16, 1, 8, 8),
        TOKENS,
        {"text": (40, 4)},
        {"frame_rate": 24},
    ),
    "Lumina 2": SmallModel("Lumina2", _LUMINA, PICTURE, TOKENS, {"text": (40, 1)}),
    "Z-Image": SmallModel("ZImage", _Z_IMAGE, PICTURE, TOKENS, {"text": (40, 1)}),
    "Wan 2.1": SmallModel("WAN21_T2V", {**_WAN, "model_type": "t2v"}, VIDEO, TOKENS, {"text": (40, 1)}),
    "Wan 2.1 Vace": SmallModel(
        "WAN21_Vace",
        {**_WAN, "model_type": "vace", "vace_in_dim": 96, "vace_layers": 1},
        VIDEO,
        TOKENS,
        {"text": (40, 1)},
    ),
    "Wan 2.2": SmallModel(
        "WAN22_T2V",
        {**_WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48},
        (48, 2, 8, 8),
        TOKENS,
        {"text": (40, 1)},
    ),
    # The first of Llama's layers is read once, the second by two blocks.
    "HiDream": SmallModel(
        "HiDream",
        {"image_model": "hidream", "attention_head_dim": 32, "axes_dims_rope": [16, 8, 8], "caption_channels": [40, 40]}
        | {"max_resolution": [16, 16], "in_channels": 16, "llama_layers": [0, 1, 1], "num_attention_heads": 2}
        | {"num_routed_experts": 2, "num_activated_experts": 1, "num_layers": 1, "num_single_layers": 2}
        | {"out_channels": 16, "patch_size": 2, "text_emb_dim": 2048},
        PICTURE,
        TOKENS,
        {"llama.0": (40, 1), "llama.1": (40, 2), "t5xxl": (40, 1), "pooled": (2048, 1)},
        {"pooled_output": (2048,), "conditioning_llama3": (2, 12, 40)},
    ),
    "Omnigen2": SmallModel(
        "Omnigen2",
        {"image_model": "omnigen2", "axes_dim_rope": [8, 8, 8], "axes_lens": [64, 64, 64], "ffn_dim_multiplier": None}
        | {"hidden_size": 48, "in_channels": 16, "multiple_of": 16, "norm_eps": 1e-5, "num_attention_heads": 2}
        | {"num_kv_heads": 2, "num_layers": 2, "num_refiner_layers": 1, "out_channels": None, "patch_size": 2}
        | {"text_feat_dim": 40, "timestep_scale": 1000.0},
        PICTURE,
        TOKENS,
        {"text": (40, 1)},
        {"attention_mask": (16, 0)},
    ),
    "Qwen-Image": SmallModel(
        "QwenImage",
        {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2, "attention_head_dim": 32}
        | {"num_attention_heads": 2, "joint_attention_dim": 40, "axes_dims_rope": (8, 12, 12)},
        (16, 1, 8, 8),
        TOKENS,
        {"text": (40, 1)},
    ),
    "Kandinsky 5": SmallModel(
        "Kandinsky5",
        {"image_model": "kandinsky5", "in_text_dim": 40, "in_text_dim2": 24, "time_dim": 48, "model_dim": 64}
        | {
            "ff_dim": 96,
            "visual_embed_dim": 132,
            "num_text_blocks": 1,
            "num_visual_blocks": 1,
            "axes_dims": (8, 12, 12),
        },
        VIDEO,
        TOKENS,
        {"text": (40, 1), "pooled": (24, 1)},
        {"pooled_output": (24,)},
    ),
    "CogVideoX": SmallModel(
        "CogVideoX_T2V",
        {"image_model": "cogvideox", "num_attention_heads": 2, "attention_head_dim": 64, "time_embed_dim": 32}
        | {"num_layers": 1, "in_channels": 16, "out_channels": 16, "patch_size": 2, "text_embed_dim": 40}
        | {"max_text_seq_length": 16, "use_rotary_positional_embeddings": True},
        VIDEO,
        TOKENS,
        {"text": (40, 1)},
    ),
    "Ernie-Image": SmallModel(
        "ErnieImage",
        {"image_model": "ernie", "hidden_size": 64, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 96}
        | {"in_channels": 16, "out_channels": 16, "text_in_dim": 40, "rope_axes_dim": (8, 12, 12)},
        PICTURE,
        TOKENS,
        {"text": (40, 1)},
    ),
}
