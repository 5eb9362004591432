"""The weights of a MODEL as they stand in its patch chain, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ..errors import UnsupportedModelError
from ..protocols import Model
from .forwards import Transform, erased_forwards

_PLAIN = (torch.float32, torch.float16, torch.bfloat16)


class EffectiveWeights(Mapping[str, Tensor]):
    """A lazy mapping from state-dict key to the weight [out, d] that sampling would use, or its first columns, in float32.

    Patches queued on the MODEL (LoRAs upstream) count, whether or not they are loaded now, and erasures inside its
    forward, unless `include_patch` says of what they hold that it does not. What counts only in part of the steps does not.
    Nothing is kept: a weight lives on `device` for as long as the caller holds it.
    """

    def __init__(
        self,
        model: Model,
        keys: tuple[str, ...],
        device: torch.device,
        include_patch: Callable[[Any], bool] = lambda patch: True,
        columns: int | None = None,
    ) -> None:
        self._model, self._keys, self._include_patch, self._columns = model, keys, include_patch, columns
        self.device = device

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        stored, _, convert = comfy.model_patcher.get_key_weight(self._model.model, key)
        backup, hook_backup = self._model.backup.get(key), self._model.hook_backup.get(key)
        if backup is not None:
            stored = backup.weight
        if hook_backup is not None:
            stored = hook_backup[0]
        if convert is None and not stored.is_floating_point():
            raise UnsupportedModelError(
                f"The weights of this MODEL are stored as {type(stored).__name__} of {stored.dtype}, which this pack "
                "cannot read: make the erasure on the same model in half precision or fp8, and put its ERASER on this one "
                "with 'Apply Eraser'."
            )
        weight = comfy.model_management.cast_to_device(stored, self.device, torch.float32, copy=True)
        if convert is not None:
            weight = convert(weight, inplace=True)
        patches = [patch for patch in self._model.patches.get(key, []) if self._include_patch(patch[1])]
        weight = comfy.lora.calculate_weight(patches, weight, key)
        for forward in filter(self._include_patch, erased_forwards(self._model, key)):
            if isinstance(forward.transform, Transform):
                weight = forward.transform.of_weight(weight)
        return weight if self._columns is None else weight[:, : self._columns]


def quantised_as(model: Model, keys: Iterable[str]) -> str:
    """How the MODEL stores the first of those weights that is not plain floating point; empty where all are."""
    for key in keys:
        stored, _, convert = comfy.model_patcher.get_key_weight(model.model, key)
        if type(stored) not in (Tensor, torch.nn.Parameter):
            return type(stored).__name__
        # ComfyUI 0.33 may hold the file's dtype, and cast a weight to another when it is loaded.
        layer = comfy.utils.get_attr(model.model, key.rsplit(".", 1)[0])
        dtype = getattr(layer, "weight_comfy_model_dtype", None) or stored.dtype
        if dtype not in _PLAIN or convert is not None:
            return str(dtype).removeprefix("torch.")
    return ""


def effective_weight(model: Model, key: str, device: torch.device) -> Tensor:
    """One weight of MODEL as sampling would use it, in float32."""
    return EffectiveWeights(model, (key,), device)[key]
