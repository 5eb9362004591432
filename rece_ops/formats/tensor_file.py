"""The safetensors format, read and written by plain calls: nothing is mapped, and nothing stays open.

Layout: eight bytes that say how long the header is (little end first), the header (a JSON object: name → dtype, shape and
place of each tensor, and `__metadata__`, text → text), the tensors without gaps. A mapped file cannot be replaced on Windows, and
elsewhere one that is cut short ends the process that reads it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from ..errors import EraserFileError, InputError

MAX_HEADER_BYTES = 16 * 2**20
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_PIECE = 16 * 2**20
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
INDEX = "I32"
"""The format's name for the whole numbers that say places."""
_DTYPES = {**_FLOATS, INDEX: torch.int32}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Entry(NamedTuple):
    """One tensor in the header: its dtype by the format's name, its shape, and its place behind the header in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def is_float(self) -> bool:
        """Whether it holds numbers of half, bfloat16, single or double precision."""
        return self.dtype in _FLOATS


class TensorFile:
    """An open safetensors file whose header was checked; see `open_tensors`.

    Attributes:
        metadata: texts by name.
        entries: what the header says of each tensor, by name.
    """

    def __init__(self, name: str, file: BufferedReader, size: int, remedy: str) -> None:
        self._name, self._remedy = name, remedy
        self._file = file
        header, self._data = self._read_header(size)
        self.metadata = self._checked_metadata(header.pop("__metadata__", None) or {})
        self.entries = {key: self._checked_entry(told) for key, told in header.items()}
        self._check_places(size - self._data)

    def read(self, key: str) -> tuple[Tensor, memoryview]:
        """A tensor in memory of its own, on the CPU, and its bytes.

        Raises:
            EraserFileError: the file ends before it.
        """
        entry = self.entries[key]
        content = bytearray(entry.end - entry.start)
        self._file.seek(self._data + entry.start)
        if self._file.readinto(content) != len(content):
            raise self._damaged("it ends too early")
        if not content:
            return torch.empty(entry.shape, dtype=_DTYPES[entry.dtype]), memoryview(content)
        return torch.frombuffer(content, dtype=_DTYPES[entry.dtype]).reshape(entry.shape), memoryview(content)

    def chunks(self, key: str, most: int = _PIECE) -> Iterator[bytes]:
        """The bytes of a tensor of any dtype, in pieces of at most `most`.

        Raises:
            EraserFileError: the file ends before they do.
        """
        entry = self.entries[key]
        for start in range(entry.start, entry.end, most):
            self._file.seek(self._data + start)
            length = min(most, entry.end - start)
            piece = self._file.read(length)
            if len(piece) != length:
                raise self._damaged("it ends too early")
            yield piece

    def _read_header(self, size: int) -> tuple[dict[str, Any], int]:
        prefix = self._file.read(_LENGTH.size)
        length = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - _LENGTH.size):
            raise self._damaged("its header has no sensible length")
        try:
            header = json.loads(self._file.read(length).decode(), object_pairs_hook=_without_twins)
        except (ValueError, RecursionError):
            raise self._damaged("its header cannot be read") from None
        if not isinstance(header, dict):
            raise self._damaged("its header is no JSON object")
        return header, _LENGTH.size + length

    def _checked_metadata(self, told: Any) -> dict[str, str]:
        if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
            raise self._damaged("its metadata are not texts")
        return told

    def _checked_entry(self, told: Any) -> Entry:
        try:
            (start, end), shape, dtype = told["data_offsets"], told["shape"], told["dtype"]
            entry = Entry(dtype, tuple(shape), start, end)
            sound = isinstance(dtype, str) and all(type(one) is int and one >= 0 for one in (*shape, start, end))
        except (TypeError, KeyError, ValueError):
            sound = False
        if not sound or (dtype in _DTYPES and math.prod(entry.shape) * _DTYPES[dtype].itemsize != end - start):
            raise self._damaged("its header says of a tensor what cannot be")
        return entry

    def _check_places(self, size: int) -> None:
        reached = 0
        for start, end in sorted((entry.start, entry.end) for entry in self.entries.values()):
            if start != reached or end < start:
                raise self._damaged("its tensors overlap or leave gaps")
            reached = end
        if reached != size:
            raise self._damaged(f"it holds {size} bytes of tensors where its header says {reached}")

    def _damaged(self, why: str) -> EraserFileError:
        return EraserFileError(f"'{self._name}' is damaged or no safetensors file ({why}): {self._remedy}.")


@contextmanager
def open_tensors(path: str | os.PathLike[str], remedy: str = "save the eraser again") -> Iterator[TensorFile]:
    """Open a safetensors file and check its header; `remedy` is what to do about a damaged one.

    Raises:
        EraserFileError: it is no safetensors file, or not a whole one.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        yield TensorFile(os.path.basename(path), file, os.fstat(file.fileno()).st_size, remedy)


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a whole safetensors file.

    Args:
        file: open for writing, at its start.
        tensors: floats, or whole numbers of 32 bits, of any shape, on any device.
        metadata: texts by name.

    Raises:
        InputError: a tensor has a dtype that `TensorFile` does not read.
        OSError: the disk is full, or the like.
    """
    kept = {key: _as_stored(key, tensor) for key, tensor in tensors.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    reached = 0
    for key, tensor in kept.items():
        end = reached + tensor.nbytes
        header[key] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [reached, end]}
        reached = end
    write_header(file, header)
    for tensor in kept.values():
        file.write(_bytes_of(tensor))


def write_header(file: BinaryIO, header: Mapping[str, Any]) -> None:
    """What stands before the tensors."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(_LENGTH.pack(len(text)) + text)


class TensorDigest:
    """SHA-256 over tensors: of each the name, dtype, shape and bytes, in the order of their names."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> str:
        """The digest of tensors that are about to be written."""
        digest = cls()
        for key, tensor in sorted(tensors.items()):
            stored = _as_stored(key, tensor)
            digest.add(key, _NAMES[stored.dtype], tuple(stored.shape), _bytes_of(stored))
        return digest.hexdigest()

    def add(self, key: str, dtype: str, shape: tuple[int, ...], content: memoryview) -> None:
        """The next tensor in the order of names."""
        self._hash.update(f"{key}\n{dtype}\n{'x'.join(map(str, shape))}\n".encode())
        self._hash.update(content)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()


def _as_stored(key: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in _NAMES:
        raise InputError(
            f"The tensor '{key}' is {tensor.dtype}: only floats of 16, 32 and 64 bits and whole numbers of 32 are saved."
        )
    return tensor.detach().cpu().contiguous()


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, which must outlive what is returned."""
    if not tensor.nbytes:
        return memoryview(b"")
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found
