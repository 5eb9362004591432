"""Names and links in the folders that nodes list, load from and save to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rece_pack.nodes.host import folders as host_folders
from rece_pack.nodes.host import session as session_module
from rece_pack.nodes.host.jobs import export_lora
from rece_pack.nodes.load_eraser import LoadEraser
from rece_pack.nodes.save_eraser import SaveEraser
from rece_pack.nodes.save_eraser_as_lora import SaveEraserAsLoRA
from rece_pack.nodes.schema.files import KEEP_BOTH, REPLACE
from rece_pack.rece_ops import Eraser, EraserSet, InputError

NAMES = ("good", "sub/good", "凡高")
MARKUP = "z<img src=x onerror=alert(1)>"
BAD_FILES = (MARKUP, "two\u200bwords", "txt\u202egnp", "COM¹", "CONIN$", "NUL .x", " blank", "back\\slash", "x" * 190)
links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `erasers`, `loras` and `input`, which ComfyUI takes for its own."""
    for name in ("erasers", "loras"):
        (tmp_path / name).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], {".safetensors"}))
    (tmp_path / "input").mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    folder_paths.filename_list_cache.clear()
    yield tmp_path
    folder_paths.filename_list_cache.clear()


def eraser(value: float = 1.0) -> EraserSet:
    return EraserSet({"text": Eraser(torch.eye(2) * value)}, {"concepts": ["hat"], "targets": [""]})


def write(folder: Path, name: str, suffix: str) -> None:
    path = folder / f"{name}{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")


def test_a_file_is_imported_from_the_folders_of_models_alone(folders: Path) -> None:
    write(folders / "erasers", "theirs", ".safetensors")
    assert host_folders.existing_importable("erasers/theirs.safetensors") == folders / "erasers" / "theirs.safetensors"
    for name in ("loras/theirs.safetensors", "theirs.safetensors", "../erasers/theirs.safetensors", "vae"):
        with pytest.raises(InputError, match=r"is in none of the folders models/.*choose a file from the list"):
            host_folders.existing_importable(name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_only_names_that_can_be_loaded_are_listed(folders: Path) -> None:
    for name in (*NAMES, *BAD_FILES, ".hidden"):
        write(folders / "erasers", name, ".safetensors")
        if "/" not in name:
            write(folders / "input", name, ".csv")
    (folders / "erasers" / os.fsdecode(b"half\xff.safetensors")).write_bytes(b"x")
    (folders / "input" / "folder.csv").mkdir()
    assert host_folders.eraser_names() == sorted(f"{name}.safetensors" for name in NAMES)
    assert host_folders.table_names() == ["good.csv", "x" * 190 + ".csv", "凡高.csv"]
    for name in host_folders.eraser_names():
        assert host_folders.existing_eraser(name).is_file()
    for name in host_folders.table_names():
        assert host_folders.existing_table(name).is_file()


@links
def test_links_are_followed_in_model_folders_and_not_out_of_uploads(folders: Path) -> None:
    outside = folders / "outside"
    outside.mkdir()
    saved = eraser().save(outside / "other.safetensors")
    (outside / "secret.csv").write_text("a,b\n", encoding="utf-8")
    (folders / "erasers" / "link.safetensors").symlink_to(saved)
    (folders / "erasers" / "disk").symlink_to(outside, target_is_directory=True)
    assert host_folders.eraser_names() == ["disk/other.safetensors", "link.safetensors"]
    for name in host_folders.eraser_names():
        assert LoadEraser.execute(name)[0].metadata == eraser().metadata
    (folders / "input" / "secret.csv").symlink_to(outside / "secret.csv")
    (folders / "input" / "nowhere.csv").symlink_to(outside / "nowhere.csv")
    (folders / "input" / "kept.csv").write_text("a,b\n", encoding="utf-8")
    (folders / "input" / "alias.csv").symlink_to(folders / "input" / "kept.csv")
    assert host_folders.table_names() == ["alias.csv", "kept.csv"]
    with pytest.raises(InputError, match="leads out of ComfyUI's input folder"):
        host_folders.existing_table("secret.csv")


@links
def test_the_folders_themselves_may_be_links(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folders / "input" / "kept.csv").write_text("a,b\n", encoding="utf-8")
    (folders / "elsewhere").symlink_to(folders / "input", target_is_directory=True)
    monkeypatch.setattr(folder_paths, "input_directory", str(folders / "elsewhere"))
    assert host_folders.table_names() == ["kept.csv"]
    assert host_folders.existing_table("kept.csv").is_file()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=210) | st.text("./\\ aé<$¹\u200b", max_size=12))
