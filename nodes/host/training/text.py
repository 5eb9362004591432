"""A loaded CLIP as a function that autograd can go through, and which of its weights few-shot unlearning changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.utils
import torch
from torch import Tensor, nn

from ..architectures.detection import SUFFIX
from ..protocols import Clip
from ..text.spans import tokenize
from .denoiser import constant_weights
from .layers import TrainedLayers, WholeDifference

_LAYER = re.compile(r"(?P<encoder>.*)\.encoder\.layers\.(?P<layer>\d+)\.(?P<name>[\w.]+)\.weight")
_FEED_FORWARD = ("mlp.fc1", "mlp.fc2")
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")


def unlearned_keys(clip: Clip) -> list[str]:
    """The weights of every text encoder's feed-forward layers, and those of the self-attention of its last two layers.

    Which of the two is the last that the MODEL reads, a gradient tells: some models read the last layer but one.
    """
    found, last = [], dict[str, int]()
    for key in clip.cond_stage_model.state_dict():
        match = _LAYER.fullmatch(key)
        if match is not None and match["name"] in (*_FEED_FORWARD, *_ATTENTION):
            found.append((key, match["encoder"], int(match["layer"]), match["name"]))
            last[match["encoder"]] = max(last.get(match["encoder"], 0), int(match["layer"]))
    return [key for key, encoder, layer, name in found if name in _FEED_FORWARD or layer >= last[encoder] - 1]


class TrainedText:
    """The differences of a CLIP's weights that are learned, and what it makes of prompts with them.

    Args:
        clip: that is loaded.
        keys: of the weights, whose biases are learned too.
        device: where the differences live, in float32.
    """

    def __init__(self, clip: Clip, keys: list[str], device: torch.device) -> None:
        self._clip = clip
        self.differences = {key: _zero(clip, key, device) for key in keys}
        self._layers = TrainedLayers(clip.patcher, {key: (one,) for key, one in self.differences.items()})

    def parameters(self) -> list[Tensor]:
        """All differences."""
        return [tensor for one in self.differences.values() for tensor in one]

    @contextmanager
    def trainable(self) -> Iterator[None]:
        """Within it gradients reach the differences; whatever was hung on the CLIP is taken off however it ends."""
        handles: list[Any] = []
        with ExitStack() as stack:
            stack.enter_context(constant_weights(self._clip.cond_stage_model))
            stack.enter_context(self._layers.attached())
            stack.enter_context(self._layers.on())
            try:
                for module in self._clip.cond_stage_model.modules():
                    if isinstance(module, nn.LayerNorm):
                        handles.append(module.register_forward_pre_hook(_copied))
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def encoded(self, prompt: str) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings [1, n, d] and what else CONDITIONING holds of a prompt."""
        encoders = self._clip.cond_stage_model
        encoders.reset_clip_options()
        if self._clip.layer_idx is not None:
            encoders.set_clip_options({"layer": self._clip.layer_idx})
        embedding, pooled, *more = encoders.encode_token_weights(tokenize(self._clip, prompt))
        return embedding, {"pooled_output": pooled, **(more[0] if more else {})}

    def patched(self, strength: float) -> Clip:
        """A clone of the CLIP with what was learned as patches; where nothing was learned there is none."""
        patches: dict[str, tuple[Tensor]] = {}
        for key, difference in self.differences.items():
            for name, tensor in difference._asdict().items():
                if tensor.any():
                    patches[key.removesuffix("weight") + name] = (tensor.detach().cpu().clone(),)
        clone = self._clip.clone()
        clone.add_patches(patches, strength)
        return clone

    def counts(self) -> Mapping[str, int]:
        """How many weights were changed, by what they are."""
        changed = [key for key, one in self.differences.items() if one.weight.any()]
        attention = sum(".self_attn." in key for key in changed)
        return {"feed-forward": len(changed) - attention, "self-attention": attention}


def drop_unread_attention(text: TrainedText) -> None:
    """After the first backward pass: of the self-attention, learn only that of the last layer that has a gradient."""
    reached: dict[str, int] = {}
    for key, one in text.differences.items():
        match = _LAYER.fullmatch(key)
        if match is not None and match["name"] in _ATTENTION and one.weight.grad is not None:
            reached[match["encoder"]] = max(reached.get(match["encoder"], 0), int(match["layer"]))
    for key, one in text.differences.items():
        match = _LAYER.fullmatch(key)
        if match is not None and match["name"] in _ATTENTION and int(match["layer"]) != reached.get(match["encoder"]):
            for tensor in one:
                tensor.requires_grad_(False)
                tensor.grad = None


def _zero(clip: Clip, key: str, device: torch.device) -> WholeDifference:
    rows, columns = comfy.utils.get_attr(clip.cond_stage_model, key).shape
    assert key.endswith(SUFFIX)
    return WholeDifference(
        torch.zeros(rows, columns, device=device, requires_grad=True),
        torch.zeros(rows, device=device, requires_grad=True),
    )


def _copied(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The host adds to what a norm was given in place, of which the norm's gradient needs the value."""
    return (inputs[0].clone(), *inputs[1:])
