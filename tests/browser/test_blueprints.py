"""The subgraph blueprints: ComfyUI lists them, and each runs once a checkpoint is connected, in both renderers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.blueprints import BLUEPRINTS
from tools.frontend import PACK, Frontend
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
FILES = sorted(FOLDER.glob("*.json"))
# What is to be made smaller, by the names of widgets.
SMALL = {"steps": 1, "width": 64, "height": 64}
# Frontend 1.32 calls a widget that is shown from within '10: steps'.
SET = """([id, name, value]) => {
  const widget = recetest.node(id).widgets.find((one) => one.name.replace(/^\\d+: /, "") === name);
  widget.value = value;
}"""
SHOW = {"Quick Erase (RECE)": "image", "Compare Erasure Methods (RECE)": "grid"}


def test_the_files_are_those_that_the_tool_writes() -> None:
    assert {file.stem for file in FILES} == {blueprint.name for blueprint in BLUEPRINTS} == set(SHOW)


def test_comfyui_lists_them(server: ComfyServer) -> None:
    listed: dict[str, Any] = server.request("/global_subgraphs")
    ours = {one["name"] for one in listed.values() if one["info"]["node_pack"].endswith(PACK)}
    assert ours == set(SHOW)


# The comparison erases by two methods and samples six pictures.
CASES = [pytest.param(file, marks=pytest.mark.large if "Compare" in file.stem else (), id=file.stem) for file in FILES]


@pytest.mark.parametrize("file", CASES)
def test_a_blueprint_makes_a_picture(frontend: Frontend, file: Path) -> None:
    frontend.load(json.loads(file.read_text(encoding="utf-8")))
    (node,) = frontend.page.evaluate("() => app.graph.nodes.map(({ id }) => id)")
    loader = frontend.add("CheckpointLoaderSimple", (20, 100), ckpt_name="sd15.safetensors")
    for output, name in enumerate(("model", "clip", "vae")):
        frontend.connect(loader, output, node, name)
    concept = "hat -> cap" if frontend.nodes2 else "boat -> ship"
    for name, value in {**SMALL, "concepts": concept}.items():
        frontend.page.evaluate(SET, [node, name, value])
    outputs = frontend.page.evaluate("(id) => recetest.node(id).outputs.map(({ name }) => name)", node)
    preview = frontend.add("PreviewImage", (1000, 100))
    frontend.connect(node, outputs.index(SHOW[file.stem]), preview, "images")
    prompt = frontend.prompt()
    erases = [one for one in prompt.values() if one["class_type"] == "RECE_EraseConcepts"]
    assert erases
    assert all(one["inputs"]["concepts"] == concept for one in erases)
    frontend.queue()
    frontend.page.wait_for_function("(id) => app.nodeOutputs?.[id]?.images?.length", arg=str(preview), timeout=180_000)
