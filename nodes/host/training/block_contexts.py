"""Token embeddings that some pictures of a batch read in place of a prompt's, in every block others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..patching.adapters import Attention, cross_attentions
from ..protocols import Model
from .denoiser import NO_PATCHES, Patches

BEFORE_PATCH = "attn2_patch"
"""What the host calls the patches of what cross-attentions read."""

Block = tuple[str, int]
"""Some cross-attentions behind each other, as the host names them: the part of the UNet and a number."""


def reading_blocks(model: Model) -> dict[Block, int]:
    """The blocks of a UNet that read the text, each with its place among them."""
    places = [Attention.named(layer) for layer in cross_attentions(model)]
    blocks = dict.fromkeys((place.group, place.number) for place in places if place is not None)
    return {block: number for number, block in enumerate(blocks)}


class BlockContexts:
    """What the first pictures of a batch read.

    Args:
        contexts: [pictures, tokens, blocks, d]; autograd goes through them.
        blocks: see `reading_blocks`.
    """

    def __init__(self, contexts: Tensor, blocks: Mapping[Block, int]) -> None:
        self._contexts, self._blocks = contexts, blocks

    def __call__(
        self, read: Tensor, context: Tensor, value: Tensor, options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the attention goes on with."""
        place = Attention.told(options)
        number = None if place is None else self._blocks.get((place.group, place.number))
        if number is None:
            return read, context, value
        own = self._contexts[:, :, number].to(context.dtype)
        keys, values = (torch.cat([own, whole[len(own) :]]) for whole in (context, value))
        return read, keys, values

    def patches(self) -> Patches:
        """What to call the MODEL with; nothing where no picture has contexts of its own."""
        return {BEFORE_PATCH: self} if len(self._contexts) else NO_PATCHES
