"""A model on the disk as a session: its text encoders are loaded, its other weights are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import Eraser, EraserSet, InputError, SparseChange, WeightChange
from ....rece_ops.formats.checkpoint_file import Change, CheckpointFile
from ..architectures.detection import PREFIX, TextStream
from ..architectures.places import by_strength, check_no_schedule
from ..errors import UnsupportedModelError
from ..session import Session
from ..text.reader import TextReader

SCALE = "scale_weight"
"""What the fp8 files of ComfyUI call the number that a layer's weight is multiplied by, after its name."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a weight lies.

    Attributes:
        file: an open checkpoint.
        name: of the tensor.
    """

    file: CheckpointFile
    name: str

    def read(self) -> Tensor:
        """The weight in float32, on the CPU.

        Raises:
            InputError: it is stored in a way that cannot be changed exactly.
        """
        return self.file.read(self.name).float() * self.scale()

    def scale(self) -> float:
        """What the stored numbers are multiplied by."""
        name = f"{self.name.removesuffix('weight')}{SCALE}"
        return float(self.file.read(name).float().item()) if name in self.file.entries else 1.0


class StoredWeights(Mapping[str, Tensor]):
    """What `EffectiveWeights` is of a loaded MODEL: weights [out, d] by key in float32, each read when it is asked for."""

    def __init__(
        self, tensors: Mapping[str, StoredTensor], keys: Sequence[str], device: torch.device, columns: int | None
    ) -> None:
        self._tensors, self._keys, self._columns = tensors, tuple(keys), columns
        self.device = device

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> Tensor:
        weight = self._tensors[key].read().to(self.device)
        return weight if self._columns is None else weight[:, : self._columns]


@dataclass(frozen=True)
class StoredSession(Session):
    """A `Session` whose MODEL has no weights of its own.

    Attributes:
        tensors: where the weights lie, by their state-dict keys.
    """

    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)

    @cached_property
    def reader(self) -> TextReader:
        """See `Session`."""
        return TextReader(self.model, self.architecture, lambda name: self.tensor(PREFIX + name).read())

    def weights(self, stream: TextStream, include_patch: Callable[[Any], bool] = bool) -> Any:
        """See `Session`; a file has no patches."""
        tensors = {key: self.tensor(key) for key in stream.keys}
        return StoredWeights(tensors, stream.keys, self.device(stream), stream.columns)

    def tensor(self, key: str) -> StoredTensor:
        """Where a weight lies.

        Raises:
            InputError: the file has it under another name, or in parts.
        """
        if key not in self.tensors:
            raise InputError(
                f"The file keeps '{key}' under another name than ComfyUI, or in several parts: erase with the node, and save "
                "with 'CheckpointSave'."
            )
        return self.tensors[key]


def changes_of(session: StoredSession, eraser: EraserSet, strength: float) -> dict[str, dict[str, Change]]:
    """What becomes of the tensors that are erased from, by the name of their file and their own.

    Raises:
        InputError: the strength is not finite, or the file keeps a weight under another name.
        UnsupportedModelError: the eraser counts only in part of the steps, or has adapters.
        WrongConnectionError: the eraser belongs to another architecture.
    """
    check_no_schedule(eraser, "A checkpoint")
    if eraser.adapters:
        raise UnsupportedModelError(
            "This ERASER has adapters after the cross-attentions, for which a checkpoint has no place: put it on the loaded model "
            "with 'Apply Eraser' in every workflow."
        )
    found: dict[str, dict[str, Change]] = {}
    for key, changes in _changes_by_key(session, eraser, strength).items():
        tensor = session.tensor(key)
        found.setdefault(tensor.file.name, {})[tensor.name] = _in_order(changes, tensor.scale())
    return found


def _changes_by_key(session: StoredSession, eraser: EraserSet, strength: float) -> dict[str, list[Change]]:
    """What is done to each weight, in the order of 'Apply Eraser': the text transform, then other changes in the ERASER's order."""
    strengths, found = session.strengths_of(eraser), dict[str, list[Change]]()
    for stream in session.streams_of(eraser):
        for factor, keys in by_strength(stream.keys, strengths).items():
            changed = partial(_transformed, eraser.transforms[stream.name].scaled(factor * strength), stream.dimension)
            for key in keys:
                found.setdefault(key, []).append(changed)
    for change in eraser.changes:
        for factor, keys in by_strength(change.changes, strengths).items():
            scaled = change.scaled(factor * strength)
            for key in keys:
                found.setdefault(key, []).append(partial(_added, scaled, key))
    return found


def _in_order(changes: Sequence[Change], scale: float) -> Change:
    """All of `changes`, of a weight that is stored divided by `scale`."""

    def changed(stored: Tensor) -> Tensor:
        weight = stored.to(torch.float64 if stored.dtype == torch.float64 else torch.float32) * scale
        for change in changes:
            weight = change(weight)
        return weight / scale

    return changed


def _transformed(eraser: Eraser, dimension: int, weight: Tensor) -> Tensor:
    return torch.cat([eraser.apply_to_weight(weight[:, :dimension]), weight[:, dimension:]], dim=1)


def _added(change: WeightChange | SparseChange, key: str, weight: Tensor) -> Tensor:
    return weight + change.of_weight(key, weight)
