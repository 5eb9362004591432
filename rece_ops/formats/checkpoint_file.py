"""Checkpoints as files: tensors read one at a time, and a copy written in which some of them are others.

A copy has every tensor of the original in its place, with its name, dtype and shape; nothing is ever in memory but one tensor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import InputError
from ..linear.finite import is_finite
from ..texts import quoted
from .atomic import write_atomically
from .tensor_file import Entry, TensorFile, open_tensors, write_header

SUFFIX = ".safetensors"
DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
    }
)
"""The dtypes that can be changed, by the format's names."""
REMEDY = "get the file again"
# A digest of tensors that are no longer these.
_STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")

Change = Callable[[Tensor], Tensor]
"""What a tensor becomes; the result is rounded to the dtype that it was stored in."""
Progress = Callable[[int, int], None]


class CheckpointFile:
    """An open checkpoint whose header was checked; see `open_checkpoint`.

    Attributes:
        name: of the file, for messages.
        metadata: texts by name.
        entries: dtype and shape of each tensor, by name.
    """

    def __init__(self, name: str, file: TensorFile) -> None:
        self.name, self._file = name, file
        self.metadata: Mapping[str, str] = file.metadata
        self.entries: Mapping[str, Entry] = file.entries

    def read(self, key: str) -> Tensor:
        """A tensor as it is stored, in memory of its own, on the CPU.

        Raises:
            InputError: its dtype is none of `DTYPES`, or the file is damaged.
        """
        entry = self.entries[key]
        if entry.dtype not in DTYPES:
            raise InputError(
                f"The tensor {quoted(key)} of {quoted(self.name)} is stored as {quoted(entry.dtype)}, which cannot be changed "
                f"exactly: use the model in {', '.join(DTYPES)}, or save the ERASER and put it on this one with 'Apply Eraser'."
            )
        content = bytearray(b"".join(self._file.chunks(key)))
        if not content:
            return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        try:
            return torch.frombuffer(content, dtype=DTYPES[entry.dtype]).reshape(entry.shape)
        except (RuntimeError, ValueError):
            raise InputError(
                f"The tensor {quoted(key)} of {quoted(self.name)} has not the size that its shape says: {REMEDY}."
            ) from None

    def copy_with(
        self, path: str | os.PathLike[str], changes: Mapping[str, Change], notes: Mapping[str, str], progress: Progress
    ) -> Path:
        """Write the checkpoint with some tensors changed and `notes` added to its metadata, in one step.

        Args:
            path: of the new file; its folder exists.
            changes: by name of the tensor.
            notes: further metadata; digests of what the tensors were are left out.
            progress: called as progress(done, total) after every tensor; may raise to cancel.

        Raises:
            InputError: a tensor cannot be changed, or would not be finite.
            OSError: the disk is full, or the like. What was at `path` stays as it was.
        """
        metadata = {key: value for key, value in self.metadata.items() if key not in _STALE} | dict(notes)
        return write_atomically(path, lambda file: self._write(file, changes, metadata, progress))

    def _write(
        self, file: BinaryIO, changes: Mapping[str, Change], metadata: Mapping[str, str], progress: Progress
    ) -> None:
        ordered = sorted(self.entries.items(), key=lambda item: (item[1].start, item[1].end))
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        for key, entry in ordered:
            header[key] = {
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "data_offsets": [entry.start, entry.end],
            }
        write_header(file, header)
        for done, (key, _) in enumerate(ordered, start=1):
            if key in changes:
                file.write(self._changed(key, changes[key]))
            else:
                for piece in self._file.chunks(key):
                    file.write(piece)
            progress(done, len(ordered))

    def _changed(self, key: str, change: Change) -> bytes:
        stored = self.read(key)
        found = rounded(change(stored), stored.dtype, key)
        return found.contiguous().view(torch.uint8).numpy().tobytes()


def rounded(tensor: Tensor, dtype: torch.dtype, key: str) -> Tensor:
    """`tensor` in another dtype, on the CPU.

    Raises:
        InputError: that cannot hold it.
    """
    # Not all of PyTorch's conversions to fp8 keep what is too large for it from becoming the largest number, or NaN.
    if not is_finite(tensor) or tensor.abs().max() > torch.finfo(dtype).max:
        raise InputError(
            f"The tensor {quoted(key)} would hold numbers that are not finite, or too large for "
            f"{str(dtype).removeprefix('torch.')}: lower the strength, or make the erasure with larger 'regularization'."
        )
    return tensor.to("cpu", dtype)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[CheckpointFile]:
    """Open a checkpoint and check its header.

    Raises:
        InputError: it is no safetensors file, or not a whole one.
        OSError: it cannot be read.
    """
    if path.suffix.lower() != SUFFIX:
        raise InputError(
            f"{quoted(path.name)} is not a .safetensors file. A .ckpt, .pt, .pth or .bin file is a pickle, which can run any "
            "program when it is read, so it is not: get the model as safetensors, or convert it where you trust it."
        )
    with open_tensors(path, REMEDY) as file:
        yield CheckpointFile(path.name, file)
