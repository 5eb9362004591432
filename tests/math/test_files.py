"""Saving and loading: nothing is lost, nothing stays open, and what was changed is noticed."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet, InputError
from rece_pack.rece_ops.formats.atomic import UNFINISHED_KEPT_SECONDS, save_atomically
from rece_pack.rece_ops.formats.tensor_file import TensorDigest, open_tensors
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.windows_rules import WindowsRefusal, holds

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes, which Windows cannot")


def eraser(value: float = 1.0, dimension: int = 12) -> EraserSet:
    left = torch.full((dimension, 2), value)
    streams = {"text": Eraser(left, left.T.contiguous()), "pooled": Eraser(torch.eye(3) * value)}
    return EraserSet(streams, {"concepts": ["Café"], "dimensions": {"text": dimension, "pooled": 3}})


def same(one: EraserSet, other: EraserSet) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name].matrix(), other[name].matrix()) for name in one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_files_are_safetensors_to_everybody(tmp_path: Path, dtype: torch.dtype) -> None:
    """Written here and read by the safetensors package, and the other way round; without a number, too."""
    tensors = {
        "matrix": torch.arange(6).reshape(2, 3).to(dtype),
        "transposed": torch.arange(6).reshape(2, 3).T.to(dtype),
        "empty": torch.zeros(4, 0, dtype=dtype),
        "number": torch.tensor(2.5, dtype=dtype),
    }
    ours = save_atomically(tmp_path / "ours.safetensors", tensors, {"said": "Käse"})
    theirs = tmp_path / "theirs.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, theirs, {"said": "Käse"})
    read = load_file(ours)
    for path in (ours, theirs):
        with open_tensors(path) as file:
            assert file.metadata == {"said": "Käse"}
            for name, tensor in tensors.items():
                assert torch.equal(file.read(name)[0], tensor)
                assert torch.equal(read[name], tensor)
    with safe_open(ours, "pt") as reader:
        assert reader.metadata() == {"said": "Käse"}


def test_integers_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"int64: only floats"):
        save_atomically(tmp_path / "x.safetensors", {"x": torch.arange(3)}, {})
    assert not list(tmp_path.iterdir())


def test_every_bit_flip_in_the_tensors_is_noticed(tmp_path: Path) -> None:
    path = eraser().save(tmp_path / "e.safetensors")
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - start > 100
    for place in range(start, len(content)):
        for bit in (0, 3, 7):
            content[place] ^= 1 << bit
            path.write_bytes(content)
            with pytest.raises(EraserFileError, match="checksum"):
                EraserSet.load(path)
            content[place] ^= 1 << bit
    path.write_bytes(content)
    assert same(EraserSet.load(path), eraser())


@pytest.mark.parametrize("digest", [None, "", "0" * 63, "G" * 64, "0" * 64])
def test_a_file_without_its_checksum_is_refused(tmp_path: Path, digest: str | None) -> None:
    parts = '{"text": {"kind": "text transform"}}'
    metadata = {"format": "rece-eraser", "format_version": "2", "provenance": "{}", "parts": parts}
    save_file(
        {"text/delta": torch.eye(2)},
        tmp_path / "e.safetensors",
        {**metadata, **({"sha256": digest} if digest is not None else {})},
    )
    with pytest.raises(EraserFileError, match="checksum"):
        EraserSet.load(tmp_path / "e.safetensors")


def test_the_checksum_knows_names_shapes_and_types() -> None:
    """Of tensors with the same bytes; the order in which they are given does not count."""
    tensor = torch.arange(6, dtype=torch.float32)
    digests = {
        TensorDigest.of({"a": tensor}),
        TensorDigest.of({"b": tensor}),
        TensorDigest.of({"a": tensor.reshape(2, 3)}),
        TensorDigest.of({"a": tensor.reshape(3, 2)}),
        TensorDigest.of({"a": tensor.view(torch.float64)}),
        TensorDigest.of({"a": tensor[:3].clone(), "b": tensor[3:].clone()}),
    }
    assert len(digests) == 6
    assert TensorDigest.of({"a": tensor, "b": tensor * 2}) == TensorDigest.of({"b": tensor * 2, "a": tensor})


def test_a_file_that_changes_after_loading_changes_nothing(tmp_path: Path) -> None:
    path = eraser().save(tmp_path / "e.safetensors")
    loaded = EraserSet.load(path)
    assert not holds(path)
    with open(path, "r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    os.truncate(path, 10)
    assert same(loaded, eraser())


@pytest.mark.usefixtures("windows")
class TestOnWindows:
    """What people on Windows do with files, by Windows' rules."""

    def test_the_rules_hold(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"x" * 5000)
        with open(path, "rb") as file:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fsync(file.fileno())
            for refused in (path.unlink, lambda: os.replace(path, tmp_path / "y"), lambda: path.rename(tmp_path / "y")):
                with pytest.raises(WindowsRefusal):
                    refused()
        save_file({"a": torch.ones(3)}, tmp_path / "mapped.safetensors")
        mapped = load_file(tmp_path / "mapped.safetensors")
        if holds(tmp_path / "mapped.safetensors"):
            with pytest.raises(WindowsRefusal):
                os.replace(path, tmp_path / "mapped.safetensors")
        assert mapped["a"].sum() == 3
        for read in (path.read_text, lambda: open(path).close()):
            with pytest.raises(AssertionError, match="without an encoding"):
                read()

    def test_a_loaded_eraser_can_be_replaced_and_removed(self, tmp_path: Path) -> None:
        path = eraser().save(tmp_path / "e.safetensors")
        loaded = EraserSet.load(path)
        eraser(2.0).save(path)
        assert same(EraserSet.load(path), eraser(2.0))
        assert same(loaded, eraser())
        os.remove(path)
        assert not list(tmp_path.iterdir())

    def test_a_refused_file_can_be_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "e.safetensors"
        for content in (b"", b"\x02\0\0\0\0\0\0\0{}", b"x" * 100):
            path.write_bytes(content)
            with pytest.raises(EraserFileError):
                EraserSet.load(path)
            eraser().save(path)

    def test_an_old_file_can_be_saved_again_in_its_place(self, tmp_path: Path, root: Path) -> None:
        path = tmp_path / "plain.safetensors"
        path.write_bytes((root / "tests" / "golden" / "plain.safetensors").read_bytes())
        EraserSet.load(path).save(path)
        assert EraserSet.load(path).notes == ()

    def test_numbers_are_added(self, tmp_path: Path) -> None:
        paths = [eraser(value).save(tmp_path / "e.safetensors", keep_existing=True) for value in (1.0, 2.0, 3.0)]
        assert [path.name for path in paths] == ["e.safetensors", "e_2.safetensors", "e_3.safetensors"]
        assert all(
            same(EraserSet.load(path), eraser(value)) for path, value in zip(paths, (1.0, 2.0, 3.0), strict=True)
        )

    def test_an_open_file_cannot_be_replaced_and_stays(self, tmp_path: Path) -> None:
        path = eraser().save(tmp_path / "e.safetensors")
        with open(path, "rb"), pytest.raises(PermissionError):
            eraser(2.0).save(path)
        assert same(EraserSet.load(path), eraser())
        assert [file.name for file in tmp_path.iterdir()] == ["e.safetensors"]


