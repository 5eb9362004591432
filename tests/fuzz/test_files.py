"""Eraser files: whatever is in one, it is loaded whole and sound, or refused in a sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from rece_pack.nodes.reporting.sentences import eraser_description
from rece_pack.rece_ops import Eraser, EraserSet

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.safetensors"))
TEXT = st.text(st.characters(), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.integers(-(10**400), 10**400)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
KEYS = (
    "method",
    "architecture",
    "concepts",
    "targets",
    "weights",
    "preserve",
    "parts",
    "fronts",
    "strength",
    "dimensions",
)
PROVENANCE = st.dictionaries(st.sampled_from(KEYS) | TEXT, VALUES | st.sampled_from(["combined", "RECE"]), max_size=6)
# Of a tensor, or of the whole header.
FIELDS = st.sampled_from(["dtype", "shape", "data_offsets", "format", "format_version", "provenance"])
HEADER_VALUES = VALUES | st.sampled_from(["F16", "BF16", "F32", "F64", "I8", "F8_E4M3", "BOOL", "1", "2", "{}", "[]"])
HEADER_VALUES |= st.lists(st.integers(-1, 2**63), max_size=3)

Refused = Callable[..., Any]


def sound(path: Path) -> bytes:
    """A file as this version writes it, of two streams, one of them dense."""
    generator = torch.Generator().manual_seed(0)
    left, right, dense = (torch.randn(*shape, generator=generator) for shape in ((6, 2), (2, 6), (3, 3)))
    metadata = {"method": "RECE", "architecture": "SD1", "concepts": ["hat"], "targets": [""], "fronts": []}
    EraserSet({"text": Eraser(left, right), "pooled": Eraser(dense)}, metadata).save(path)
    return path.read_bytes()


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "replace")
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def check(refused: Refused, tmp_path: Path) -> Callable[[bytes], None]:
    """Loads a file by both public functions."""
    path = tmp_path / "fuzzed.safetensors"

    def load(content: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        for kind in (EraserSet, Eraser):
            found = refused(kind.load, path)
            if found is None:
                continue
            for eraser in found.values() if isinstance(found, EraserSet) else (found,):
                assert all(bool(torch.isfinite(one).all()) for one in eraser.stored().tensors.values())
            if isinstance(found, EraserSet):
                description = eraser_description(found)
                description.encode("utf-8")
                assert len(description.splitlines()) == 1 + len(found) + len(found.notes) + (not found.shape.is_whole)
                assert not description.startswith(("Error:", "Warning:"))

    return load


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_files_that_were_trouble_once(file: Path, check: Callable[[bytes], None]) -> None:
    check(file.read_bytes())


def test_bytes(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    files = [sound(tmp_path / "sound.safetensors"), *(file.read_bytes() for file in CORPUS)]

    def mutated(drawn: tuple[bytes, list[tuple[int, int, bytes]]]) -> None:
        content, changes = drawn
        for place, removed, added in changes:
            place %= len(content) + 1
            content = content[:place] + added + content[place + removed :]
        check(content)

    changes = st.tuples(st.integers(0, 10**4), st.integers(0, 9), st.binary(max_size=9))
    fuzz(st.tuples(st.sampled_from(files), st.lists(changes, min_size=1, max_size=5)), mutated, 200)


def test_headers(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    header, data = split(sound(tmp_path / "sound.safetensors"))
    places = st.sampled_from([*header, "text/code", "../left", "\ud800"])

    def mutated(changes: list[tuple[str, str, Any]]) -> None:
        changed = {name: dict(fields) for name, fields in header.items()}
        for name, field, value in changes:
            changed.setdefault(name, {})[field] = value
        check(joined(changed, data))

    fuzz(st.lists(st.tuples(places, FIELDS, HEADER_VALUES), min_size=1, max_size=4), mutated, 200)


def test_provenance(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    header, data = split(sound(tmp_path / "sound.safetensors"))

    def mutated(provenance: dict[str, Any]) -> None:
        metadata = {**header["__metadata__"], "provenance": json.dumps(provenance)}
        check(joined({**header, "__metadata__": metadata}, data))

    fuzz(PROVENANCE, mutated, 200)


def test_kinds_and_attributes(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    header, data = split(sound(tmp_path / "sound.safetensors"))
    values = st.one_of(HEADER_VALUES, st.sampled_from(["text transform", "weight change", "adapter", {}, None]))
    names = st.sampled_from(["text", "pooled", "", "a/b", "\ud800", "x" * 99])

    def mutated(parts: Any) -> None:
        metadata = {**header["__metadata__"], "parts": parts if isinstance(parts, str) else json.dumps(parts)}
        check(joined({**header, "__metadata__": metadata}, data))

    told = st.dictionaries(names, st.dictionaries(st.sampled_from(["kind", "other"]), values, max_size=2), max_size=3)
    fuzz(st.one_of(told, st.text(max_size=40), st.lists(values, max_size=2)), mutated, 200)


def test_where_an_eraser_counts(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    header, data = split(sound(tmp_path / "sound.safetensors"))
    numbers = st.one_of(st.sampled_from([0, 0.5, 1, 2, -1, 10**400, True]), LEAVES)
    blocks = st.dictionaries(
        st.sampled_from(["input", "output 3", "middle", "input 99999"]) | TEXT, numbers, max_size=4
    )
    schedule = st.lists(st.lists(numbers, min_size=1, max_size=3), max_size=4)
    told = st.fixed_dictionaries(
        {"blocks": blocks, "keys": numbers, "values": numbers, "others": numbers, "schedule": schedule | VALUES}
    )

    def mutated(shape: Any) -> None:
        text = shape if isinstance(shape, str) else json.dumps(shape)
        metadata = {**header["__metadata__"], "format_version": "3", "shape": text}
        check(joined({**header, "__metadata__": metadata}, data))

    fuzz(st.one_of(told, st.text(max_size=40), VALUES), mutated, 80)


def test_shapes_and_types(fuzz: Any, check: Callable[[bytes], None], tmp_path: Path) -> None:
    """Tensors that are what the header says, and no eraser."""
    metadata = split(sound(tmp_path / "sound.safetensors"))[0]["__metadata__"]
    sizes = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1}
    names = st.sampled_from(
        ["text/left", "text/right", "text/delta", "pooled/left", "pooled/right", "TEXT/left", "a" * 99]
    )
    shapes = st.lists(st.integers(0, 5), max_size=4)
    fill = st.sampled_from([0, 1, 60, 127, 128, 255])

    def mutated(tensors: dict[str, tuple[str, list[int], int]]) -> None:
        header: dict[str, Any] = {"__metadata__": metadata}
        data = b""
        for name, (dtype, shape, byte) in tensors.items():
            size = sizes[dtype] * int(torch.tensor(shape).prod()) if shape else sizes[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
            data += bytes([byte]) * size
        check(joined(header, data))

    tensor = st.tuples(st.sampled_from(list(sizes)), shapes, fill)
    fuzz(st.dictionaries(names, tensor, max_size=4), mutated, 200)
