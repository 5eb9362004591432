"""What some models do to every token before a key or value weight reads it: T is derived from what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import UnsupportedModelError

Values = Mapping[str, Any]
ReadWeight = Callable[[str], Tensor]
"""The weight of a layer below `diffusion_model` by its name, as the MODEL's patch chain has it."""


class LoadedStage(Protocol):
    """A stage with the weights of one MODEL.

    Attributes:
        reads: d', the size of the tokens that it reads.
    """

    reads: int

    def apply(self, tokens: Tensor, values: Values) -> Tensor:
        """What the key and value weights read for `tokens` [n, d'] of a CONDITIONING with those values: [n, d]."""
        ...

    def undo(self, tokens: Tensor) -> Tensor:
        """Tokens [n, d'] of which `apply` makes `tokens` [n, d], as far as any do.

        Raises:
            UnsupportedModelError: there is no way back.
        """
        ...


class TokenStage(Protocol):
    """Says which layers of a MODEL come first."""

    def load(self, network: Any, read: ReadWeight) -> LoadedStage | None:
        """The stage with the weights of one MODEL; None where MODEL does not have it.

        Args:
            network: its diffusion model.
            read: gives the weights.
        """
        ...


@dataclass(frozen=True)
class Norm:
    """A root-mean-square norm with learned gain, where the model has it.

    Attributes:
        layer: its name below `diffusion_model`.
    """

    layer: str

    def load(self, network: Any, read: ReadWeight) -> LoadedStage | None:
        """See `TokenStage`."""
        norm = _submodule(network, self.layer)
        return None if norm is None else _LoadedNorm(read(f"{self.layer}.weight"), norm.eps)


class _LoadedNorm:
    def __init__(self, gain: Tensor, eps: float | None) -> None:
        self._gain, self._eps = gain, eps
        self.reads = len(gain)

    def apply(self, tokens: Tensor, values: Values) -> Tensor:
        gain = self._gain.to(tokens.device)
        return torch.nn.functional.rms_norm(tokens.float(), gain.shape, gain, self._eps)

    def undo(self, tokens: Tensor) -> Tensor:
        # The norm gives these tokens again, except for their length, which it sets.
        gain = self._gain.to(tokens.device)
        return torch.where(gain == 0, 0, tokens / gain)


@dataclass(frozen=True)
class LearnedPadding:
    """HunyuanDiT's: a network for one of its two text encoders, then a learned row for every masked token.

    Attributes:
        mask: the value of CONDITIONING that says which tokens are there (1).
        first: whether these are the tokens whose learned ones come first.
        network: name of two linear layers with SiLU between them; empty for none.
    """

    mask: str
    first: bool
    network: str = ""

    def load(self, network: Any, read: ReadWeight) -> LoadedStage:
        """See `TokenStage`."""
        padding = read("text_embedding_padding")
        length = network.text_len
        own = padding[:length] if self.first else padding[length:]
        layers = [read(f"{self.network}.{place}") for place in _MLP] if self.network else []
        return _LoadedPadding(own, layers, self.mask)


_MLP = ("0.weight", "0.bias", "2.weight", "2.bias")


class _LoadedPadding:
    def __init__(self, padding: Tensor, layers: list[Tensor], mask: str) -> None:
        self._padding, self._layers, self._mask = padding, layers, mask
        self.reads = (layers[0] if layers else padding).shape[1]

    def apply(self, tokens: Tensor, values: Values) -> Tensor:
        outputs = tokens.float()
        if self._layers:
            first, first_bias, second, second_bias = (layer.to(tokens.device) for layer in self._layers)
            inner = torch.nn.functional.silu(torch.nn.functional.linear(outputs, first, first_bias))
            outputs = torch.nn.functional.linear(inner, second, second_bias)
        mask = values.get(self._mask)
        if mask is None:
            return outputs
        there = mask[0].bool().to(tokens.device)
        # The learned rows stand in for the last tokens, of which there may be more.
        count = min(len(self._padding), len(outputs))
        padding = self._padding[-count:].to(tokens.device)
        padded = torch.where(there[-count:, None], outputs[-count:], padding)
        return torch.cat([outputs[:-count], padded])

    def undo(self, tokens: Tensor) -> Tensor:
        raise UnsupportedModelError(
            "HunyuanDiT reads part of the text through a network, so there is no embedding to give back: look at the "
            "erasure's report instead."
        )


def _submodule(network: Any, name: str) -> Any:
    found = network
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