def _save_often(barrier: Any, path: Path, who: int) -> None:
    # A forked process has none of the threads that its parent computes with, and would wait for them.
    torch.set_num_threads(1)
    barrier.wait(60)
    for number in range(20):
        tensors = {"who": torch.tensor([float(who), float(number)])}
        save_atomically(path, tensors, {}, keep_existing=True)


@needs_fork
def test_two_processes_never_choose_the_same_name(tmp_path: Path) -> None:
    """Each of three saves twenty files under one name at the same time; all are there afterwards."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    path = tmp_path / "e.safetensors"
    running = [fork.Process(target=_save_often, args=(barrier, path, who), daemon=True) for who in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0]
    found = {tuple(load_file(path)["who"].tolist()) for path in tmp_path.glob("*.safetensors")}
    assert found == {(float(who), float(number)) for who in range(3) for number in range(20)}
    assert len(list(tmp_path.iterdir())) == 60


def test_a_name_that_another_process_takes_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one saves between the writing and the renaming."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        eraser(7.0).save(tmp_path / "e.safetensors", keep_existing=True)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = eraser().save(tmp_path / "e.safetensors", keep_existing=True)
    assert path.name == "e_2.safetensors"
    assert same(EraserSet.load(tmp_path / "e.safetensors"), eraser(7.0))
    assert same(EraserSet.load(path), eraser())


def test_a_reserved_name_is_given_back_when_renaming_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        eraser().save(tmp_path / "e.safetensors", keep_existing=True)
    assert not list(tmp_path.iterdir())


def test_what_is_left_for_a_day_is_swept(tmp_path: Path) -> None:
    names = (".rece-0123456789abcdef.tmp", ".my eraser.safetensors.a_b1c2d3.tmp")
    others = (".rece-notes.tmp", "e.safetensors.tmp", ".x.tmp", "rece-0123456789abcdef.tmp", "old.safetensors")
    for age, kept in ((UNFINISHED_KEPT_SECONDS + 60, others), (UNFINISHED_KEPT_SECONDS - 60, (*names, *others))):
        for name in (*names, *others):
            (tmp_path / name).write_bytes(b"half")
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        eraser().save(tmp_path / "e.safetensors")
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "e.safetensors"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("keep_existing", [False, True])
def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path, umask: int, mode: int, keep_existing: bool) -> None:
    before = os.umask(umask)
    try:
        path = eraser().save(tmp_path / "e.safetensors", keep_existing)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_replacing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    original = eraser().save(tmp_path / "elsewhere" / "original.safetensors")
    link = tmp_path / "e.safetensors"
    link.symlink_to(original)
    eraser(2.0).save(link)
    assert same(EraserSet.load(original), eraser())
    assert same(EraserSet.load(link), eraser(2.0))
    assert not link.is_symlink()


def _save_for_ever(ready: Any, path: Path, value: float) -> None:
    torch.set_num_threads(1)
    while True:
        value += 1.0
        eraser(value, 20_000).save(path)
        ready.set()


@needs_fork
def test_a_process_killed_at_any_point_leaves_the_old_file(tmp_path: Path) -> None:
    """Processes that do nothing but save are killed at random times; each time the file is a whole one."""
    path = tmp_path / "e.safetensors"
    fork = multiprocessing.get_context("fork")
    chance = random.Random(0)
    unfinished = 0
    for attempt in range(20):
        ready = fork.Event()
        process = fork.Process(target=_save_for_ever, args=(ready, path, 1000.0 * attempt), daemon=True)
        process.start()
        assert ready.wait(60)
        # Anywhere in a save or two, which take some milliseconds: not a wait for something to happen.
        time.sleep(chance.random() / 50)
        process.kill()
        process.join()
        left = EraserSet.load(path)["text"].left
        assert float(left.min()) == float(left.max())
        assert float(left[0, 0]) > 1000.0 * attempt
        unfinished += len(list(tmp_path.iterdir())) - 1
    assert unfinished, "no kill met a save"
