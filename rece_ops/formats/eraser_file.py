"""The eraser file: safetensors with the tensors of every part under `<part>/<tensor>`.

The header's metadata holds `format`, `format_version`, `parts` (JSON: kind and attributes by the part's name, see
`formats.parts`), `provenance` (JSON, see `Provenance`) and `sha256`, the digest of the tensors (see `TensorDigest`). A file of
version 3 also has `shape` (JSON, see `Shape`); what has none is written as version 2, which older packs read too. In version 1
every part was a text transform, and there was no digest; its files are still read. Other programs may have texts of
their own there, which are not read, such as ComfyUI's workflow. Nothing in a file is trusted: sizes, names,
shapes, dtypes, finiteness and the digest are checked before a tensor leaves this module.

It is read in three layers: the header (`tensor_file`), the typed metadata, the tensors.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import EraserFileError, InputError
from ..linear.finite import is_finite
from ..provenance import Provenance
from ..shape import WHOLE, Shape
from .atomic import save_atomically
from .parts import PART_NAME, TEXT_TRANSFORM, StoredPart, check_layout, dimension_of
from .tensor_file import Entry, TensorDigest, TensorFile, open_tensors

FORMAT = "rece-eraser"
FORMAT_VERSION = 3
# Without a shape.
UNSHAPED_VERSION = 2
# Without a digest.
OLDEST_VERSION = 1
MAX_FILE_BYTES = 2**30
NO_DIGEST_NOTE = (
    "The file is of an older version of this pack and has no checksum, so that damage to its numbers would not be noticed; "
    "save it again to give it one."
)

MAX_PARTS = 1000
MAX_PARTS_BYTES = 2**20


class EraserContents(NamedTuple):
    """What an eraser file holds: parts by name, its provenance, notes for the person who loads it, and its shape."""

    parts: dict[str, StoredPart]
    provenance: Provenance
    notes: tuple[str, ...]
    shape: Shape


class EraserHeader(NamedTuple):
    """What an eraser file says before any of its numbers is read.

    Attributes:
        provenance: how it was made.
        kinds: of its parts by name.
        dimensions: of its text transforms by name, which are named as the text streams that they change.
        shape: where and when it counts.
        size: in bytes.
    """

    provenance: Provenance
    kinds: Mapping[str, str]
    dimensions: Mapping[str, int]
    shape: Shape
    size: int


class _Metadata(NamedTuple):
    """What the header says, typed; neither kinds nor digest in a file of the oldest version."""

    provenance: Provenance
    parts: Mapping[str, Mapping[str, Any]] | None
    digest: str | None
    shape: Shape


def write_eraser_file(
    path: str | os.PathLike[str],
    parts: Mapping[str, StoredPart],
    provenance: Provenance,
    keep_existing: bool = False,
    shape: Shape = WHOLE,
    attached: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `parts` to `path` in one step (see `save_atomically`); returns where the file is.

    The header gets what is `attached` too, by names that are not those of this format.

    Raises:
        InputError: the provenance is too long, or has other dimensions.
        OSError: the file could not be written; an old one is left as it was.
    """
    dimensions = {
        name: next(iter(part.tensors.values())).shape[0] for name, part in parts.items() if part.kind == TEXT_TRANSFORM
    }
    wrong = _wrong_dimension(provenance, dimensions)
    if wrong:
        raise InputError(f"The eraser's provenance {wrong}: give the erasers the provenance that belongs to them.")
    tensors = {f"{name}/{key}": tensor for name, part in parts.items() for key, tensor in part.tensors.items()}
    metadata = {
        **attached,
        "format": FORMAT,
        "format_version": str(UNSHAPED_VERSION if shape.is_whole else FORMAT_VERSION),
        # In their order, which is that in which they are applied.
        "parts": json.dumps({name: {"kind": part.kind, **part.attributes} for name, part in parts.items()}),
        "provenance": provenance.as_json(),
        "sha256": TensorDigest.of(tensors),
        **({} if shape.is_whole else {"shape": shape.as_json()}),
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
            metadata, entries, told = _check_header(file.name, reader)
            tensors = _read_tensors(file.name, reader, metadata.digest)
    except OSError as error:
        raise EraserFileError(f"'{file.name}' cannot be read: {error.strerror}.") from error
    parts = {
        name: StoredPart(
            str(attributes["kind"]),
            {key: tensors[f"{name}/{key}"] for key in entries[name]},
            {key: value for key, value in attributes.items() if key != "kind"},
        )
        for name, attributes in told.items()
    }
    return EraserContents(parts, metadata.provenance, () if metadata.digest else (NO_DIGEST_NOTE,), metadata.shape)


def read_eraser_header(path: str | os.PathLike[str]) -> EraserHeader:
    """What an eraser file says of itself; its tensors are neither read nor compared with its digest.

    Raises:
        EraserFileError: see `read_eraser_file`, but for the tensors' values.
    """
    file = Path(path)
    size = _check_size(file)
    try:
        with open_tensors(file) as reader:
            metadata, entries, told = _check_header(file.name, reader)
    except OSError as error:
        raise EraserFileError(f"'{file.name}' cannot be read: {error.strerror}.") from error
    kinds = {name: str(attributes["kind"]) for name, attributes in told.items()}
    dimensions = _transform_dimensions(told, entries)
    return EraserHeader(metadata.provenance, kinds, dimensions, metadata.shape, size)


def _check_header(
    name: str, reader: TensorFile
) -> tuple[_Metadata, dict[str, dict[str, Entry]], Mapping[str, Mapping[str, Any]]]:
    """The typed metadata, what the header says of the tensors of every part, and of the parts themselves."""
    metadata = _check_metadata(name, reader.metadata)
    entries = _entries_of_parts(name, reader.entries)
    told = _check_parts(name, metadata, entries)
    _check_dimensions(name, metadata.provenance, told, entries)
    return metadata, entries, told


def _check_size(file: Path) -> int:
    """Its size in bytes."""
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
    return size


def _check_metadata(name: str, metadata: Mapping[str, str]) -> _Metadata:
    if metadata.get("format") != FORMAT:
        raise EraserFileError(
            f"'{name}' is a safetensors file but not an eraser: choose a file that 'Save Eraser' wrote."
        )
    version = metadata.get("format_version", "")
    if version not in map(str, range(OLDEST_VERSION, FORMAT_VERSION + 1)):
        raise EraserFileError(
            f"'{name}' has eraser format version {version[:20]!a}; this pack reads versions {OLDEST_VERSION} to "
            f"{FORMAT_VERSION}: update the pack, or save the eraser again."
        )
    old = version == str(OLDEST_VERSION)
    try:
        provenance = Provenance.from_json(metadata.get("provenance", "{}"), clean=old)
        shape = Shape.from_json(metadata.get("shape", "")) if version == str(FORMAT_VERSION) else WHOLE
    except InputError as error:
        raise EraserFileError(f"'{name}' cannot be used. {error} Save the eraser again.") from error
    digest = None if old else metadata.get("sha256", "")
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise EraserFileError(f"'{name}' has lost its checksum: save the eraser again, or get the file again.")
    return _Metadata(provenance, None if old else _told_parts(name, metadata.get("parts", "")), digest, shape)


def _told_parts(name: str, text: str) -> dict[str, Mapping[str, Any]]:
    """Kind and attributes of every part, typed and bounded."""
    try:
        told = json.loads(text) if len(text) <= MAX_PARTS_BYTES else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not 0 < len(told) <= MAX_PARTS:
        raise EraserFileError(f"'{name}' does not say what its parts are: save the eraser again.")
    for part, attributes in told.items():
        if not isinstance(attributes, dict) or not isinstance(attributes.get("kind"), str):
            raise EraserFileError(
                f"'{name}' does not say of what kind its part {part[:80]!a} is: save the eraser again."
            )
        if any(not isinstance(value, (str, int, float, bool)) for value in attributes.values()):
            raise EraserFileError(f"'{name}' says something of its part {part[:80]!a} that no part has.")
    return told


def _entries_of_parts(name: str, entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for key, entry in entries.items():
        part, slash, tensor = key.partition("/")
        if not slash or not PART_NAME.fullmatch(part):
            raise EraserFileError(f"'{name}' holds a tensor {key[:80]!a} that no eraser has.")
        found.setdefault(part, {})[tensor] = entry
    if not found:
        raise EraserFileError(f"'{name}' holds no tensor: save the eraser again.")
    return found


def _check_parts(
    name: str, metadata: _Metadata, entries: Mapping[str, Mapping[str, Entry]]
) -> Mapping[str, Mapping[str, Any]]:
    """Kind and attributes of every part, which has the tensors of its kind."""
    told = {part: {"kind": TEXT_TRANSFORM} for part in entries} if metadata.parts is None else metadata.parts
    if set(told) != set(entries):
        raise EraserFileError(f"'{name}' is incomplete: it says that it has other parts than it holds.")
    for part, attributes in told.items():
        wrong = check_layout(attributes["kind"], entries[part])
        if wrong:
            raise EraserFileError(f"'{name}' cannot be used: its part '{part}' {wrong}.")
    return told


def _check_dimensions(
    name: str,
    provenance: Provenance,
    told: Mapping[str, Mapping[str, Any]],
    entries: Mapping[str, Mapping[str, Entry]],
) -> None:
    wrong = _wrong_dimension(provenance, _transform_dimensions(told, entries))
    if wrong:
        raise EraserFileError(f"'{name}' cannot be right. Its provenance {wrong}: save the eraser again.")


def _transform_dimensions(
    told: Mapping[str, Mapping[str, Any]], entries: Mapping[str, Mapping[str, Entry]]
) -> dict[str, int]:
    """The dimension of every text transform."""
    transforms = [part for part, attributes in told.items() if attributes["kind"] == TEXT_TRANSFORM]
    return {part: dimension_of(entries[part]) for part in transforms}


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


def of_one_stream(provenance: Provenance, stream: str, dimension: int) -> Provenance:
    """The provenance of a file with one stream, whatever the eraser was a part of."""
    return provenance if provenance.dimensions is None else replace(provenance, dimensions={stream: dimension})
