"""The parts of an eraser as a file holds them: what kinds there are, and which tensors each must have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from .tensor_file import INDEX, Entry

TEXT_TRANSFORM, WEIGHT_CHANGE, SPARSE_CHANGE = "text transform", "weight change", "sparse change"
ADAPTERS = "adapters"
MAX_DIMENSION = 65_536
MAX_ROWS = 1 << 20
MAX_NUMBERS = 2**31 - 1
"""Of one weight that a sparse change counts."""

PART_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
# A state-dict key, then the name of what a part has of each weight or layer.
_OF_WEIGHT = r"(?P<key>[A-Za-z0-9_.]{1,300})/"
_WEIGHT_FACTOR = re.compile(_OF_WEIGHT + "(?P<name>up|down)")
_SPARSE_TENSOR = re.compile(_OF_WEIGHT + "(?P<name>shape|places|removed|added)")
_WHOLE = ("shape", "places")
_ADAPTER_TENSOR = re.compile(_OF_WEIGHT + "(?P<name>down|down_bias|up|up_bias)")


@dataclass(frozen=True, eq=False)
class StoredPart:
    """One part of an eraser, ready to be written or just read.

    Attributes:
        kind: one of `LAYOUTS`.
        tensors: by their names within the part.
        attributes: plain JSON values.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def check_layout(kind: str, entries: Mapping[str, Entry]) -> str:
    """What is wrong with the tensors that a file has for a part of that kind, as the end of a sentence; empty if nothing is.

    Nothing but names, dtypes and shapes is looked at, so that a bad part costs no memory.
    """
    if kind not in LAYOUTS:
        return "is of a kind that this version of the pack does not know: update the pack"
    for name, entry in entries.items():
        whole = kind == SPARSE_CHANGE and name.rpartition("/")[2] in _WHOLE
        if not (entry.dtype == INDEX if whole else entry.is_float):
            return f"has numbers of type {entry.dtype[:20]!a} in {name[:80]!a}, not {'int32' if whole else 'floats'}"
    wrong = LAYOUTS[kind](entries)
    if wrong:
        listed = ", ".join(f"{key[:80]} {list(one.shape)[:4]} {one.dtype}" for key, one in sorted(entries.items())[:4])
        return f"{wrong} ({listed})"
    return ""


def dimension_of(entries: Mapping[str, Entry]) -> int:
    """d of a text transform whose layout was checked."""
    return entries["delta" if "delta" in entries else "left"].shape[0]


def _text_transform(entries: Mapping[str, Entry]) -> str:
    if set(entries) not in ({"left", "right"}, {"delta"}):
        return f"is incomplete: it has only {sorted(entries)}"[:200]
    shapes = {name: entry.shape for name, entry in entries.items()}
    if any(len(shape) != 2 for shape in shapes.values()) or len({entry.dtype for entry in entries.values()}) > 1:
        return _MISFIT
    if "delta" in shapes:
        rows, columns = shapes["delta"]
        return "" if rows == columns and 0 < rows <= MAX_DIMENSION else _MISFIT
    (dimension, rank), (rank_right, dimension_right) = shapes["left"], shapes["right"]
    fits = dimension == dimension_right and rank == rank_right <= dimension and 0 < dimension <= MAX_DIMENSION
    return "" if fits else _MISFIT


def _weight_change(entries: Mapping[str, Entry]) -> str:
    keys = _by_weight(entries, _WEIGHT_FACTOR)
    if keys is None:
        return _FOREIGN
    for factors in keys.values():
        if len(factors) != 2:
            return "is incomplete: a weight has only one of its two factors"
        up, down = factors["up"], factors["down"]
        if len(up.shape) != 2 or len(down.shape) != 2 or up.shape[1] != down.shape[0] or up.dtype != down.dtype:
            return _MISFIT
        if not (0 < up.shape[0] <= MAX_ROWS and 0 < down.shape[1] <= MAX_ROWS and 0 < up.shape[1] <= MAX_DIMENSION):
            return _MISFIT
    return "" if keys else "holds no tensor"


def _sparse_change(entries: Mapping[str, Entry]) -> str:
    keys = _by_weight(entries, _SPARSE_TENSOR)
    if keys is None:
        return _FOREIGN
    for found in keys.values():
        if len(found) != 4:
            return "is incomplete: a weight lacks its shape, its places or its numbers"
        counts = {found[name].shape for name in ("places", "removed", "added")}
        if found["shape"].shape != (2,) or len(counts) > 1 or found["removed"].dtype != found["added"].dtype:
            return _MISFIT
        (count,) = counts
        if len(count) != 1 or not 0 < count[0] <= MAX_NUMBERS:
            return _MISFIT
    return "" if keys else "holds no tensor"


def _adapters(entries: Mapping[str, Entry]) -> str:
    layers = _by_weight(entries, _ADAPTER_TENSOR)
    if layers is None:
        return "holds a tensor that no adapter has"
    for found in layers.values():
        if len(found) != 4:
            return "is incomplete: an adapter lacks one of its four tensors"
        shapes = {name: entry.shape for name, entry in found.items()}
        if len(shapes["up"]) != 2 or len({entry.dtype for entry in found.values()}) > 1:
            return _MISFIT
        dimension, width = shapes["up"]
        if not (0 < dimension <= MAX_DIMENSION and 0 < width <= MAX_DIMENSION):
            return _MISFIT
        if (shapes["down"], shapes["down_bias"], shapes["up_bias"]) != ((width, dimension), (width,), (dimension,)):
            return _MISFIT
    return "" if layers else "holds no tensor"


def _by_weight(entries: Mapping[str, Entry], pattern: re.Pattern[str]) -> dict[str, dict[str, Entry]] | None:
    """What there is of each weight, by state-dict key and name; None where a tensor has another name."""
    keys: dict[str, dict[str, Entry]] = {}
    for name, entry in entries.items():
        match = pattern.fullmatch(name)
        if match is None:
            return None
        keys.setdefault(match["key"], {})[match["name"]] = entry
    return keys


_FOREIGN = "holds a tensor that no change of weights has"
_MISFIT = "has tensors of shapes and types that do not fit together"

LAYOUTS: Mapping[str, Callable[[Mapping[str, Entry]], str]] = MappingProxyType(
    {TEXT_TRANSFORM: _text_transform, WEIGHT_CHANGE: _weight_change, SPARSE_CHANGE: _sparse_change, ADAPTERS: _adapters}
)
"""What checks the tensors of each kind."""
