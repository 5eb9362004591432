"""A custom node file for test servers: the stock loaders of text encoders take a T5 of any size.

ComfyUI writes down the sizes of T5-XXL, 4.7 billion weights, and leaves those that a file lacks uninitialised. With this
file among the custom nodes it reads the sizes from the file. Nothing else changes: detection, tokenizers, text encoders
and the nodes that load them stay ComfyUI's own, and a file of the usual sizes is loaded as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import comfy.sd

NODE_CLASS_MAPPINGS: dict[str, type] = {}
_BLOCK = "encoder.block.{}.layer."
_FIRST = _BLOCK.format(0)

_load = comfy.sd.load_text_encoder_state_dicts


def load(state_dicts: Sequence[Mapping[str, Any]], *, model_options: Mapping[str, Any], **others: Any) -> Any:
    """What ComfyUI loads, with the sizes of every T5 among the files."""
    sizes = [_sizes(weights) for weights in state_dicts if f"{_FIRST}1.DenseReluDense.wi_1.weight" in weights]
    configured = {f"{name}_model_config": one for one in sizes for name in ("t5xxl", "umt5xxl")}
    return _load(state_dicts, model_options={**model_options, **configured}, **others)


def _sizes(weights: Mapping[str, Any]) -> dict[str, int]:
    """By the names in ComfyUI's configuration of T5."""
    heads = weights[f"{_FIRST}0.SelfAttention.relative_attention_bias.weight"].shape[1]
    vocabulary, width = weights["shared.weight"].shape
    layers = next(layer for layer in count() if f"{_BLOCK.format(layer)}0.SelfAttention.q.weight" not in weights)
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_layers": layers,
        "num_heads": heads,
        "d_kv": weights[f"{_FIRST}0.SelfAttention.q.weight"].shape[0] // heads,
        "d_ff": weights[f"{_FIRST}1.DenseReluDense.wi_1.weight"].shape[0],
    }


comfy.sd.load_text_encoder_state_dicts = load