def test_what_is_saved_is_listed_and_loaded(folders: Path, name: str) -> None:
    try:
        saved = SaveEraser.execute(eraser(), name, KEEP_BOTH)[0]
    except InputError:
        return
    folder_paths.filename_list_cache.clear()
    assert saved.replace("/", os.sep) in host_folders.eraser_names()
    LoadEraser.execute(saved)


@pytest.mark.usefixtures("windows")
def test_a_loaded_eraser_is_replaced_by_windows_rules(folders: Path) -> None:
    assert SaveEraser.execute(eraser(), "a/b", REPLACE)[0] == "a/b.safetensors"
    loaded = LoadEraser.execute("a/b.safetensors")[0]
    assert SaveEraser.execute(eraser(2.0), "a/b", REPLACE)[0] == "a/b.safetensors"
    assert SaveEraser.execute(loaded, "a/b", KEEP_BOTH)[0] == "a/b_2.safetensors"
    assert torch.equal(LoadEraser.execute("a/b.safetensors")[0]["text"].left, torch.eye(2) * 2)
    assert torch.equal(LoadEraser.execute("a/b_2.safetensors")[0]["text"].left, torch.eye(2))


@pytest.mark.usefixtures("windows")
def test_a_lora_is_replaced_by_windows_rules(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it has tests of its own."""
    save = _saving_a_lora(monkeypatch)
    names = [save("x", how)[0] for how in (REPLACE, REPLACE, KEEP_BOTH)]
    assert names == ["x.safetensors", "x.safetensors", "x_2.safetensors"]


@pytest.mark.parametrize("name", [".", "x" * 200, MARKUP, "CONIN$", "../x", "a\u202eb"])
def test_a_name_is_refused_before_any_work(folders: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save = _saving_a_lora(monkeypatch)

    def work(*_: Any) -> None:
        raise AssertionError("work was done first")

    monkeypatch.setattr(export_lora, "lora_tensors", work)
    for attempt in (lambda: save(name, REPLACE), lambda: SaveEraser.execute(eraser(), name, REPLACE)):
        with pytest.raises(InputError, match="file name"):
            attempt()
    assert not list((folders / "loras").iterdir()) + list((folders / "erasers").iterdir())


def test_a_path_that_windows_cannot_hold_is_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted with the number that 'keep both' may add, and for the file that is renamed in the end."""
    root = len(str(folders / "erasers"))
    monkeypatch.setattr(host_folders, "_MAX_PATH", root + 40)
    host_folders.path_to_save("erasers", "x" * (40 - 1 - 12 - 6))
    for name in ("x" * (40 - 12 - 6), "sub-folder/" * 2 + "x"):
        with pytest.raises(InputError, match="too long by"):
            host_folders.path_to_save("erasers", name)


def test_an_old_file_says_so_in_its_description(folders: Path, root: Path) -> None:
    for name in ("plain", "combined"):
        content = (root / "tests" / "golden" / f"{name}.safetensors").read_bytes()
        (folders / "erasers" / f"{name}.safetensors").write_bytes(content)
        loaded, description = LoadEraser.execute(f"{name}.safetensors").args
        assert "RECE on SD1: nudity → (empty prompt), Van Gogh → art, preserving a dog, Café" in description
        assert "older version of this pack and has no checksum" in description
        SaveEraser.execute(loaded, name, REPLACE)
        assert "checksum" not in LoadEraser.execute(f"{name}.safetensors")[1]


def _saving_a_lora(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Save Eraser as LoRA for a model that is not there."""
    session = SimpleNamespace(architecture=None)
    monkeypatch.setattr(session_module, "Session", SimpleNamespace(open=lambda model: session))
    monkeypatch.setattr(export_lora, "lora_metadata", lambda architecture, eraser: {"format": "pt"})
    monkeypatch.setattr(export_lora, "lora_tensors", lambda *_: {"x.lora_up.weight": torch.ones(2, 1)})
    return lambda name, how: SaveEraserAsLoRA.execute(None, eraser(), name, how, 1.0, 0, "float32")
