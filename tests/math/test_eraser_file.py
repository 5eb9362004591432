"""The eraser file: what is written comes back, and nothing in a file is trusted."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import pytest
import rece_pack.rece_ops.formats.eraser_file
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet
from rece_pack.rece_ops.formats.atomic import save_atomically
from rece_pack.rece_ops.formats.eraser_file import MAX_PARTS
from safetensors import safe_open
from safetensors.torch import load_file, save_file

# Of version 1, which needs no checksum; what is the matter with these files is found in files of any version.
GOOD = {"format": "rece-eraser", "format_version": "1", "provenance": "{}"}


def factors(rank: int = 3, dimension: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(dimension, rank, generator=generator), torch.randn(rank, dimension, generator=generator)


@pytest.mark.parametrize("rank", [0, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eraser_comes_back_bit_for_bit(tmp_path: Path, rank: int, dtype: torch.dtype) -> None:
    left, right = factors(rank)
    eraser = Eraser(left.to(dtype), right.to(dtype), {"concepts": ["Café"], "settings": {"epochs": 3}})
    eraser.save(tmp_path / "e.safetensors")
    loaded = Eraser.load(tmp_path / "e.safetensors")
    assert torch.equal(loaded.matrix(), eraser.matrix())
    assert loaded.dtype == dtype
    assert loaded.metadata == eraser.metadata


def test_a_set_of_streams_comes_back(tmp_path: Path) -> None:
    original = EraserSet({"text": Eraser(*factors()), "pooled": Eraser(*factors(2, 5))}, {"architecture": "SDXL"})
    original.save(tmp_path / "set.safetensors")
    loaded = EraserSet.load(tmp_path / "set.safetensors")
    assert set(loaded) == {"text", "pooled"}
    assert loaded.metadata == original.metadata
    for stream in original:
        assert torch.equal(loaded[stream].matrix(), original[stream].matrix())
    with pytest.raises(EraserFileError, match="2 text streams"):
        Eraser.load(tmp_path / "set.safetensors")


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    save_file(tensors, path, metadata)
    return path


left, right = factors()
nan = left.clone()
nan[1, 1] = float("nan")
infinite = left.clone()
infinite[0, 0] = float("inf")

BAD_FILES = {
    "no eraser": ({"text/left": left}, None, "not an eraser"),
    "other version": ({"text/left": left, "text/right": right}, {**GOOD, "format_version": "9"}, "version '9'"),
    "no version": ({"text/left": left, "text/right": right}, {"format": "rece-eraser"}, "version"),
    "provenance no json": ({"text/left": left, "text/right": right}, {**GOOD, "provenance": "{"}, "no JSON"),
    "provenance no object": ({"text/left": left, "text/right": right}, {**GOOD, "provenance": "[]"}, "no JSON object"),
    "provenance too deep": ({"text/left": left, "text/right": right}, {**GOOD, "provenance": "[" * 99999}, "no JSON"),
    "foreign tensor": (
        {"text/left": left, "text/right": right, "text/code": left.clone()},
        GOOD,
        r"'text' is incomplete: it has only \['code', 'left', 'right'\]",
    ),
    "path as a name": ({"../left": left, "../right": right}, GOOD, "no eraser has"),
    "no tensor": ({}, GOOD, "holds no tensor"),
    "half a pair": ({"text/left": left}, GOOD, "incomplete"),
    "both kinds": ({"text/left": left, "text/right": right, "text/delta": left @ right}, GOOD, "incomplete"),
    "shapes swapped": ({"text/left": right, "text/right": left}, GOOD, "do not fit"),
    "not square": ({"text/delta": left}, GOOD, "do not fit"),
    "three axes": ({"text/delta": torch.zeros(2, 2, 2)}, GOOD, "do not fit"),
    "rank above dimension": ({"text/left": torch.zeros(3, 4), "text/right": torch.zeros(4, 3)}, GOOD, "do not fit"),
    "empty": ({"text/delta": torch.zeros(0, 0)}, GOOD, "do not fit"),
    "integers": ({"text/delta": torch.zeros(3, 3, dtype=torch.int64)}, GOOD, "not floats"),
    "NaN": ({"text/left": nan, "text/right": right}, GOOD, "NaN"),
    "infinity": ({"text/left": infinite, "text/right": right}, GOOD, "infinite"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_an_unsound_file_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    tensors, metadata, message = BAD_FILES[case]
    path = write(tmp_path / "bad.safetensors", tensors, metadata)
    with pytest.raises(EraserFileError, match=message) as caught:
        EraserSet.load(path)
    assert str(tmp_path) not in str(caught.value)


MANY_PARTS = json.dumps({f"part{number}": {"kind": "text transform"} for number in range(MAX_PARTS + 1)})


@pytest.mark.parametrize("parts", [None, "", "{", "[]", "{}", "null", "[" * 99999, MANY_PARTS])
def test_a_file_that_does_not_say_what_its_parts_are_is_refused(tmp_path: Path, parts: str | None) -> None:
    path = EraserSet({"text": Eraser(left, right)}, {"method": "UCE"}).save(tmp_path / "e.safetensors")
    with safe_open(path, "pt") as file:
        told = {**file.metadata(), "parts": parts}
    write(path, load_file(path), {name: text for name, text in told.items() if text is not None})
    with pytest.raises(
        EraserFileError, match=r"'e\.safetensors' does not say what its parts are: save the eraser again"
    ):
        EraserSet.load(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EraserFileError, match="cannot be read"):
        EraserSet.load(tmp_path / "missing.safetensors")
    with pytest.raises(EraserFileError, match="not a file"):
        EraserSet.load(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    Eraser(left, right).save(good)
    content = good.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(content[:length])
        with pytest.raises(EraserFileError):
            EraserSet.load(cut)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(EraserFileError):
        EraserSet.load(path)


def test_a_header_that_promises_gigabytes_is_refused(tmp_path: Path) -> None:
    header = {
        "__metadata__": GOOD,
        "text/delta": {"dtype": "F32", "shape": [60000, 60000], "data_offsets": [0, 14_400_000_000]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(EraserFileError):
        EraserSet.load(path)


def test_a_file_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with open(path, "wb") as file:
        file.truncate(rece_pack.rece_ops.formats.eraser_file.MAX_FILE_BYTES + 1)
    with pytest.raises(EraserFileError, match="GiB"):
        EraserSet.load(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write to the temporary file meets a disk that is full; the file of that name stays as it was."""
    path = tmp_path / "e.safetensors"
    Eraser(left, right).save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")

    monkeypatch.setattr("rece_pack.rece_ops.formats.atomic.write_tensors", full)
    with pytest.raises(OSError, match="No space") as caught:
        Eraser(left * 2, right).save(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["e.safetensors"]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        save_atomically(tmp_path / "no" / "where.safetensors", {"x": left}, {})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_is_found_anywhere(tmp_path: Path, dtype: torch.dtype, bad: float) -> None:
    """In the whole vectors of a large tensor as in what is left over at its end."""
    for place in (0, 7, 64 * 64, 65 * 65 - 1):
        tensor = torch.ones(65, 65, dtype=dtype)
        tensor.view(-1)[place] = bad
        path = write(tmp_path / "e.safetensors", {"text/delta": tensor}, GOOD)
        with pytest.raises(EraserFileError, match="NaN or infinite"):
            EraserSet.load(path)
