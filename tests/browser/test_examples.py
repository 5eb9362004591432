"""Every example workflow, opened in the real frontend and run by the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.frontend import Frontend
from tools.links import link
from tools.readme_picture import FIT
from tools.server import ComfyServer
from tools.template_graphs import TEMPLATES
from tools.template_graphs.parts import SOURCES, Template

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
EXAMPLES = sorted(FOLDER.glob("*.json"))
# Which small file stands in for the one that a workflow names.
STAND_INS = {
    "v1-5-pruned-emaonly-fp16.safetensors": "sd15",
    "sd_xl_base_1.0.safetensors": "sdxl",
    "flux1-dev.safetensors": "flux",
    "clip_l.safetensors": "clip_l",
    "t5xxl_fp8_e4m3fn.safetensors": "t5xxl",
    "ae.safetensors": "vae16",
    "wan2.1_t2v_1.3B_fp16.safetensors": "wan",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": "umt5xxl",
    "wan_2.1_vae.safetensors": "wan_vae",
}
# Where a loader looks for them.
FOLDERS = {
    "CheckpointLoaderSimple": "checkpoints",
    "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders",
    "VAELoader": "vae",
}
# What is to be made smaller, and how small.
SMALL = {
    "EmptyLatentImage": {"width": 64, "height": 64},
    "EmptySD3LatentImage": {"width": 64, "height": 64},
    "EmptyHunyuanLatentVideo": {"width": 64, "height": 64, "length": 5},
    "KSampler": {"steps": 2},
    "RECE_CompareErasure": {"steps": 1, "width": 64, "height": 64},
    "RECE_TrainEraser": {
        "steps": 2,
        "pictures": 2,
        "retained_pictures": 2,
        "size": 64,
        "picture_steps": 1,
        "batch": 2,
        "retained_batch": 1,
        "adversaries": 2,
    },
    "RECE_UnlearnTextEncoder": {"steps": 1, "pictures": 2, "retained_pictures": 1, "size": 64, "picture_steps": 1},
}
# Those that run whenever tests run.
SHORT = ("Quick erase (SD 1.5)", "Does it hold (SD 1.5)")
# Text encoders of which there is no small one.
WITHOUT_STAND_IN = ("Z-Image", "Qwen-Image")
# As `FIT` of `tools.readme_picture` takes them: the page of the tests, without its bars.
VIEW = [60, 60, 20, 1400, 1000]
# Where every node is that a person sees, in the canvas's units, with its title: Nodes 2.0 draws it as high as what it holds.
BOXES = """
async () => {
  const boxes = [], title = LiteGraph.NODE_TITLE_HEIGHT;
  for (const node of app.graph.nodes) {
    const [x, y] = node.pos, height = await recetest.settledHeight(node.id);
    const element = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
    const width = element ? element.getBoundingClientRect().width / app.canvas.ds.scale : node.size[0];
    boxes.push([node.title, x, y - title, x + width, y + height - (element ? title : 0)]);
  }
  return boxes;
}
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_opens_and_saves_unchanged(frontend: Frontend, path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    frontend.load(workflow)
    saved = {node["id"]: node for node in frontend.serialize()["nodes"]}
    for node in workflow["nodes"]:
        assert saved[node["id"]]["type"] == node["type"]
        # Newer frontends write no list for a node without widgets.
        assert saved[node["id"]].get("widgets_values", []) == node["widgets_values"], node["type"]


def test_the_files_are_those_that_the_tool_writes_and_say_where_models_are_to_be_had() -> None:
    assert {path.stem for path in EXAMPLES} == {template.name for template in TEMPLATES}
    for path in EXAMPLES:
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] in FOLDERS:
                told = {model["name"]: model for model in node["properties"]["models"]}
                assert told == {name: SOURCES[name] for name in node["widgets_values"] if str(name) in SOURCES}
                assert told, node
                assert {model["directory"] for model in told.values()} == {FOLDERS[node["type"]]}
    # As pages on the web have it: no space, no other scheme, the file at the end.
    assert all(
        re.fullmatch(rf"https://huggingface\.co/\S+/{re.escape(name)}", one["url"]) for name, one in SOURCES.items()
    )


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_nothing_overlaps(frontend: Frontend, template: Template) -> None:
    path = FOLDER / f"{template.name}.json"
    assert path.with_suffix(".jpg").is_file(), "the picture that ComfyUI shows of it"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    frontend.load(workflow)
    frontend.page.evaluate(FIT, VIEW)
    boxes = frontend.page.evaluate(BOXES)
    assert len(boxes) == len(template.nodes)
    overlapping = [(one[0], other[0]) for one, other in combinations(boxes, 2) if _overlap(one[1:], other[1:])]
    assert overlapping == []
    if frontend.nodes2:
        return  # it spreads a workflow that was saved by the canvas, nodes and groups by rules of their own
    groups = [(left, top, left + width, top + height) for _, _, (left, top, width, height) in template.groups]
    outside = [(title, box) for title, *box in boxes if not any(_inside(box, group) for group in groups)]
    assert outside == []


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(one[axis] < other[axis + 2] and other[axis] < one[axis + 2] for axis in (0, 1))


def _inside(box: Sequence[float], group: Sequence[float]) -> bool:
    return all(group[axis] <= box[axis] and box[axis + 2] <= group[axis + 2] for axis in (0, 1))


@pytest.mark.parametrize(
    "path",
    # The graphs of the others take minutes, and tests/host erases from the same models in smaller ones.
    [one if one.stem in SHORT else pytest.param(one, marks=pytest.mark.large) for one in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_it_runs(
    frontend: Frontend, server: ComfyServer, checkpoint: Callable[[str], Path], tmp_path: Path, path: Path
) -> None:
    if frontend.nodes2:
        pytest.skip("the prompt does not depend on the renderer")
    if any(name in path.stem for name in WITHOUT_STAND_IN):
        pytest.skip("there is no small text encoder of this kind; the graph is that of Flux")
    frontend.load(json.loads(path.read_text(encoding="utf-8")))
    prompt = frontend.prompt()
    _stand_in(prompt, server, checkpoint, tmp_path)
    result = server.run(prompt)
    titles = {node["_meta"]["title"]: id for id, node in prompt.items()}
    if "Pictures" in titles:
        # A row of a comparison: the model, and two erasures.
        before, *others = result.images(titles["Pictures"])[:3]
    else:
        before, *others = (result.images(titles[title])[0] for title in ("Before", "After"))
    assert not any(np.array_equal(before, other) for other in others)
    report = result.outputs[titles["Report"]]["text"][0]
    assert re.match(
        r"(Erased \d+ concepts? from this |Trained 1 concept away in 2 steps|Unlearned 1 concept in 1 step)", report
    )


def _stand_in(prompt: dict[str, Any], server: ComfyServer, checkpoint: Callable[[str], Path], folder: Path) -> None:
    """Give the workflow small models under the names it asks for, and small pictures to make."""
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        for name in STAND_INS.keys() & set(map(str, inputs.values())) if kind in FOLDERS else ():
            link(checkpoint(STAND_INS[name]), folder / name)
            server.link_model(folder / name, FOLDERS[kind])
        inputs |= SMALL.get(kind, {})
