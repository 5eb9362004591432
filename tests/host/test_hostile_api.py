"""What the API lets through to the nodes of the real server: every answer is a sentence, and the server goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import every_node
import pytest
import torch
from safetensors.torch import save_file

from tools.client import ExecutionError, PromptRejected
from tools.graph import Graph
from tools.host import Host
from tools.server import ComfyServer

NODES = tuple(every_node.BUILD)
CONNECTED = ("MODEL", "CLIP", "VAE", "ERASER", "CONDITIONING", "IMAGE")
# What each kind of input gets in addition; "list" arrives as one, where a bare list would be a link.
WRONG: dict[str, tuple[Any, ...]] = {
    "INT": (None, "x", {}, math.nan, math.inf, {"__value__": [1, 2]}),
    "FLOAT": (None, "x", {}, math.nan, math.inf, -math.inf, {"__value__": [1, 2]}),
    "STRING": ("\ud800 -> \udfff",),
    "COMBO": (None, 5, True, "\ud800", {"a": 1}, {"__value__": ["nudity", "x"]}),
    **{kind: (5, "\ud800", {"a": 1}, {"__value__": [1, 2]}) for kind in CONNECTED},
}


@pytest.fixture(scope="module")
def alone(
    host: Host, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A server of its own: if one of these tests ends it, the others' go on."""
    server = ComfyServer(host, tmp_path_factory.mktemp("hostile"))
    server.link_model(checkpoint("sd15"))
    every_node.prepare(server)
    with server:
        yield server


def answer(server: ComfyServer, graph: Graph) -> str:
    """How the server answers a graph that cannot run: its own refusal, or a sentence of ours."""
    with pytest.raises((PromptRejected, ExecutionError)) as caught:
        server.run(graph.prompt, timeout=60)
    error = caught.value
    if isinstance(error, PromptRejected):
        return str(error)
    assert ".errors." in error.exception_type, error
    assert len(error.message) < 600
    error.message.encode("utf-8")
    return error.message


def answered(server: ComfyServer, graph: Graph) -> None:
    """Run a graph to its end, whatever that is, as long as it is no raw error."""
    raw = None
    try:
        server.run(graph.prompt, timeout=60)
    except ExecutionError as error:
        raw = None if ".errors." in error.exception_type else error
    assert raw is None


@pytest.mark.parametrize("node", NODES)
def test_a_sound_graph_of_every_node_runs(alone: ComfyServer, node: str) -> None:
    """Or what follows would test nothing."""
    every_node.run_sound(alone, node, "sd15.safetensors")


@pytest.mark.parametrize("node", NODES)
def test_wrong_values_of_every_input_are_answered_and_a_sound_graph_runs_after_them(
    alone: ComfyServer, node: str
) -> None:
    described = alone.object_info(node)["input"]
    optional = described.get("optional", {})
    for name, (kind, *_) in {**described["required"], **optional}.items():
        for value in WRONG.get(kind, ()):
            message = answer(alone, every_node.graph_of(node, "sd15.safetensors", {name: value}))
            # A name that no file has is refused as such.
            assert name in message or "The file name" in message or "There is no" in message
    every_node.run_sound(alone, node, "sd15.safetensors")


def test_half_a_character_in_provenance_does_not_end_the_server(alone: ComfyServer) -> None:
    left = torch.eye(every_node.DIMENSION)[:, :1].contiguous()
    for name in ("architecture", "concepts", "method"):
        provenance = {
            "concepts": ["a"],
            "targets": [""],
            name: ["\ud800\nError: x"] if name == "concepts" else "\ud800",
        }
        metadata = {"format": "rece-eraser", "format_version": "1", "provenance": json.dumps(provenance)}
        file = alone.base / "models" / "erasers" / f"half {name}.safetensors"
        save_file(
            {"text/left": left, "text/right": left.T.clone(memory_format=torch.contiguous_format)}, file, metadata
        )
        for node in ("RECE_ApplyEraser", "RECE_ErasureReport", "RECE_LoadEraser"):
            graph = every_node.graph_of(
                node, "sd15.safetensors", {"concepts": ""} if node == "RECE_ErasureReport" else {}
            )
            for one in graph.prompt.values():
                if one["class_type"] == "RECE_LoadEraser":
                    one["inputs"]["eraser_name"] = file.name
            answered(alone, graph)
    alone.run(every_node.graph_of("RECE_ApplyEraser", "sd15.safetensors", {}).prompt)


def test_dollar_signs_are_no_formulas_in_the_figure(alone: ComfyServer) -> None:
    concepts = "a $\\frac{$ hat\nten $ -> twenty $$"
    alone.run(
        every_node.graph_of("RECE_ErasureReport", "sd15.safetensors", {"concepts": concepts, "preserve": "$^$"}).prompt
    )
