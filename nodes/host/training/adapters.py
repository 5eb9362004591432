"""Adapters while they are trained, and where the MODEL's cross-attentions look: patches of the host, in the options of one call.

Nothing hangs on the MODEL, so that nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.utils
from torch import Tensor

from ....rece_ops import Adapter, Adapters, EraserSet
from ....rece_ops.training.localization import attention_share
from ..patching.adapters import OUTPUT_PATCH, AdapterPatch, Attention, cross_attentions, placed
from ..protocols import Model
from .block_contexts import BEFORE_PATCH
from .denoiser import NO_PATCHES, Patches


class TrainedPatch:
    """y + A(y) + B(y): what is trained, and the adapters of the eraser that a training began from, side by side.

    Args:
        adapters: what is trained, by where it is.
        fixed: of the eraser at the start.

    Attributes:
        outputs: A(y) [b, tokens, d] of the last call, by where it is; autograd goes through it.
    """

    def __init__(self, adapters: Mapping[Attention, Adapter], fixed: AdapterPatch | None) -> None:
        self._adapters, self._fixed = adapters, fixed
        self.outputs: dict[Attention, Tensor] = {}

    def __call__(self, written: Tensor, options: Mapping[str, Any]) -> Tensor:
        """What the block goes on with."""
        changed = written if self._fixed is None else self._fixed(written, options)
        place = Attention.told(options)
        if place is None or place not in self._adapters:
            return changed
        self.outputs[place] = self._adapters[place].of(written.float())
        return (changed.float() + self.outputs[place]).to(written.dtype)


def attention_layers(model: Model) -> dict[Attention | None, Any]:
    """The cross-attentions of a UNet by where they are."""
    return {Attention.named(layer): comfy.utils.get_attr(model.model, layer) for layer in cross_attentions(model)}


class ConceptMaps:
    """How much of each token's cross-attention goes to some tokens of the text.

    Args:
        layers: the cross-attentions by where they are, see `attention_layers`.
        places: of the text's tokens.

    Attributes:
        shares: [b, tokens] of every cross-attention in the last call.
    """

    def __init__(self, layers: Mapping[Attention | None, Any], places: slice) -> None:
        self._layers, self._places = layers, places
        self.shares: dict[Attention, Tensor] = {}

    def __call__(
        self, read: Tensor, context: Tensor, value: Tensor, options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the attention goes on with: all as it was."""
        place = Attention.told(options)
        layer = self._layers.get(place)
        if place is not None and layer is not None:
            queries, keys = layer.to_q(read), layer.to_k(context)
            self.shares[place] = attention_share(queries, keys, options["n_heads"], self._places)
        return read, context, value

    def patches(self) -> Patches:
        """What to call the MODEL with."""
        return {BEFORE_PATCH: self}


def fixed_adapters(model: Model, begun: EraserSet | None) -> AdapterPatch | None:
    """The adapters of the eraser that a training begins from; None where it has none.

    Raises:
        WrongConnectionError: MODEL lacks a cross-attention that they are for.
    """
    parts = list(begun.adapters.values()) if begun is not None else []
    if not parts:
        return None
    whole: Adapters = parts[0]
    for part in parts[1:]:
        whole = whole @ part
    return AdapterPatch(placed(model, whole, whole.adapters))


def fixed_patches(model: Model, begun: EraserSet | None) -> Patches:
    """The same as patches to call the MODEL with."""
    fixed = fixed_adapters(model, begun)
    return NO_PATCHES if fixed is None else {OUTPUT_PATCH: fixed}
