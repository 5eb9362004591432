"""A training that can be gone on with: everything that a step changes, in one safetensors file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..errors import EraserFileError
from ..formats.atomic import save_atomically
from ..formats.tensor_file import open_tensors
from ..linear.finite import is_finite
from ..texts import quoted
from .record import Record

R = TypeVar("R", bound=Record)

_MOST_STEPS = 100_000
_REMEDY = "start the training anew, without 'resume'"


@dataclass(frozen=True, eq=False)
class TrainingState(Generic[R]):
    """Where a training stands.

    Attributes:
        told: what was asked for, plain JSON values; a training is only gone on with where they are the same.
        tensors: all that is learned, by name.
        record: of the steps so far.
    """

    told: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    record: R

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it in one step, beside what is there under that name.

        Raises:
            OSError: the file could not be written.
        """
        held = {"told": self.told, "losses": self.record.series(), "skipped": self.record.skipped}
        metadata = {"rece_training": json.dumps(held, ensure_ascii=False, sort_keys=True)}
        return save_atomically(path, self.tensors, metadata, keep_existing=True)


def load_state(
    path: str | os.PathLike[str], told: Mapping[str, Any], shapes: Mapping[str, torch.Size], kind: type[R]
) -> TrainingState[R]:
    """The state in a file, which is one of the training that was asked for.

    Args:
        path: of the file.
        told: what was asked for.
        shapes: of all tensors that the state must have.
        kind: of the record.

    Raises:
        EraserFileError: the file is damaged, or of another training.
        OSError: it cannot be read.
    """
    name = os.path.basename(path)
    with open_tensors(path, _REMEDY) as file:
        held = _held(name, file.metadata.get("rece_training", ""))
        _check_same(name, held["told"], json.loads(json.dumps(told)))
        record = _record(name, held, kind)
        for key, shape in shapes.items():
            entry = file.entries.get(key)
            if entry is None or entry.dtype != "F32" or entry.shape != tuple(shape):
                raise EraserFileError(
                    f"{quoted(name)} holds no {quoted(key)} of {list(shape)} numbers: it is of another model, {_REMEDY}."
                )
        tensors = {key: file.read(key)[0] for key in shapes}
    if not all(map(is_finite, tensors.values())):
        raise EraserFileError(f"{quoted(name)} holds NaN or infinite numbers: {_REMEDY}.")
    return TrainingState(told, tensors, record)


def _held(name: str, text: str) -> dict[str, Any]:
    """What the file says: `told`, some `losses`, and `skipped`."""
    try:
        held = json.loads(text)
        return {"told": dict(held["told"]), "losses": dict(held["losses"]), "skipped": int(held["skipped"])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise _unsound(name) from None


def _record(name: str, held: Mapping[str, Any], kind: type[R]) -> R:
    """The record of that kind that the file holds, checked: all its series, of one length, finite."""
    record = kind(skipped=held["skipped"])
    try:
        losses = [[float(loss) for loss in held["losses"][key]] for key in record.series()]
    except (ValueError, TypeError, KeyError, OverflowError):
        raise _unsound(name) from None
    sound = len({len(one) for one in losses}) == 1 and len(losses[0]) <= _MOST_STEPS and record.skipped >= 0
    if not sound or not all(math.isfinite(loss) for one in losses for loss in one):
        raise _unsound(name)
    for step in zip(*losses, strict=True):
        record.add(step)
    return record


def _unsound(name: str) -> EraserFileError:
    return EraserFileError(f"{quoted(name)} is no training that was stopped: {_REMEDY}.")


def _check_same(name: str, held: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    differing = [key for key in told if held.get(key) != told[key]]
    if differing:
        raise EraserFileError(
            f"{quoted(name)} is of a training with another {quoted(differing[0])}: set everything as it was when it was "
            f"stopped, or {_REMEDY}."
        )
