"""What enters the feed-forward output layers of a UNet while it denoises, as norms step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ..architectures.detection import PREFIX, SUFFIX
from ..protocols import Model

_OUTPUT = f".ff.net.2{SUFFIX}"


def feed_forward_outputs(model: Model) -> dict[str, tuple[int, int]]:
    """The sizes [rows, columns] of the output weights of all feed-forward layers, by state-dict key, in the model's order."""
    known = model.model.state_dict()
    found = {}
    for key in known:
        if key.startswith(PREFIX) and key.endswith(_OUTPUT):
            rows, columns = comfy.utils.get_attr(model.model, key).shape
            found[key] = (rows, columns)
    return found


class NeuronNorms:
    """Norms of the inputs of layers over all tokens, each token scaled to length 1; nothing else is kept of an activation.

    Args:
        model: a ModelPatcher.
        columns: how many inputs the layers have, by the keys of their weights.
        steps: how many steps are told apart.
    """

    def __init__(self, model: Model, columns: dict[str, int], steps: int) -> None:
        self._layers = {key: comfy.utils.get_attr(model.model, key.removesuffix(SUFFIX)) for key in columns}
        device = model.load_device
        self._squares = {key: torch.zeros(steps, count, device=device) for key, count in columns.items()}
        self._steps, self._step = steps, 0

    def begin(self, step: int) -> None:
        """What comes now is of that step; steps beyond the last are left out."""
        self._step = step

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hang hooks on the layers, and take them off however it ends."""
        handles: list[Any] = []
        try:
            for key, layer in self._layers.items():
                handles.append(layer.register_forward_pre_hook(self._hook(self._squares[key])))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def norms(self, key: str) -> Tensor:
        """[steps, columns] of that layer."""
        return self._squares[key].sqrt()

    def _hook(self, squares: Tensor) -> Any:
        def add(layer: Any, inputs: tuple[Tensor, ...]) -> None:
            if self._step >= self._steps:
                return
            # One picture at a time: all at once would be a second set of activations in float32.
            for picture in inputs[0]:
                tokens = torch.nn.functional.normalize(picture.float(), dim=-1)
                squares[self._step] += tokens.square().sum(dim=0).to(squares.device)

        return add
