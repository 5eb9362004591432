"""The projections of a MODEL as they stand in its patch chain, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor


class EffectiveWeights(Mapping[str, Tensor]):
    """A lazy mapping from state-dict key to the weight [out, d] that sampling would use, or its first columns, in float32.

    Patches queued on the MODEL (LoRAs upstream) count, whether or not they are loaded now, unless `counts` says of
    what they hold that it does not. Nothing is kept: a weight lives on `device` for as long as the caller holds it.
    """

    def __init__(
        self,
        model: Any,
        keys: tuple[str, ...],
        device: torch.device,
        counts: Callable[[Any], bool] = lambda patch: True,
        columns: int | None = None,
    ) -> None:
        self._model, self._keys, self._counts, self._columns = model, keys, counts, columns
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
        weight = comfy.model_management.cast_to_device(stored, self.device, torch.float32, copy=True)
        if convert is not None:
            weight = convert(weight, inplace=True)
        patches = [patch for patch in self._model.patches.get(key, []) if self._counts(patch[1])]
        weight = comfy.lora.calculate_weight(patches, weight, key)
        return weight if self._columns is None else weight[:, : self._columns]


def stored_dtypes(model: Any, keys: tuple[str, ...]) -> set[torch.dtype]:
    """The dtypes in which the MODEL stores those weights."""
    return {comfy.model_patcher.get_key_weight(model.model, key)[0].dtype for key in keys}
