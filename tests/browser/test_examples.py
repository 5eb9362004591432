"""Every example workflow, opened in the real frontend and run by the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.frontend import Frontend
from tools.links import link
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "example_workflows").glob("*.json"))
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
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_opens_and_saves_unchanged(frontend: Frontend, path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    frontend.load(workflow)
    saved = {node["id"]: node for node in frontend.serialize()["nodes"]}
    for node in workflow["nodes"]:
        assert saved[node["id"]]["type"] == node["type"]
        # Newer frontends write no list for a node without widgets.
        assert saved[node["id"]].get("widgets_values", []) == node["widgets_values"], node["type"]


@pytest.mark.parametrize(
    "path",
    # The graphs of these take minutes, and tests/host erases from the same models in smaller ones.
    [
        pytest.param(one, marks=pytest.mark.large) if one.stem.endswith(("flux", "sdxl", "wan")) else one
        for one in EXAMPLES
    ],
    ids=lambda path: path.stem,
)
def test_it_runs(
    frontend: Frontend, server: ComfyServer, checkpoint: Callable[[str], Path], tmp_path: Path, path: Path
) -> None:
    if frontend.nodes2:
        pytest.skip("the prompt does not depend on the renderer")
    frontend.load(json.loads(path.read_text(encoding="utf-8")))
    prompt = frontend.prompt()
    _stand_in(prompt, server, checkpoint, tmp_path)
    result = server.run(prompt)
    titles = {node["_meta"]["title"]: id for id, node in prompt.items()}
    before, after = (result.images(titles[title])[0] for title in ("Before", "After"))
    assert not np.array_equal(before, after)
    assert re.match(r"Erased \d+ concepts? from this ", result.outputs[titles["Report"]]["text"][0])


def _stand_in(prompt: dict[str, Any], server: ComfyServer, checkpoint: Callable[[str], Path], folder: Path) -> None:
    """Give the workflow small models under the names it asks for, and small pictures to make."""
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        for name in STAND_INS.keys() & set(map(str, inputs.values())) if kind in FOLDERS else ():
            link(checkpoint(STAND_INS[name]), folder / name)
            server.link_model(folder / name, FOLDERS[kind])
        inputs |= SMALL.get(kind, {})
