"""Small networks after the cross-attentions of a model: y ← y + A(y), as Receler adds them (arXiv:2311.17717).

A(y) = U·GELU(D·y + b) + c for each token y that a cross-attention writes. Nothing linear: no patch of a weight and no LoRA says
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import InputError
from .formats.parts import ADAPTERS, StoredPart
from .linear.finite import is_finite
from .settings import check_strength
from .texts import quoted


class Adapter(NamedTuple):
    """One of them.

    Attributes:
        down: D [w, d].
        down_bias: b [w].
        up: U [d, w].
        up_bias: c [d].
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor

    @property
    def dimension(self) -> int:
        """d, of the tokens that it reads and adds to."""
        return self.up.shape[0]

    @property
    def width(self) -> int:
        """w, of what is between its two layers."""
        return self.up.shape[1]

    def of(self, written: Tensor) -> Tensor:
        """A(y) of tokens [..., d], in their dtype and on their device, which must be the adapter's own."""
        inner = torch.nn.functional.gelu(torch.nn.functional.linear(written, self.down, self.down_bias))
        return torch.nn.functional.linear(inner, self.up, self.up_bias)

    def scaled(self, strength: float) -> Adapter:
        """`strength` times the same: linear in what it adds."""
        return self._replace(up=self.up * strength, up_bias=self.up_bias * strength)

    def beside(self, second: Adapter) -> Adapter:
        """Both as one: A₁(y) + A₂(y) is an adapter of the width w₁ + w₂."""
        dtype = torch.promote_types(self.down.dtype, second.down.dtype)
        one, other = (Adapter(*(tensor.to(self.down.device, dtype) for tensor in each)) for each in (self, second))
        return Adapter(
            torch.cat([one.down, other.down]),
            torch.cat([one.down_bias, other.down_bias]),
            torch.cat([one.up, other.up], dim=1),
            one.up_bias + other.up_bias,
        )


class Adapters:
    """Adapters by the layers whose outputs they read and add to. They never change after they are made.

    Args:
        adapters: by the name of the layer in a state dict, as in 'diffusion_model.middle_block.1.transformer_blocks.0.attn2'.

    Raises:
        InputError: there is none, their tensors do not fit together, or numbers are not finite.
    """

    __slots__ = ("adapters",)

    kind: ClassVar[str] = ADAPTERS

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        if not adapters:
            raise InputError("Adapters need at least one layer.")
        for layer, adapter in adapters.items():
            _check(layer, adapter)
        self.adapters: dict[str, Adapter] = dict(adapters)

    def scaled(self, strength: float) -> Adapters:
        """The same adapters, each adding `strength` times as much.

        Raises:
            InputError: the strength is not finite, or so large that an adapter is not.
        """
        check_strength(strength)
        return Adapters({layer: adapter.scaled(strength) for layer, adapter in self.adapters.items()})

    def __matmul__(self, second: Adapters) -> Adapters:
        """Both beside each other: each reads what the attention itself wrote, and what they add adds up, in either order.

        Raises:
            InputError: they are of layers of one name and two sizes.
        """
        if not isinstance(second, Adapters):
            return NotImplemented
        joined = {**self.adapters, **second.adapters}
        for layer in self.adapters.keys() & second.adapters.keys():
            first, then = self.adapters[layer], second.adapters[layer]
            if first.dimension != then.dimension:
                raise InputError(
                    f"The adapter after {quoted(layer)} is for tokens of {first.dimension} numbers in one ERASER and of "
                    f"{then.dimension} in the other: combine erasers of the same architecture."
                )
            joined[layer] = first.beside(then)
        return Adapters(joined)

    @property
    def count(self) -> int:
        """How many numbers they hold."""
        return sum(tensor.numel() for adapter in self.adapters.values() for tensor in adapter)

    def stored(self) -> StoredPart:
        """As a file holds them."""
        return StoredPart(self.kind, named_tensors(self.adapters))

    @classmethod
    def from_stored(cls, part: StoredPart) -> Adapters:
        """The adapters in a part that was read."""
        layers = dict.fromkeys(name.rpartition("/")[0] for name in part.tensors)
        return cls({layer: Adapter(*(part.tensors[f"{layer}/{name}"] for name in Adapter._fields)) for layer in layers})

    def describe(self) -> str:
        """As in 'after 16 cross-attentions, width 128 at most'."""
        count = len(self.adapters)
        widest = max(adapter.width for adapter in self.adapters.values())
        return f"after {count} cross-attention{'s' if count > 1 else ''}, width {widest} at most"


def named_tensors(adapters: Mapping[str, Adapter]) -> dict[str, Tensor]:
    """All tensors by the name of the layer and their own."""
    return {f"{layer}/{name}": one for layer, adapter in adapters.items() for name, one in adapter._asdict().items()}


def _check(layer: str, adapter: Adapter) -> None:
    down, down_bias, up, up_bias = adapter
    plain = all(tensor.is_floating_point() and tensor.dtype == down.dtype for tensor in adapter)
    if not plain or (down.ndim, up.ndim) != (2, 2) or 0 in up.shape:
        fits = False
    else:
        dimension, width = up.shape
        fits = (down.shape, down_bias.shape, up_bias.shape) == ((width, dimension), (width,), (dimension,))
    if not fits:
        raise InputError(
            f"The adapter after {quoted(layer)} does not fit together: give down [width, d], down_bias [width], up [d, width] and "
            "up_bias [d] of one float type."
        )
    if not all(map(is_finite, adapter)):
        raise InputError(f"The adapter after {quoted(layer)} holds NaN or infinite values: lower the strength.")
