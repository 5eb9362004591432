"""The workflow in the header of what is saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.cli_args import args
from rece_pack.nodes.host.workflow import MAX_CHARACTERS, embedded_workflow
from rece_pack.rece_ops import Eraser, EraserSet
from safetensors import safe_open

PROMPT, PAGE = {"1": {"class_type": "A", "inputs": {"text": 'a "\\ud83d" é'}}}, {"nodes": [], "version": 0.4}


@dataclass
class Hidden:
    """What the host tells a node."""

    prompt: Any = None
    extra_pnginfo: Any = None


def test_it_is_what_the_page_sent_and_nothing_else_of_it() -> None:
    found = embedded_workflow(Hidden(PROMPT, {"workflow": PAGE, "secret": "token"}))
    assert {name: json.loads(text) for name, text in found.items()} == {"prompt": PROMPT, "workflow": PAGE}


@pytest.mark.parametrize("page", [None, 5, [], {"other": 1}])
def test_a_page_that_sends_none_leaves_none(page: Any) -> None:
    assert embedded_workflow(Hidden(None, page)) == {}
    assert embedded_workflow(None) == {}


def test_it_is_left_out_where_it_is_too_long_or_the_host_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded_workflow(Hidden({}, {"workflow": "x" * (MAX_CHARACTERS - 4)})) != {}
    assert embedded_workflow(Hidden({}, {"workflow": "x" * (MAX_CHARACTERS - 3)})) == {}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert embedded_workflow(Hidden(PROMPT, {"workflow": PAGE})) == {}


def test_it_stands_beside_what_the_file_says_of_itself_and_cannot_change_that(tmp_path: Path) -> None:
    eraser = EraserSet({"text": Eraser(torch.eye(2), None)})
    attached = {**embedded_workflow(Hidden(PROMPT, {"workflow": PAGE})), "format": "another", "sha256": "0"}
    path = eraser.save(tmp_path / "one.safetensors", attached=attached)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["workflow"]) == PAGE
        assert file.metadata()["format"] == "rece-eraser"
    assert EraserSet.load(path).keys() == {"text"}
