"""Adapters after the cross-attentions of Stable Diffusion's UNet, through the host's own patches of attention outputs.

The host calls every `attn2_output_patch` of a MODEL, one after the other, with what a cross-attention writes [b, tokens, d], and
says in which block. So no layer is touched, and what other packs put there stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....rece_ops import Adapter, Adapters
from ....rece_ops.texts import quoted
from ..errors import WrongConnectionError
from ..protocols import Model
from .forwards import LiveStrength

OUTPUT_PATCH = "attn2_output_patch"
"""What the host calls the patches of what cross-attentions write."""

_LAYER = re.compile(
    r"diffusion_model\.(?P<group>input|middle|output)_blocks?(?:\.(?P<number>\d{1,3}))?\.\d\.transformer_blocks\."
    r"(?P<depth>\d{1,3})\.attn2"
)
_WRITES = ".to_out.0.weight"
"""Of a cross-attention the weight that writes; as many rows as there are numbers in a token."""


class Attention(NamedTuple):
    """Where a cross-attention is, as the host says it to patches."""

    group: str
    number: int
    depth: int

    @classmethod
    def named(cls, layer: str) -> Attention | None:
        """That of a layer by its name in the state dict; None where it has none that a UNet's cross-attention can have."""
        match = _LAYER.fullmatch(layer)
        if match is None or (match["group"] == "middle") != (match["number"] is None):
            return None
        return cls(match["group"], int(match["number"] or 0), int(match["depth"]))

    @classmethod
    def told(cls, options: Mapping[str, Any]) -> Attention | None:
        """That of which the host speaks; None outside the UNet's own blocks."""
        block = options.get("block")
        return None if block is None else cls(block[0], block[1], options.get("block_index", 0))


def cross_attentions(model: Model) -> dict[str, int]:
    """The cross-attentions of a UNet by name, and how many numbers each token has that they write."""
    return {
        key.removesuffix(_WRITES): weight.shape[0]
        for key, weight in model.model.state_dict().items()
        if key.endswith(_WRITES) and Attention.named(key.removesuffix(_WRITES)) is not None
    }


class AdapterPatch:
    """y + A(y), in the dtype and on the device of y, computed in float32 at least.

    The tensors stay in main memory; copies go to every device that tokens come from, and are dropped when the host moves the
    MODEL away.

    Args:
        adapters: by where they are.
        live: scales what they add further, from call to call.
    """

    def __init__(self, adapters: Mapping[Attention, Adapter], live: LiveStrength | None = None) -> None:
        self._adapters, self._live = dict(adapters), live
        self._copies: dict[tuple[Attention, torch.device, torch.dtype], Adapter] = {}

    def __call__(self, written: Tensor, options: Mapping[str, Any]) -> Tensor:
        """What the block goes on with. `written` itself where there is no adapter, or none counts now."""
        place = Attention.told(options)
        strength = 1.0 if self._live is None else self._live.strength
        if place is None or place not in self._adapters or strength == 0:
            return written
        tokens = written.to(torch.promote_types(written.dtype, torch.float32))
        added = self._on(place, tokens).of(tokens)
        return (tokens + (added if strength == 1 else added * strength)).to(written.dtype)

    def to(self, where: Any) -> AdapterPatch:
        """Called by the host when a MODEL is moved, with a device or a dtype; copies elsewhere are dropped."""
        if isinstance(where, torch.device):
            self._copies = {key: copy for key, copy in self._copies.items() if key[1] == where}
        return self

    def __deepcopy__(self, memo: Any) -> AdapterPatch:
        """Clones of a MODEL share it: the host copies what hangs on a MODEL as deep as it can."""
        return self

    def _on(self, place: Attention, tokens: Tensor) -> Adapter:
        key = (place, tokens.device, tokens.dtype)
        if key not in self._copies:
            # Copies made in inference mode could not be used where gradients are wanted.
            with torch.inference_mode(False):
                self._copies[key] = Adapter(
                    *(tensor.to(tokens.device, tokens.dtype, copy=True) for tensor in self._adapters[place])
                )
        return self._copies[key]


def add_adapters(
    model: Model, adapters: Adapters, layers: Iterable[str], strength: float, live: LiveStrength | None = None
) -> None:
    """Put the adapters of those `layers` after the cross-attentions of MODEL, behind patches that are there.

    Raises:
        InputError: they are not finite at that strength.
        WrongConnectionError: MODEL has no such cross-attention, or one of another size.
    """
    model.set_model_attn2_output_patch(AdapterPatch(placed(model, adapters.scaled(strength), layers), live))


def placed(model: Model, adapters: Adapters, layers: Iterable[str]) -> dict[Attention, Adapter]:
    """The adapters of those `layers` by where they are in MODEL.

    Raises:
        WrongConnectionError: see `add_adapters`.
    """
    known, found = cross_attentions(model), {}
    for layer in layers:
        place, adapter = Attention.named(layer), adapters.adapters[layer]
        if place is None or known.get(layer) != adapter.dimension:
            size = known.get(layer)
            raise WrongConnectionError(
                f"This ERASER has an adapter after the cross-attention {quoted(layer)} for tokens of {adapter.dimension} numbers, "
                f"but MODEL has {'none of that name' if size is None else f'one of {size}'}: use an eraser that was made on the "
                "same base."
            )
        found[place] = adapter
    return found
