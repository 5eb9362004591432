"""Many short prompts at once: only their first tokens go through CLIP's layers.

CLIP's attention is causal, so what a prompt's own tokens and the end of text come out as does not depend on the padding after
them: of the 77 tokens of a word, 3 are computed. These are the host's own layers, with its clip skip and its patches; the
caller compares a few prompts with what sampling gets (see `vocabulary`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.clip_model
import comfy.ops
import comfy.sd1_clip
import torch
from torch import Tensor

from ..protocols import Clip

_NAMES = ("l", "g", "h")


class CausalEncoders:
    """The CLIP text encoders of a CLIP, side by side as SD1, SD2 and SDXL read them.

    Args:
        clip: whose text encoders `causal_encoders` found to be of this kind.
        encoders: by the tokenizer's name, in the order in which their embeddings stand side by side.
    """

    def __init__(self, clip: Any, encoders: dict[str, Any]) -> None:
        self._clip, self._encoders = clip, encoders

    def encode(self, prompts: Sequence[dict[str, list[int]]]) -> Tensor:
        """Token embeddings [prompts, n, d] of prompts that begin with the same number n of tokens, by tokenizer's name."""
        self._clip.cond_stage_model.reset_clip_options()
        if self._clip.layer_idx is not None:
            self._clip.cond_stage_model.set_clip_options({"layer": self._clip.layer_idx})
        self._clip.load_model()
        parts = [_forward(encoder, [one[name] for one in prompts]) for name, encoder in self._encoders.items()]
        return torch.cat(parts, dim=-1)


def causal_encoders(clip: Clip) -> CausalEncoders | None:
    """The text encoders of `clip`, where all are CLIP's; None where one is of another kind, or hooks patch them."""
    network = getattr(clip, "cond_stage_model", None)
    found = {name: getattr(network, f"clip_{name}", None) for name in _NAMES}
    present = {name: one for name, one in found.items() if one is not None}
    children = [one for _, one in network.named_children()] if isinstance(network, torch.nn.Module) else []
    hooked = getattr(getattr(clip, "patcher", None), "forced_hooks", None) is not None
    if hooked or not present or len(children) != len(present) or not all(map(_is_causal, present.values())):
        return None
    return CausalEncoders(clip, present)


def _is_causal(encoder: Any) -> bool:
    transformer = getattr(encoder, "transformer", None)
    return (
        isinstance(encoder, comfy.sd1_clip.SDClipModel)
        and type(transformer) is comfy.clip_model.CLIPTextModel
        and encoder.layer in ("last", "hidden")
    )


def _forward(encoder: Any, ids: Sequence[Sequence[int]]) -> Tensor:
    """What `SDClipModel.forward` gives for the first tokens of prompts without textual inversions: [prompts, n, d]."""
    text = encoder.transformer.text_model
    embeddings = text.embeddings
    device = embeddings.token_embedding.weight.device
    tokens = embeddings.token_embedding(torch.tensor(ids, device=device), out_dtype=torch.float32)
    places = comfy.ops.cast_to(embeddings.position_embedding.weight, dtype=torch.float32, device=device)
    count = tokens.shape[1]
    mask = torch.full((count, count), -torch.finfo(torch.float32).max, device=device).triu_(1)
    hidden = None if encoder.layer == "last" else encoder.layer_idx
    last, intermediate = text.encoder(tokens + places[:count], mask=mask, intermediate_output=hidden)
    if intermediate is None:
        return text.final_layer_norm(last).float()
    return (text.final_layer_norm(intermediate) if encoder.layer_norm_hidden_state else intermediate).float()
