"""Low-rank changes beside the layers of a MODEL that everybody shares, only for as long as it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.utils
import torch
from torch import Tensor, nn

from ....rece_ops import LowRank
from ..architectures.detection import PREFIX, SUFFIX
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


class TrainedLayers:
    """Layers whose outputs get up @ down of their inputs in addition, while `on`.

    Hooks, which leave the weights alone in whatever dtype and place they are, and which are gone when `attached` ends. A
    convolution's `down` has the kernel, `up` is pointwise: together they are the convolution with up @ down.

    Args:
        model: a ModelPatcher.
        changes: of each weight the factors of one change or of several.
    """

    def __init__(self, model: Model, changes: Mapping[str, tuple[LowRank, ...]]) -> None:
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

    def _hook(self, changes: tuple[LowRank, ...]) -> Any:
        def add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._on:
                return None
            for change in changes:
                output = output + _applied(layer, change, inputs[0]).to(output.dtype)
            return output

        return add


def _applied(layer: Any, change: LowRank, entered: Tensor) -> Tensor:
    up, down = (factor.to(entered.dtype) for factor in change)
    if not isinstance(layer, nn.Conv2d):
        return nn.functional.linear(nn.functional.linear(entered, down), up)
    kernel = down.reshape(-1, *layer.weight.shape[1:])
    inner = nn.functional.conv2d(entered, kernel, None, layer.stride, layer.padding, layer.dilation)
    return nn.functional.conv2d(inner, up[:, :, None, None])


def fixed_factors(changes: Mapping[str, LowRank], device: torch.device) -> dict[str, LowRank]:
    """Factors that are not trained, as tensors of their own on `device`."""
    return {
        key: LowRank(*(factor.to(device, torch.float32, copy=True) for factor in pair)) for key, pair in changes.items()
    }
