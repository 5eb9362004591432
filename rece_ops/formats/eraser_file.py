"""The eraser file: safetensors with `<stream>/left` and `<stream>/right`, or `<stream>/delta`, per text stream.

The header's metadata holds `format`, `format_version`, `provenance` (JSON, see `Provenance`) and `sha256`, the digest of the
tensors (see `TensorDigest`). Version 1 had no digest; its files are read still. Nothing in a file is trusted: sizes, names,
shapes, dtypes, finiteness and the digest are checked before a tensor leaves this module.

It is read in three layers: the header (`tensor_file`), the typed metadata, the tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..errors import EraserFileError, InputError
from ..linear.finite import is_finite
from ..provenance import Provenance
from .atomic import save_atomically
from .tensor_file import Entry, TensorDigest, TensorFile, open_tensors

FORMAT = "rece-eraser"
FORMAT_VERSION = 2
# Without a digest.
OLDEST_VERSION = 1
MAX_FILE_BYTES = 2**30
MAX_DIMENSION = 65_536
NO_DIGEST_NOTE = (
    "The file is of an older version of this pack and has no checksum, so that damage to its numbers would not be noticed; "
    "save it again to give it one."
)

_KEY = re.compile(r"(?P<stream>[a-z][a-z0-9_.]{0,63})/(?P<part>left|right|delta)")


class Factors(NamedTuple):
    """T − I of one stream: `left` [d, r] times `right` [r, d], or `left` [d, d] alone."""

    left: Tensor
    right: Tensor | None


class EraserContents(NamedTuple):
    """What an eraser file holds: factors by stream, its provenance, and sentences for whoever loads it."""

    streams: dict[str, Factors]
    provenance: Provenance
    notes: tuple[str, ...]


class _Metadata(NamedTuple):
    """What the header says, typed; no digest in a file of the oldest version."""

    provenance: Provenance
    digest: str | None


def write_eraser_file(
    path: str | os.PathLike[str],
    streams: Mapping[str, Factors],
    provenance: Provenance,
    keep_existing: bool = False,
) -> Path:
    """Write `streams` to `path` in one step (see `save_atomically`); returns where the file is.

    Raises:
        InputError: the provenance is too long, or tells of other dimensions.
        OSError: the file could not be written; an old one is left as it was.
    """
    wrong = _wrong_dimension(provenance, {name: factors.left.shape[0] for name, factors in streams.items()})
    if wrong:
        raise InputError(f"The eraser's provenance {wrong}: give the erasers the provenance that belongs to them.")
    tensors: dict[str, Tensor] = {}
    for name, factors in streams.items():
        if factors.right is None:
            tensors[f"{name}/delta"] = factors.left
        else:
            tensors[f"{name}/left"], tensors[f"{name}/right"] = factors.left, factors.right
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "provenance": provenance.as_json(),
        "sha256": TensorDigest.of(tensors),
    }
    return save_atomically(path, tensors, metadata, keep_existing)


def read_eraser_file(path: str | os.PathLike[str]) -> EraserContents:
    """Read and check an eraser file. The tensors are in memory of their own: the file may change or go afterwards.

    Raises:
        EraserFileError: the file is missing, truncated, changed, not an eraser, of another version, too large,
            or its metadata or tensors have wrong names, types, shapes or values.
    """
    file = Path(path)
    _check_size(file)
    try:
        with open_tensors(file) as reader:
            metadata = _check_metadata(file.name, reader.metadata)
            layout = _check_layout(file.name, reader.entries)
            _check_dimensions(file.name, metadata.provenance, layout, reader.entries)
            tensors = _read_tensors(file.name, reader, metadata.digest)
    except OSError as error:
        raise EraserFileError(f"'{file.name}' cannot be read: {error.strerror}.") from error
    streams = {name: _factors(name, parts, tensors) for name, parts in layout.items()}
    return EraserContents(streams, metadata.provenance, () if metadata.digest else (NO_DIGEST_NOTE,))


def _check_size(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise EraserFileError(f"'{file.name}' cannot be read: {error.strerror}.") from error
    if not file.is_file():
        raise EraserFileError(f"'{file.name}' is not a file.")
    if size > MAX_FILE_BYTES:
        raise EraserFileError(
            f"'{file.name}' is {size / 2**30:.1f} GiB; an eraser has at most {MAX_FILE_BYTES / 2**30:.0f} GiB. "
            "It is probably a checkpoint: load that with a checkpoint loader."
        )


def _check_metadata(name: str, metadata: Mapping[str, str]) -> _Metadata:
    if metadata.get("format") != FORMAT:
        raise EraserFileError(
            f"'{name}' is a safetensors file but not an eraser: choose a file that 'Save Eraser' wrote."
        )
    version = metadata.get("format_version", "")
    if version not in (str(OLDEST_VERSION), str(FORMAT_VERSION)):
        raise EraserFileError(
            f"'{name}' has eraser format version {version[:20]!a}; this pack reads versions {OLDEST_VERSION} to "
            f"{FORMAT_VERSION}: update the pack, or save the eraser again."
        )
    old = version == str(OLDEST_VERSION)
    try:
        provenance = Provenance.from_json(metadata.get("provenance", "{}"), clean=old)
    except InputError as error:
        raise EraserFileError(f"'{name}' cannot be used. {error} Save the eraser again.") from error
    digest = None if old else metadata.get("sha256", "")
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise EraserFileError(f"'{name}' has lost its checksum: save the eraser again, or get the file again.")
    return _Metadata(provenance, digest)


def _check_layout(name: str, entries: Mapping[str, Entry]) -> dict[str, set[str]]:
    layout: dict[str, set[str]] = {}
    for key in entries:
        match = _KEY.fullmatch(key)
        if match is None:
            raise EraserFileError(f"'{name}' holds a tensor {key[:80]!a} that no eraser has.")
        layout.setdefault(match["stream"], set()).add(match["part"])
    if not layout:
        raise EraserFileError(f"'{name}' holds no tensor: save the eraser again.")
    for stream, parts in layout.items():
        if parts not in ({"left", "right"}, {"delta"}):
            raise EraserFileError(f"'{name}' is incomplete: its stream '{stream}' has only {sorted(parts)}.")
        _check_factors(name, {f"{stream}/{part}": entries[f"{stream}/{part}"] for part in parts})
    return layout


def _check_factors(name: str, entries: Mapping[str, Entry]) -> None:
    for key, entry in entries.items():
        if not entry.is_float:
            raise EraserFileError(f"'{name}' has numbers of type {entry.dtype[:20]!a} in '{key}', not floats.")
    shapes = {key.rpartition("/")[2]: entry.shape for key, entry in entries.items()}
    if not _shapes_fit(shapes) or len({entry.dtype for entry in entries.values()}) > 1:
        listed = ", ".join(f"{key} {list(entry.shape)[:4]} {entry.dtype}" for key, entry in sorted(entries.items()))
        raise EraserFileError(f"'{name}' has tensors of shapes and types that do not fit together ({listed}).")


def _shapes_fit(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if any(len(shape) != 2 for shape in shapes.values()):
        return False
    if "delta" in shapes:
        rows, columns = shapes["delta"]
        return rows == columns and 0 < rows <= MAX_DIMENSION
    (dimension, rank), (rank_right, dimension_right) = shapes["left"], shapes["right"]
    return dimension == dimension_right and rank == rank_right <= dimension and 0 < dimension <= MAX_DIMENSION


def _check_dimensions(
    name: str, provenance: Provenance, layout: Mapping[str, set[str]], entries: Mapping[str, Entry]
) -> None:
    dimensions = {
        stream: entries[f"{stream}/{'delta' if 'delta' in parts else 'left'}"].shape[0]
        for stream, parts in layout.items()
    }
    wrong = _wrong_dimension(provenance, dimensions)
    if wrong:
        raise EraserFileError(f"'{name}' cannot be right. Its provenance {wrong}: save the eraser again.")


def _wrong_dimension(provenance: Provenance, dimensions: Mapping[str, int]) -> str:
    """What the provenance says of a stream that its tensors belie; empty where they agree. It may tell of more streams."""
    if provenance.dimensions is None:
        return ""
    for stream, dimension in dimensions.items():
        told = provenance.dimensions.get(stream)
        if told != dimension:
            return f"gives the text stream '{stream}' the dimension {told}, but its tensors have {dimension}"
    return ""


def _read_tensors(name: str, reader: TensorFile, expected: str | None) -> dict[str, Tensor]:
    """Every tensor, read once: what is hashed is what is returned."""
    digest = TensorDigest()
    tensors: dict[str, Tensor] = {}
    for key, entry in sorted(reader.entries.items()):
        tensors[key], content = reader.read(key)
        if expected is not None:
            digest.add(key, entry.dtype, entry.shape, content)
    if expected is not None and digest.hexdigest() != expected:
        raise EraserFileError(
            f"'{name}' was changed after it was saved (its checksum is another): get the file again, or save the eraser again."
        )
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise EraserFileError(f"'{name}' holds NaN or infinite numbers in '{key}'.")
    return tensors


def _factors(stream: str, parts: set[str], tensors: Mapping[str, Tensor]) -> Factors:
    if "delta" in parts:
        return Factors(tensors[f"{stream}/delta"], None)
    return Factors(tensors[f"{stream}/left"], tensors[f"{stream}/right"])


def of_one_stream(provenance: Provenance, stream: str, dimension: int) -> Provenance:
    """The provenance of a file with one stream, whatever the eraser was a part of."""
    return provenance if provenance.dimensions is None else replace(provenance, dimensions={stream: dimension})
