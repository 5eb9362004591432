"""Writes the subgraph blueprints in `subgraphs/`, which ComfyUI lists among its own: made in the real frontend.

    python -m tools.blueprints [--out subgraphs]

Runs in the host's interpreter, with the requirements of the tests.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.frontend import PACK, Frontend, Workflow, launch
from tools.host import CHROMIUM_NAMES, REPOSITORY, Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer

Link = tuple[str, int, str, str]
"""Node, output, node, input."""


@dataclass(frozen=True)
class Blueprint:
    """A subgraph that a person adds to a workflow as one node.

    Attributes:
        name: of the file and the node.
        description: for the list of blueprints.
        nodes: type, place and values of the nodes in it, by names of our own.
        links: between them.
        open: inputs of the subgraph: name, then node and input for each that it feeds. Those of widgets are widgets there, too.
        results: outputs of the subgraph: name, node and output.
        shown: widgets of the nodes that are shown on the subgraph's node.
    """

    name: str
    description: str
    nodes: Mapping[str, tuple[str, tuple[int, int], dict[str, Any]]]
    links: Sequence[Link]
    open: Mapping[str, Sequence[tuple[str, str]]]
    results: Sequence[tuple[str, str, int]]
    shown: Sequence[tuple[str, str]]


_ERASE = ("RECE_EraseConcepts", (0, 0), {"concepts": "Van Gogh -> art", "method": "UCE"})
BLUEPRINTS = (
    Blueprint(
        "Quick Erase (RECE)",
        "Erases concepts from a model and samples one picture with it.",
        {
            "erase": _ERASE,
            "positive": ("CLIPTextEncode", (480, 0), {"text": "a painting of a harbour by Van Gogh"}),
            "negative": ("CLIPTextEncode", (480, 240), {"text": ""}),
            "latent": ("EmptyLatentImage", (480, 480), {"width": 512, "height": 512}),
            "sampler": ("KSampler", (940, 0), {"steps": 20, "cfg": 7.0, "sampler_name": "euler"}),
            "decode": ("VAEDecode", (1260, 0), {}),
        },
        (
            ("erase", 0, "sampler", "model"),
            ("positive", 0, "sampler", "positive"),
            ("negative", 0, "sampler", "negative"),
            ("latent", 0, "sampler", "latent_image"),
            ("sampler", 0, "decode", "samples"),
        ),
        {
            "model": (("erase", "model"),),
            "clip": (("erase", "clip"), ("positive", "clip"), ("negative", "clip")),
            "vae": (("decode", "vae"),),
        },
        (("image", "decode", 0), ("model", "erase", 0), ("eraser", "erase", 1)),
        (
            ("erase", "concepts"),
            ("erase", "method"),
            ("erase", "strength"),
            ("positive", "text"),
            ("negative", "text"),
            ("latent", "width"),
            ("latent", "height"),
            ("sampler", "seed"),
            ("sampler", "steps"),
        ),
    ),
    Blueprint(
        "Compare Erasure Methods (RECE)",
        "Erases concepts by UCE and by projection, and shows both beside the model with the same prompts and noise.",
        {
            "erase": _ERASE,
            "other": ("RECE_EraseConcepts", (0, 620), {"concepts": "Van Gogh -> art", "method": "projection"}),
            "compare": (
                "RECE_CompareErasure",
                (520, 0),
                {"prompts": "a painting of a harbour by Van Gogh\na photo of a dog in a park", "steps": 20},
            ),
        },
        (("erase", 1, "compare", "erased_1"), ("other", 1, "compare", "erased_2")),
        {
            "model": (("erase", "model"), ("other", "model"), ("compare", "model")),
            "clip": (("erase", "clip"), ("other", "clip"), ("compare", "clip")),
            "vae": (("compare", "vae"),),
            "concepts": (("erase", "concepts"), ("other", "concepts")),
        },
        (("grid", "compare", 0), ("by UCE", "erase", 1), ("by projection", "other", 1)),
        (
            ("compare", "prompts"),
            ("compare", "seed"),
            ("compare", "steps"),
            ("compare", "width"),
            ("compare", "height"),
        ),
    ),
)

# Makes one node of those with `ids`, with inputs and outputs of its own, and gives back its id.
MAKE = """
([ids, name, open, results, shown]) => {
  const { node, subgraph } = app.graph.convertToSubgraph(new Set(ids.map((id) => app.graph.getNodeById(id))));
  node.title = subgraph.name = name;
  for (const [label, targets] of open) {
    const type = targets.map(([id, input]) => subgraph.getNodeById(id).inputs.find((one) => one.name === input).type)[0];
    const made = subgraph.addInput(label, type);
    for (const [id, input] of targets) {
      const target = subgraph.getNodeById(id);
      made.connect(target.inputs.find((one) => one.name === input), target);
    }
  }
  for (const [label, id, slot] of results) {
    const output = subgraph.getNodeById(id).outputs[slot];
    subgraph.addOutput(label, output.type).connect(output, subgraph.getNodeById(id));
  }
  node.properties.proxyWidgets = shown.map(([id, widget]) => [String(id), widget]);
  return node.id;
}
"""


def made(frontend: Frontend, blueprint: Blueprint) -> Workflow:
    """The blueprint as ComfyUI keeps one: a workflow with nothing but the subgraph's node."""
    frontend.clear()
    ids = {name: frontend.add(kind, position, **values) for name, (kind, position, values) in blueprint.nodes.items()}
    for source, output, target, name in blueprint.links:
        frontend.connect(ids[source], output, ids[target], name)
    frontend.page.evaluate(
        MAKE,
        [
            list(ids.values()),
            blueprint.name,
            [[name, [[ids[node], one] for node, one in targets]] for name, targets in blueprint.open.items()],
            [[name, ids[node], output] for name, node, output in blueprint.results],
            [[ids[node], widget] for node, widget in blueprint.shown],
        ],
    )
    # Opened once, so that what is written is what a frontend writes of what it read.
    frontend.load(frontend.serialize())
    workflow = frontend.serialize()
    for subgraph in workflow["definitions"]["subgraphs"]:
        subgraph["description"] = blueprint.description
    workflow["extra"] = {}
    return workflow


def main() -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description="Write the subgraph blueprints.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "subgraphs")
    out = parser.parse_args().out
    comfyui = prepare_comfyui()
    make_importable(comfyui)
    from playwright.sync_api import sync_playwright

    out.mkdir(exist_ok=True)
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    with (
        tempfile.TemporaryDirectory(prefix="rece-blueprints-") as base,
        ComfyServer(Host(Path(sys.executable), comfyui), Path(base), pack_name=PACK) as server,
        sync_playwright() as driver,
    ):
        server.request("/settings", {"Comfy.VueNodes.Enabled": False, "Comfy.TutorialCompleted": True})
        browser = launch(driver, executable)
        frontend = Frontend(browser.new_context(viewport={"width": 1400, "height": 1000}).new_page(), nodes2=False)
        frontend.open(server.address)
        for blueprint in BLUEPRINTS:
            text = json.dumps(made(frontend, blueprint), ensure_ascii=False, indent=1)
            (out / f"{blueprint.name}.json").write_text(f"{text}\n", encoding="utf-8", newline="\n")
            print(out / f"{blueprint.name}.json")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
