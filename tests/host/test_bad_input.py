"""Bad input gets a clear sentence from the real server, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.nodes.host.folders import checked_name
from rece_pack.rece_ops import Eraser, EraserSet, InputError
from safetensors.torch import load_file, save_file

from tools.client import ExecutionError, PromptRejected
from tools.graph import Graph
from tools.links import link
from tools.server import ComfyServer

Load = Callable[[str], str]


@pytest.fixture(scope="module")
def load(server: ComfyServer, checkpoint: Callable[[str], Path]) -> Load:
    return lambda kind: server.link_model(checkpoint(kind))


def failure(server: ComfyServer, graph: Graph) -> str:
    with pytest.raises(ExecutionError) as caught:
        server.run(graph.prompt)
    return caught.value.message


def erasing(load: Load, model: str = "sd15", clip: str = "sd15", **inputs: Any) -> Graph:
    graph = Graph()
    loaded = graph.load(load(model))
    encoder = loaded if clip == model else graph.load(load(clip))
    values = {"concepts": "nude", "preset": "UCE only", **inputs}
    erased = graph.node("RECE_EraseConcepts", model=loaded.out(0), clip=encoder.out(1), **values)
    graph.node("PreviewAny", source=erased.out(2))
    return graph


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"concepts": ""}, "No concept is given: type at least one"),
        ({"concepts": "# nothing\n"}, "No concept is given"),
        ({"concepts": "-> art"}, "Line 1 ('-> art') has no concept"),
        ({"concepts": "hat : heavy"}, "weight 'heavy', which is no number"),
        ({"concepts": "hat -> HAT"}, "maps the concept to itself"),
        ({"concepts": "word " * 700}, "fills 10 windows of the text encoder"),
        ({"preset": "custom", "regularization": 0.0}, "regularization is 0.0: give a finite number above zero"),
        ({"preset": "custom", "edit_regularization": 0.0}, "edit_regularization is 0.0"),
        ({"preset": "custom", "edit_regularization": 1e-12, "epochs": 0}, "Raise 'edit_regularization'"),
        (
            {"concepts": "a hat, embedding:there_is_none"},
            "textual inversion 'there_is_none', which is not in models/embeddings",
        ),
        (
            {"concepts": "hat\n\u200b\ufeff"},
            "Line 2 of 'concepts' holds nothing but invisible characters (U+200B, U+FEFF)",
        ),
    ],
)
def test_what_a_tired_person_types(server: ComfyServer, load: Load, inputs: dict[str, Any], message: str) -> None:
    assert message in failure(server, erasing(load, **inputs))


@pytest.mark.parametrize(("name", "value"), [("preset", "mine"), ("templates", "poem")])
def test_a_choice_that_does_not_exist_is_refused(server: ComfyServer, load: Load, name: str, value: str) -> None:
    """Newer hosts refuse it before the node does, whose sentence is tested in tests/pack."""
    with pytest.raises((ExecutionError, PromptRejected), match=f"{name}.*'{value}'"):
        server.run(erasing(load, **{name: value}).prompt)


@pytest.mark.parametrize("inputs", [{"preset": "custom", "epochs": 51}, {"strength": 3.0}])
def test_values_outside_a_widgets_range_are_refused_by_the_host(
    server: ComfyServer, load: Load, inputs: dict[str, Any]
) -> None:
    with pytest.raises(PromptRejected):
        server.run(erasing(load, **inputs).prompt)


def test_a_clip_of_another_family_is_refused(server: ComfyServer, load: Load) -> None:
    message = failure(server, erasing(load, "sd15", "sd2"))
    assert "dimension 1024, but the MODEL (SD1) reads 768: connect the CLIP that belongs to the MODEL" in message


def test_a_checkpoint_without_a_text_encoder_is_refused(
    server: ComfyServer, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    tensors = {key: value for key, value in load_file(checkpoint("sd15")).items() if "cond_stage_model" not in key}
    save_file(tensors, tmp_path / "no_text_encoder.safetensors")
    name = server.link_model(tmp_path / "no_text_encoder.safetensors")
    graph = Graph()
    loaded = graph.load(name)
    erased = graph.node("RECE_EraseConcepts", model=loaded.out(0), clip=loaded.out(1), concepts="nude", preset="nudity")
    graph.node("PreviewAny", source=erased.out(2))
    assert "CLIP is None: the checkpoint holds no text encoder" in failure(server, graph)


def test_an_eraser_for_another_dimension_is_refused(server: ComfyServer, load: Load) -> None:
    left = torch.randn(1024, 2, generator=torch.Generator().manual_seed(0))
    eraser = EraserSet({"text": Eraser(left, left.T.clone())}, {"architecture": "SD2"})
    eraser.save(server.base / "models" / "erasers" / "for_sd2.safetensors")
    graph = Graph()
    loaded = graph.load(load("sd15"))
    foreign = graph.node("RECE_LoadEraser", eraser_name="for_sd2.safetensors")
    applied = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=foreign.out(0), strength=1.0)
    graph.sample(loaded, "a hat", model=applied)
    message = failure(server, graph)
    assert "This ERASER was made for SD2 (text dimension 1024), but the MODEL is SD1 (text dimension 768)" in message
    graph = Graph()
    loaded = graph.load(load("sd15"))
    foreign = graph.node("RECE_LoadEraser", eraser_name="for_sd2.safetensors")
    graph.save_lora(loaded, foreign.out(0), "never")
    assert "made for SD2" in failure(server, graph)
    assert not (server.base / "models" / "loras" / "never.safetensors").exists()


def test_a_damaged_eraser_file_is_refused_and_a_foreign_one_too(
    server: ComfyServer, checkpoint: Callable[[str], Path]
) -> None:
    folder = server.base / "models" / "erasers"
    (folder / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    link(checkpoint("sd15"), folder / "checkpoint.safetensors")
    for name, message in (("cut", "'cut.safetensors' is damaged"), ("checkpoint", "but not an eraser")):
        graph = Graph()
        graph.node("PreviewAny", source=graph.node("RECE_LoadEraser", eraser_name=f"{name}.safetensors").out(1))
        assert message in failure(server, graph)


def test_only_listed_erasers_can_be_loaded(server: ComfyServer) -> None:
    for name in ("../checkpoints/x.safetensors", "/etc/passwd", "missing.safetensors"):
        graph = Graph()
        graph.node("PreviewAny", source=graph.node("RECE_LoadEraser", eraser_name=name).out(1))
        with pytest.raises((PromptRejected, ExecutionError)):
            server.run(graph.prompt)


BAD_NAMES = {
    "": "The file name is empty",
    "   ": "The file name is empty",
    "../escape": "leaves its folder ('..')",
    "a/../../escape": "leaves its folder ('..')",
    "..\\escape": "leaves its folder ('..')",
    "/tmp/escape": "is an absolute path",
    "C:\\escape": "is an absolute path",
    "\\\\server\\share": "is an absolute path",
    "what?": "has the reserved character '?'",
    "a:b": "has the reserved character ':'",
    "nul\x00l": "has the reserved character '\\x00'",
    "con": "a name reserved by Windows",
    "lpt1.safetensors": "a name reserved by Windows",
    ".hidden": "starts or ends with a dot or a space",
    "folder./x": "starts or ends with a dot or a space",
    "x" * 300: "is too long",
    "x" * 200: "is too long",
    "é" * 100: "is too long",
    "a/" * 500 + "b": "is too long",
    ".": "names no file",
    "./": "names no file",
    "COM¹": "a name reserved by Windows",
    "lpt³.safetensors": "a name reserved by Windows",
    "CONIN$": "a name reserved by Windows",
    "conout$.x": "a name reserved by Windows",
    "NUL .x": "a name reserved by Windows",
    "a/aux  .b.c": "a name reserved by Windows",
    "txt\u202egnp": "holds the character U+202E",
    "two\u200bwords": "holds the character U+200B",
    "soft\u00adhyphen": "holds the character U+00AD",
    "marked\ufeff": "holds the character U+FEFF",
    "line\u2028end": "holds the character U+2028",
    "blank\u3164": "holds the character U+3164",
    "half\ud800": "holds the character U+D800",
    "<img src=x>": "has the reserved character '<'",
    "/half\ud800": "'/half\\ud800' is an absolute path",
    "../half\ud800": "'../half\\ud800' leaves its folder ('..')",
    "half\ud800?": "'half\\ud800?' has the reserved character '?'",
    "con.\ud800": "holds the character U+D800",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_file_names_that_leave_the_folder_or_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_name(name)
    assert BAD_NAMES[name] in str(caught.value)
    # What cannot be encoded ends the host's worker.
    if "U+" in BAD_NAMES[name] or "\\" in BAD_NAMES[name]:
        assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("name", "checked"),
    [
        ("no_nudity", "no_nudity.safetensors"),
        ("no_nudity.safetensors", "no_nudity.safetensors"),
        ("people/Van Gogh v1.5", "people/Van Gogh v1.5.safetensors"),
        ("people\\van_gogh", "people/van_gogh.safetensors"),
        ("凡高", "凡高.safetensors"),
        ("./a//b", "a/b.safetensors"),
        ("x" * 188, "x" * 188 + ".safetensors"),
        ("Comet 1.5 ❤️", "Comet 1.5 ❤️.safetensors"),
    ],
)
def test_good_file_names(name: str, checked: str) -> None:
    assert checked_name(name) == checked
    assert checked_name(checked) == checked


def test_a_bad_name_is_refused_by_the_node_before_anything_is_written(server: ComfyServer, load: Load) -> None:
    graph = erasing(load)
    graph.node("RECE_SaveEraser", eraser=["2", 1], file_name="../../escaped", if_exists="replace")
    assert "leaves its folder" in failure(server, graph)
    assert not list(server.base.rglob("escaped*"))


@pytest.mark.skipif(
    getattr(os, "geteuid", int)() == 0,
    reason="root writes anywhere; the disk-full case is in tests/math; Windows knows no modes",
)
def test_a_folder_that_cannot_be_written(server: ComfyServer, load: Load) -> None:
    folder = server.base / "models" / "erasers" / "locked"
    folder.mkdir(mode=0o500)
    graph = erasing(load)
    graph.node("RECE_SaveEraser", eraser=["2", 1], file_name="locked/x", if_exists="replace")
    assert "Permission denied" in failure(server, graph)
