"""Small diffusion transformers with random weights, and the text encoders and VAEs that go with them.

SD3 is a whole checkpoint; Flux and Wan are files of their own for each part, as people have them. Where ComfyUI reads a
size from the file it is small here, and the rest is as large as it has to be: Flux is one block of the real width.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tools.random_weights import GAINS, Shapes, TextEncoder, draw, shapes_of
from tools.tiny_vae import tiny_vae

Weights = dict[str, torch.Tensor]

CHANNELS = 16
# What T5 gives and these models read.
TEXT = 4096
SD3_DEPTH = 2
SD3_POSITIONS = 16
T5_SIZES = {"d_kv": 8, "num_heads": 2, "d_ff": 16, "num_layers": 2}
# By a weight of this name in the last of its 24 layers, and by that weight's size, ComfyUI knows T5-XXL.
T5_MARK = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
T5_MARK_SHAPE = (10240, TEXT)
# The text counts, and predictions are of ordinary size.
FLUX_GAINS = {"txt_in.": 2.0, "final_layer.linear.": 0.5}
WAN_GAINS = {"cross_attn.o.": 4.0}
T5_GAINS = {"shared.": TEXT**0.5, "SelfAttention.o.": 0.5, "DenseReluDense.wo.": 0.5}
WORD_PIECES = 48


@cache
def word_pieces() -> bytes:
    """A SentencePiece model in T5's order (padding, end), for tokenizers that come with the checkpoint."""
    import sentencepiece

    model = io.BytesIO()
    sentences = [
        "a red cat and a blue dog",
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        "the red dog sat",
    ] * 9
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=WORD_PIECES,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return model.getvalue()


def _sd3(seed: int) -> Weights:
    """A checkpoint with CLIP-L and a VAE in it; SD3 may be had without its other text encoders."""
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    model = MMDiT(
        input_size=None,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        depth=SD3_DEPTH,
        adm_in_channels=2048,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": TEXT, "out_features": 64 * SD3_DEPTH},
        },
        num_patches=SD3_POSITIONS**2,
        pos_embed_max_size=SD3_POSITIONS,
        **_on_meta(),
    )
    encoder = TextEncoder("text_encoders.clip_l.transformer.text_model.", 768, 12, openclip=False)
    vae = {f"first_stage_model.{key}": value for key, value in tiny_vae(seed, CHANNELS).items()}
    return {**_drawn(shapes_of(model, "model.diffusion_model."), seed), **encoder.draw(seed), **vae}


def _flux(seed: int) -> Weights:
    from comfy.ldm.flux.model import Flux, FluxParams

    heads = [16, 56, 56]
    # Newer releases ask for what has no part in the weights.
    later: dict[str, Any] = {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__annotations__ else {}
    model = Flux(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        vec_in_dim=768,
        context_in_dim=TEXT,
        hidden_size=24 * sum(heads),
        mlp_ratio=4.0,
        num_heads=24,
        depth=1,
        depth_single_blocks=0,
        axes_dim=heads,
        theta=10000,
        patch_size=2,
        qkv_bias=True,
        guidance_embed=True,
        **later,
        **_on_meta(),
    )
    # ComfyUI calls these gains `weight` now; the files that people have, and older releases, call them `scale`.
    named = ((key.replace("_norm.weight", "_norm.scale"), shape) for key, shape in shapes_of(model, ""))
    return _drawn(named, seed, FLUX_GAINS)


def _wan(seed: int) -> Weights:
    from comfy.ldm.wan.model import WanModel

    model = WanModel(dim=128, ffn_dim=64, num_heads=1, num_layers=1, text_dim=TEXT, **_on_meta())
    return _drawn(shapes_of(model, ""), seed, WAN_GAINS)


def _wan_vae(seed: int) -> Weights:
    from comfy.ldm.wan.vae import WanVAE

    with torch.device("meta"):
        model = WanVAE(dim=8, z_dim=CHANNELS, temperal_downsample=[False, True, True])
    return _drawn(shapes_of(model, ""), seed)


def _clip_l(seed: int) -> Weights:
    return TextEncoder("text_model.", 768, 12, openclip=False).draw(seed)


def _t5(seed: int, config: str, **sizes: int) -> Weights:
    """A T5 of the real width with few layers, narrow inside; it takes `sized_text_encoders` to load it."""
    import comfy.text_encoders.t5

    module = comfy.text_encoders.t5
    published = json.loads((Path(module.__file__).parent / config).read_text(encoding="utf-8"))
    model = module.T5({**published, **T5_SIZES, **sizes}, **_on_meta())
    mark = {T5_MARK: torch.zeros(T5_MARK_SHAPE, dtype=torch.float16)}
    return {**_drawn(shapes_of(model, ""), seed, T5_GAINS), **mark}


def _umt5(seed: int) -> Weights:
    weights = _t5(seed, "umt5_config_xxl.json", vocab_size=WORD_PIECES)
    return {**weights, "spiece_model": torch.frombuffer(bytearray(word_pieces()), dtype=torch.uint8)}


TRANSFORMERS: Mapping[str, Callable[[int], Weights]] = {
    "sd3": _sd3,
    "flux": _flux,
    "wan": _wan,
    "clip_l": _clip_l,
    "t5xxl": lambda seed: _t5(seed, "t5_config_xxl.json"),
    "umt5xxl": _umt5,
    "vae16": lambda seed: tiny_vae(seed, CHANNELS),
    "wan_vae": _wan_vae,
}


def _on_meta() -> dict[str, Any]:
    import comfy.ops

    return {"dtype": torch.float16, "device": "meta", "operations": comfy.ops.disable_weight_init}


def _drawn(shapes: Shapes, seed: int, gains: Mapping[str, float] = GAINS) -> Weights:
    return {key: draw(key, shape, seed, gains=gains) for key, shape in shapes}
