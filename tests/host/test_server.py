"""The test host itself: ComfyUI starts, samples the small checkpoints, and its client reports what happened.

The server here does without the pack, so that a failure says something about the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tools.client import ExecutionError, ExecutionInterrupted, Progress, PromptRejected
from tools.graph import Graph
from tools.host import Host
from tools.server import ComfyServer, ServerDied

PROBE_NODES = """
import time
import comfy.utils
from server import PromptServer


class ProbeFails:
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"text": ("STRING", {"default": ""})}})

    def run(self, text):
        raise ValueError(text)


class ProbeWorks:
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"steps": ("INT", {"max": 100000})}, "hidden": {"node": "UNIQUE_ID"}}
    )

    def run(self, steps, node):
        PromptServer.instance.send_progress_text("working", node)
        progress = comfy.utils.ProgressBar(steps)
        for _ in range(steps):
            time.sleep(0.001)
            progress.update(1)
        return {"ui": {"steps": [steps]}}


NODE_CLASS_MAPPINGS = {"ProbeFails": ProbeFails, "ProbeWorks": ProbeWorks}
"""


@pytest.fixture(scope="module")
def plain_server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server without the pack, with nodes that fail and work on request."""
    server = ComfyServer(host, tmp_path_factory.mktemp("plain"), pack_name=None)
    server.add_custom_node("probe", PROBE_NODES)
    with server:
        yield server


@pytest.mark.parametrize("kind", ["sd15", "sd2", pytest.param("sdxl", marks=pytest.mark.large)])
def test_pictures_depend_on_the_prompt_and_nothing_else(
    plain_server: ComfyServer, checkpoint: Callable[[str], Path], kind: str
) -> None:
    name = plain_server.link_model(checkpoint(kind))
    cat = _picture(plain_server, name, "a photo of a cat")
    plain_server.free()  # or the second picture would only be the first, remembered
    assert np.array_equal(cat, _picture(plain_server, name, "a photo of a cat"))
    assert cat.std() > 10
    assert np.abs(cat - _picture(plain_server, name, "a painting of a church")).mean() > 5


def test_a_saved_checkpoint_makes_the_same_picture(
    plain_server: ComfyServer, checkpoint: Callable[[str], Path]
) -> None:
    graph = Graph()
    loaded = graph.load(plain_server.link_model(checkpoint("sd15")))
    parts = {"model": loaded.out(0), "clip": loaded.out(1), "vae": loaded.out(2)}
    graph.node("CheckpointSave", filename_prefix="checkpoints/again", **parts)
    plain_server.run(graph.prompt)
    saved = next((plain_server.base / "output/checkpoints").iterdir()).name
    pictures = [_picture(plain_server, name, "a cat") for name in ("sd15.safetensors", saved)]
    assert np.array_equal(*pictures)


def test_a_rejected_graph_names_the_node(plain_server: ComfyServer) -> None:
    graph = Graph()
    loaded = graph.load("missing.safetensors")
    graph.sample(loaded, "a cat")
    with pytest.raises(PromptRejected) as caught:
        plain_server.submit(graph.prompt)
    assert list(caught.value.node_errors) == [loaded.id]


def test_a_failing_node_is_reported(plain_server: ComfyServer) -> None:
    graph = Graph()
    node = graph.node("ProbeFails", text="no such concept")
    with pytest.raises(ExecutionError) as caught:
        plain_server.run(graph.prompt)
    assert (caught.value.node_id, caught.value.exception_type) == (node.id, "ValueError")
    assert caught.value.message == "no such concept"


def test_progress_texts_and_cached_nodes_are_reported(plain_server: ComfyServer) -> None:
    graph = Graph()
    node = graph.node("ProbeWorks", steps=3)
    first, second = plain_server.run(graph.prompt), plain_server.run(graph.prompt)
    assert first.outputs == {node.id: {"steps": [3]}}
    assert (first.executed, first.cached) == ([node.id], [])
    assert first.progress[-1] == Progress(node.id, 3, 3)
    assert first.texts == [(node.id, "working")]
    assert (second.executed, second.cached) == ([], [node.id])


def test_a_running_graph_can_be_interrupted(plain_server: ComfyServer) -> None:
    graph = Graph()
    graph.node("ProbeWorks", steps=100000)
    prompt_id = plain_server.submit(graph.prompt)

    def interrupt_at_first_step(event: dict[str, object]) -> None:
        if event["type"] == "progress":
            plain_server.interrupt()

    with pytest.raises(ExecutionInterrupted):
        plain_server.wait(prompt_id, on_event=interrupt_at_first_step)


def test_nodes_describe_themselves(plain_server: ComfyServer) -> None:
    assert plain_server.object_info("ProbeFails")["input"]["required"]["text"][0] == "STRING"
    assert "KSampler" in plain_server.object_info()


def test_a_server_that_does_not_start_shows_its_log(host: Host, tmp_path: Path) -> None:
    server = ComfyServer(host, tmp_path, pack_name=None, arguments=["--no-such-argument"])
    with pytest.raises(ServerDied, match="unrecognized arguments: --no-such-argument"), server:
        pass


def _picture(server: ComfyServer, checkpoint: str, prompt: str) -> np.ndarray:
    graph = Graph()
    shown = graph.sample(graph.load(checkpoint), prompt)
    return server.run(graph.prompt).images(shown)[0].astype(int)
