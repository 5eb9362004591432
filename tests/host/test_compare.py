"""'Compare Erasure': pictures that a person would have made with a graph of samplers, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.host import every_node
from tools.client import ExecutionError, ExecutionInterrupted
from tools.graph import Graph, Node
from tools.server import ComfyServer

SAMPLING = {"steps": 2, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"}


@pytest.fixture(scope="module")
def name(server: ComfyServer, checkpoint: Callable[[str], Path]) -> str:
    every_node.prepare(server)
    return server.link_model(checkpoint("sd15"))


def compare(graph: Graph, loaded: Node, **inputs: Any) -> Node:
    parts = {part: loaded.out(index) for index, part in enumerate(("model", "clip", "vae"))}
    values = {"prompts": "a hat\na boat", "negative": "", "seed": 7, "seeds": 1, "strengths": "1", **SAMPLING}
    return graph.node("RECE_CompareErasure", **{**parts, **values, "width": 64, "height": 64, **inputs})


def eraser(graph: Graph) -> Node:
    return graph.node("RECE_LoadEraser", eraser_name=every_node.ERASER_NAME)


def test_the_pictures_are_those_of_samplers_with_the_same_seed(server: ComfyServer, name: str) -> None:
    graph = Graph()
    loaded = graph.load(name)
    applied = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=eraser(graph), strength=0.5)
    node = compare(graph, loaded, erased_1=eraser(graph), erased_2=applied, strengths="0, 0.5")
    listed = graph.node("PreviewImage", images=node.out(1))
    sampled = [
        graph.sample(loaded, prompt, model=model, seed=7)
        for prompt in ("a hat", "a boat")
        for model in (loaded.out(0), applied.out(0))
    ]
    result = server.run(graph.prompt)
    # Before, strength 0, strength 0.5, and the MODEL with it, in two rows.
    pictures = result.images(listed)
    assert len(pictures) == 8
    expected = [result.images(one)[0] for one in sampled]
    for row in (0, 1):
        before, after = expected[2 * row : 2 * row + 2]
        assert not np.array_equal(before, after)
        for picture, wanted in zip(pictures[4 * row :], (before, before, after, after), strict=False):
            assert np.array_equal(picture, wanted)
    (grid,) = result.outputs[node.id]["rece_grid"]
    assert grid["columns"] == ["before", "UCE: nude at 0", "UCE: nude at 0.5", "UCE: nude"]
    assert grid["rows"] == ["a hat", "a boat"]
    whole = server.view(grid["image"])
    assert list(whole.shape[1::-1]) == grid["size"]
    for row in (0, 1):
        for column in range(4):
            left = grid["left"] + column * (grid["width"] + grid["gap"])
            top = grid["top"] + row * (grid["height"] + grid["gap"])
            found = whole[top : top + 64, left : left + 64].astype(int)
            # The host cuts the fraction of a level off, the grid rounds it.
            assert np.abs(found - pictures[4 * row + column]).max() <= 1


def test_seeds_make_rows_and_progress_counts_all_pictures(server: ComfyServer, name: str) -> None:
    graph = Graph()
    node = compare(graph, graph.load(name), erased_1=eraser(graph), prompts="a hat", seeds=2)
    result = server.run(graph.prompt)
    (grid,) = result.outputs[node.id]["rece_grid"]
    assert grid["rows"] == ["a hat (seed 7)", "a hat (seed 8)"]
    shares = [one.value / one.max for one in result.progress if one.node == node.id]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) >= 2 * 2 * SAMPLING["steps"]  # type: ignore[operator]


def test_it_can_be_cancelled(server: ComfyServer, name: str) -> None:
    graph = Graph()
    compare(graph, graph.load(name), erased_1=eraser(graph), steps=1000)
    prompt_id = server.submit(graph.prompt)

    def interrupt(event: dict[str, Any]) -> None:
        if event["type"] == "progress":
            server.interrupt()

    with pytest.raises(ExecutionInterrupted):
        server.wait(prompt_id, on_event=interrupt)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"prompts": "# nothing"}, "'prompts' is empty"),
        ({"strengths": "1, much"}, "'strengths' holds 'much', which is no number"),
        ({"prompts": "\n".join(map(str, range(201)))}, "These are 402 pictures"),
        ({"seed": 2**64 - 1, "seeds": 2}, "'seed' is 18446744073709551616"),
    ],
)
def test_what_cannot_be_sampled_is_said_before_any_picture(
    server: ComfyServer, name: str, inputs: dict[str, Any], message: str
) -> None:
    graph = Graph()
    compare(graph, graph.load(name), erased_1=eraser(graph), **inputs)
    with pytest.raises(ExecutionError) as caught:
        server.run(graph.prompt)
    assert message in caught.value.message
