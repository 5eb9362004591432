"""Low-rank changes beside the layers of a MODEL that everybody shares, only for as long as it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import comfy.utils
import torch
from torch import Tensor, nn

from ....rece_ops import EraserSet, LowRank, SparseChange
from ....rece_ops.sparse_change import dense_change
from ..architectures.detection import PREFIX, SUFFIX
from ..patching.weights import effective_weight
from ..protocols import Model

# What says the noise level and the size of the picture: no concept is in it.
_LEFT_ALONE = ("time_embedding.", "add_embedding.", "class_embedding.")
_CROSS_ATTENTION = ".attn2."
_TRANSFORMER = ".transformer_blocks."


def trained_shapes(model: Model, layers: str) -> dict[str, tuple[int, ...]]:
    """The sizes of a UNet's weights that `layers` (see `rece_ops.training.settings.LAYERS`) names, by state-dict key.

    All of them have a name in the LoRA conventions, so that what is trained can be exported.
    """
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    known = model.model.state_dict()
    found = {}
    for name, key in names.items():
        whole = PREFIX + key
        if whole not in known or not key.endswith(SUFFIX) or name.startswith(_LEFT_ALONE):
            continue
        layer = comfy.utils.get_attr(model.model, whole.removesuffix(SUFFIX))
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and _is_chosen(key, layers):
            found[whole] = tuple(layer.weight.shape)
    return dict(sorted(found.items()))


def _is_chosen(key: str, layers: str) -> bool:
    if layers == "all but cross-attention":
        return _CROSS_ATTENTION not in key
    return layers == "all" or _TRANSFORMER in key


class SparseDifference(NamedTuple):
    """What is added to some numbers of a weight: `values` [n] at the `places` [n]."""

    places: Tensor
    values: Tensor


class WholeDifference(NamedTuple):
    """What is added to a linear layer's weight [rows, columns] and bias [rows]."""

    weight: Tensor
    bias: Tensor


Added = LowRank | SparseDifference | WholeDifference


class TrainedLayers:
    """Layers whose outputs get what changes of their weights make of their inputs in addition, while `on`.

    Hooks, which leave the weights alone in whatever dtype and place they are, and which are gone when `attached` ends. A
    convolution's `down` has the kernel, `up` is pointwise: together they are the convolution with up @ down.

    Args:
        model: a ModelPatcher, of a UNet or of text encoders.
        changes: of each weight one change or several.
    """

    def __init__(self, model: Model, changes: Mapping[str, tuple[Added, ...]]) -> None:
        self._layers = {key: comfy.utils.get_attr(model.model, key.removesuffix(SUFFIX)) for key in changes}
        self._changes = changes
        self._on = False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hang the hooks on the layers, and take them off however it ends."""
        handles: list[Any] = []
        try:
            for key, layer in self._layers.items():
                handles.append(layer.register_forward_hook(self._hook(self._changes[key])))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let the changes count."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _hook(self, changes: tuple[Added, ...]) -> Any:
        def add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._on:
                return None
            for change in changes:
                output = output + _applied(layer, change, inputs[0]).to(output.dtype)
            return output

        return add


def _applied(layer: Any, change: Added, entered: Tensor) -> Tensor:
    if isinstance(change, WholeDifference):
        return nn.functional.linear(entered, change.weight.to(entered), change.bias.to(entered))
    if isinstance(change, SparseDifference):
        dense = dense_change(change.values.to(entered.dtype), change.places, layer.weight.shape)
        if not isinstance(layer, nn.Conv2d):
            return nn.functional.linear(entered, dense)
        return nn.functional.conv2d(entered, dense, None, layer.stride, layer.padding, layer.dilation)
    up, down = (factor.to(entered.dtype) for factor in change)
    if not isinstance(layer, nn.Conv2d):
        return nn.functional.linear(nn.functional.linear(entered, down), up)
    kernel = down.reshape(-1, *layer.weight.shape[1:])
    inner = nn.functional.conv2d(entered, kernel, None, layer.stride, layer.padding, layer.dilation)
    return nn.functional.conv2d(inner, up[:, :, None, None])


def with_changes_of(
    model: Model, trained: Mapping[str, LowRank], begun: EraserSet | None, device: torch.device
) -> dict[str, tuple[Added, ...]]:
    """Of every weight what is trained, and what the eraser at the start changes besides its text transforms, on `device`."""
    found: dict[str, tuple[Added, ...]] = {key: (pair,) for key, pair in trained.items()}
    for change in begun.weight_changes.values() if begun is not None else ():
        for key, pair in change.changes.items():
            fixed = LowRank(*(factor.to(device, torch.float32, copy=True) for factor in pair))
            found[key] = (*found.get(key, ()), fixed)
    for sparse in begun.sparse_changes.values() if begun is not None else ():
        for key, difference in sparse_differences(model, sparse, device).items():
            found[key] = (*found.get(key, ()), difference)
    return found


def sparse_differences(model: Model, change: SparseChange, device: torch.device) -> dict[str, SparseDifference]:
    """What `change` adds to the weights of MODEL as they stand, as tensors of their own on `device`."""
    found = {}
    for key, numbers in change.changes.items():
        values = numbers.difference(effective_weight(model, key, device))
        with torch.inference_mode(False):
            found[key] = SparseDifference(
                numbers.places.to(device, torch.long, copy=True), values.to(torch.float32, copy=True)
            )
    return found
