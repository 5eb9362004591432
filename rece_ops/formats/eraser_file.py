"""The eraser file: safetensors with `<stream>/left` and `<stream>/right`, or `<stream>/delta`, per text stream.

The header's metadata holds `format`, `format_version` and `provenance` (JSON). Nothing in a file is
trusted: sizes, names, shapes, dtypes and finiteness are checked before a tensor leaves this module.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import EraserFileError
from .atomic import save_atomically

FORMAT = "rece-eraser"
FORMAT_VERSION = 1
MAX_FILE_BYTES = 2**30
MAX_DIMENSION = 65_536
MAX_PROVENANCE_BYTES = 4 * 2**20

_KEY = re.compile(r"(?P<stream>[a-z][a-z0-9_.]{0,63})/(?P<part>left|right|delta)")
_DTYPES = {"F16", "BF16", "F32", "F64"}


class Factors(NamedTuple):
    """T − I of one stream: `left` [d, r] times `right` [r, d], or `left` [d, d] alone."""

    left: Tensor
    right: Tensor | None


def write_eraser_file(
    path: str | os.PathLike[str], streams: Mapping[str, Factors], provenance: Mapping[str, Any]
) -> None:
    """Write `streams` to `path` in one step (see `save_atomically`).

    Raises:
        OSError: the file could not be written; an old one is left as it was.
    """
    tensors: dict[str, Tensor] = {}
    for name, factors in streams.items():
        if factors.right is None:
            tensors[f"{name}/delta"] = factors.left
        else:
            tensors[f"{name}/left"], tensors[f"{name}/right"] = factors.left, factors.right
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "provenance": json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True),
    }
    save_atomically(path, tensors, metadata)


def read_eraser_file(path: str | os.PathLike[str]) -> tuple[dict[str, Factors], dict[str, Any]]:
    """Read and check an eraser file: its streams, and its provenance.

    Raises:
        EraserFileError: the file is missing, truncated, not an eraser, of another version, too large,
            or its tensors have wrong names, shapes, dtypes or values.
    """
    file = Path(path)
    _check_size(file)
    try:
        with safe_open(file, framework="pt") as reader:
            provenance = _check_metadata(file.name, reader.metadata() or {})
            layout = _check_layout(file.name, reader)
            streams = {name: _read_factors(file.name, reader, name, parts) for name, parts in layout.items()}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise EraserFileError(
            f"'{file.name}' is damaged or no safetensors file ({error}): save the eraser again."
        ) from error
    return streams, provenance


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


def _check_metadata(name: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise EraserFileError(
            f"'{name}' is a safetensors file but not an eraser: choose a file that 'Save Eraser' wrote."
        )
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise EraserFileError(
            f"'{name}' has eraser format version {version[:20]!r}; this pack reads version {FORMAT_VERSION}: "
            "update the pack, or save the eraser again."
        )
    text = metadata.get("provenance", "{}")
    if len(text) > MAX_PROVENANCE_BYTES:
        raise EraserFileError(f"'{name}' has a provenance of {len(text)} characters, which cannot be right.")
    try:
        provenance = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EraserFileError(f"'{name}' has a provenance that is no JSON: save the eraser again.") from error
    if not isinstance(provenance, dict):
        raise EraserFileError(f"'{name}' has a provenance that is no JSON object: save the eraser again.")
    return provenance


def _check_layout(name: str, reader: Any) -> dict[str, set[str]]:
    layout: dict[str, set[str]] = {}
    for key in reader.keys():  # noqa: SIM118 (no mapping: it does not iterate)
        match = _KEY.fullmatch(key)
        if match is None:
            raise EraserFileError(f"'{name}' holds a tensor '{key[:80]}' that no eraser has.")
        layout.setdefault(match["stream"], set()).add(match["part"])
    if not layout:
        raise EraserFileError(f"'{name}' holds no tensor: save the eraser again.")
    for stream, parts in layout.items():
        if parts not in ({"left", "right"}, {"delta"}):
            raise EraserFileError(f"'{name}' is incomplete: its stream '{stream}' has only {sorted(parts)}.")
    return layout


def _read_factors(name: str, reader: Any, stream: str, parts: set[str]) -> Factors:
    shapes = {part: tuple(reader.get_slice(f"{stream}/{part}").get_shape()) for part in parts}
    dtypes = {part: reader.get_slice(f"{stream}/{part}").get_dtype() for part in parts}
    for part, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise EraserFileError(f"'{name}' has numbers of type {dtype} in '{stream}/{part}', not floats.")
    if not _shapes_fit(shapes):
        listed = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(shapes.items()))
        raise EraserFileError(f"'{name}' has tensors of shapes that do not fit together ({listed}).")
    tensors = {part: reader.get_tensor(f"{stream}/{part}") for part in parts}
    for part, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EraserFileError(f"'{name}' holds NaN or infinite numbers in '{stream}/{part}'.")
    if "delta" in tensors:
        return Factors(tensors["delta"], None)
    return Factors(tensors["left"], tensors["right"])


def _shapes_fit(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if any(len(shape) != 2 for shape in shapes.values()):
        return False
    if "delta" in shapes:
        rows, columns = shapes["delta"]
        return rows == columns and 0 < rows <= MAX_DIMENSION
    (dimension, rank), (rank_right, dimension_right) = shapes["left"], shapes["right"]
    return dimension == dimension_right and rank == rank_right <= dimension and 0 < dimension <= MAX_DIMENSION
