"""Every text encoder's own tokenizer, with a small random network of the host's own class behind it: a CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.sd
import comfy.supported_models_base
import comfy.text_encoders.aura_t5
import comfy.text_encoders.cosmos
import comfy.text_encoders.flux
import comfy.text_encoders.genmo
import comfy.text_encoders.hidream
import comfy.text_encoders.hunyuan_image
import comfy.text_encoders.hunyuan_video
import comfy.text_encoders.hydit
import comfy.text_encoders.lt
import comfy.text_encoders.lumina2
import comfy.text_encoders.omnigen2
import comfy.text_encoders.pixart_t5
import comfy.text_encoders.qwen_image
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.wan
import comfy.text_encoders.z_image
import torch

from tools.tiny_transformers import WORD_PIECES, word_pieces

encoders = comfy.text_encoders

WIDTH = 40
_T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 16, "num_heads": 2, "num_layers": 1}
_CLIP = {"hidden_size": 24, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
_LLM = {
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
}
_BERT = {"hidden_size": WIDTH, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


@dataclass(frozen=True)
class SmallTextEncoder:
    """One case.

    Attributes:
        tokenizer: of the host.
        network: of the host.
        sizes: of its parts, by the names that the host has for them.
        spiece: the name under which a tokenizer of this kind is in a checkpoint; empty where the host has it in a file.
        causal: the parts in which a token knows nothing of later ones.
    """

    tokenizer: Any
    network: Callable[..., Any]
    sizes: Mapping[str, dict[str, int]]
    spiece: str = ""
    causal: tuple[str, ...] = field(default=())

    def clip(self, seed: int = 0) -> Any:
        """The CLIP, with random weights."""
        target = comfy.supported_models_base.ClipTarget(self.tokenizer, self.network)
        options = {f"{name}_model_config": sizes for name, sizes in self.sizes.items()}
        data = {self.spiece: torch.frombuffer(bytearray(word_pieces()), dtype=torch.uint8)} if self.spiece else {}
        clip = comfy.sd.CLIP(target, tokenizer_data=data, model_options={**options, "dtype": torch.float32})
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in clip.cond_stage_model.state_dict().items():
                # Qwen's part for pictures is of its real size and never used here.
                if weight.is_floating_point() and ".visual." not in name:
                    spread = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.2
                    weight.normal_(generator=generator).mul_(1.0 if "embed" in name else spread)
        return clip


ENCODERS: Mapping[str, SmallTextEncoder] = {
    "Flux": SmallTextEncoder(encoders.flux.FluxTokenizer, encoders.flux.flux_clip(), {"clip_l": _CLIP, "t5xxl": _T5}),
    "PixArt": SmallTextEncoder(encoders.pixart_t5.PixArtTokenizer, encoders.pixart_t5.pixart_te(), {"t5xxl": _T5}),
    "Mochi": SmallTextEncoder(encoders.genmo.MochiT5Tokenizer, encoders.genmo.mochi_te(), {"t5xxl": _T5}),
    "LTX-Video": SmallTextEncoder(encoders.lt.LTXVT5Tokenizer, encoders.lt.ltxv_te(), {"t5xxl": _T5}),
    "Cosmos": SmallTextEncoder(encoders.cosmos.CosmosT5Tokenizer, encoders.cosmos.te(), {"t5xxl": _T5}),
    "AuraFlow": SmallTextEncoder(encoders.aura_t5.AuraT5Tokenizer, encoders.aura_t5.AuraT5Model, {"pile_t5xl": _T5}),
    "Wan 2.1": SmallTextEncoder(
        encoders.wan.WanT5Tokenizer, encoders.wan.te(), {"umt5xxl": {**_T5, "vocab_size": WORD_PIECES}}, "spiece_model"
    ),
    # Its own first part pads to the width of T5, which therefore is the real one.
    "SD3": SmallTextEncoder(
        encoders.sd3_clip.SD3Tokenizer,
        encoders.sd3_clip.sd3_clip(clip_g=False),
        {"clip_l": _CLIP, "t5xxl": {**_T5, "d_model": 4096, "vocab_size": 4000}},
    ),
    "Hunyuan Video": SmallTextEncoder(
        encoders.hunyuan_video.HunyuanVideoTokenizer,
        encoders.hunyuan_video.hunyuan_video_clip(),
        {"clip_l": _CLIP, "llama": _LLM},
        causal=("llama",),
    ),
    "Hunyuan Image": SmallTextEncoder(
        encoders.hunyuan_image.HunyuanImageTokenizer,
        encoders.hunyuan_image.te(byt5=False),
        {"qwen25_7b": _LLM},
        causal=("qwen25_7b",),
    ),
    "Hunyuan Video 1.5": SmallTextEncoder(
        encoders.hunyuan_video.HunyuanVideo15Tokenizer,
        encoders.hunyuan_image.te(byt5=False),
        {"qwen25_7b": _LLM},
        causal=("qwen25_7b",),
    ),
    "HiDream": SmallTextEncoder(
        encoders.hidream.HiDreamTokenizer,
        encoders.hidream.hidream_clip(clip_l=False, clip_g=False),
        {"t5xxl": _T5, "llama": {**_LLM, "num_hidden_layers": 2}},
        causal=("llama",),
    ),
    "Lumina 2": SmallTextEncoder(
        encoders.lumina2.LuminaTokenizer,
        encoders.lumina2.te(),
        {"gemma2_2b": {**_LLM, "vocab_size": WORD_PIECES}},
        "spiece_model",
        causal=("gemma2_2b",),
    ),
    "Z-Image": SmallTextEncoder(
        encoders.z_image.ZImageTokenizer, encoders.z_image.te(), {"qwen3_4b": _LLM}, causal=("qwen3_4b",)
    ),
    "Omnigen2": SmallTextEncoder(
        encoders.omnigen2.Omnigen2Tokenizer, encoders.omnigen2.te(), {"qwen25_3b": _LLM}, causal=("qwen25_3b",)
    ),
    "Qwen-Image": SmallTextEncoder(
        encoders.qwen_image.QwenImageTokenizer, encoders.qwen_image.te(), {"qwen25_7b": _LLM}, causal=("qwen25_7b",)
    ),
    "HunyuanDiT": SmallTextEncoder(
        encoders.hydit.HyditTokenizer,
        encoders.hydit.HyditModel,
        {"hydit_clip": _BERT, "mt5xl": {**_T5, "d_model": 48, "vocab_size": WORD_PIECES}},
        "mt5xl.spiece_model",
    ),
}
