"""What enters the feed-forward output layers of a UNet while it denoises, as norms and means step by step."""

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


class NeuronActivity:
    """Norms of the inputs of layers over all tokens, each token scaled to length 1, and means of the inputs as they are.

    Nothing else is kept of an activation.

    Args:
        model: a ModelPatcher.
        columns: how many inputs the layers have, by the keys of their weights.
        steps: how many steps are told apart.
    """

    def __init__(self, model: Model, columns: dict[str, int], steps: int) -> None:
        self._layers = {key: comfy.utils.get_attr(model.model, key.removesuffix(SUFFIX)) for key in columns}
        device = model.load_device
        self._squares, self._sums = (
            {key: torch.zeros(steps, count, device=device) for key, count in columns.items()} for _ in range(2)
        )
        self._tokens = {key: [0] * steps for key in columns}
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
                handles.append(layer.register_forward_pre_hook(self._hook(key)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def norms(self, key: str) -> Tensor:
        """[steps, columns] of that layer."""
        return self._squares[key].sqrt()

    def means(self, key: str) -> Tensor:
        """[steps, columns] of that layer; 0 of a step in which nothing came."""
        counts = torch.tensor(self._tokens[key], device=self._sums[key].device).clamp(min=1)
        return self._sums[key] / counts[:, None]

    def _hook(self, key: str) -> Any:
        squares, sums, counted = self._squares[key], self._sums[key], self._tokens[key]

        def add(layer: Any, inputs: tuple[Tensor, ...]) -> None:
            step = self._step
            if step >= self._steps:
                return
            # One picture at a time: all at once would be a second set of activations in float32.
            for picture in inputs[0]:
                tokens = picture.float()
                sums[step] += tokens.sum(dim=0).to(sums.device)
                counted[step] += len(tokens)
                squares[step] += torch.nn.functional.normalize(tokens, dim=-1).square().sum(dim=0).to(squares.device)

        return add
