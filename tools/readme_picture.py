"""Makes the README's pictures: the example workflow in the real frontend, after a run on the pocket model, and the page of
`tools.evaluate`, after a run of it.

    python -m tools.readme_picture [--out docs/graph.png]
    python -m tools.readme_picture --page results/green/index.html --out docs/evaluation.png

Runs in the host's interpreter, with the requirements of the tests.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pocket_model.assemble import pocket_checkpoint
from tools.frontend import PACK, Frontend, launch
from tools.host import CHROMIUM_NAMES, REPOSITORY, Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer
from tools.template_graphs.parts import NOTE

EXAMPLE = REPOSITORY / "example_workflows" / "Quick erase (SD 1.5).json"
SETTINGS = {
    "Comfy.VueNodes.Enabled": False,
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
# The sidebar, and the bars and messages at the top, in pixels.
LEFT, TOP, MARGIN = 60, 235, 20
WIDTH, HEIGHT = 1900, 1120
PAGE_SIZE: Any = {"width": 1280, "height": 1000}
SHOWN_SIDE = 256
CONCEPT, PROMPT = "striped -> plain", "a photo of a striped red star"


# Fits all nodes, with their titles, into what the screenshot shows; gives the height that they take of it.
FIT = """
async ([left, top, margin, width, height]) => {
  const boxes = app.graph.nodes.map(({pos, size}) => [pos[0], pos[1] - 30, pos[0] + size[0], pos[1] + size[1]])
  const edge = (pick, index) => pick(...boxes.map((box) => box[index]))
  const [x, y] = [edge(Math.min, 0), edge(Math.min, 1)]
  const room = [width - left - 2 * margin, height - top - 2 * margin]
  const ds = app.canvas.ds
  ds.scale = Math.min(room[0] / (edge(Math.max, 2) - x), room[1] / (edge(Math.max, 3) - y))
  ds.offset = [(left + margin) / ds.scale - x, (top + margin) / ds.scale - y]
  app.canvas.setDirty(true, true)
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame)
  return (edge(Math.max, 3) - y) * ds.scale + 2 * margin
}
"""


def main() -> int:
    """Run the workflow and save what a person sees."""
    parser = argparse.ArgumentParser(description="Make the README's picture.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "graph.png")
    parser.add_argument("--page", type=Path, help="an evaluation's page, of which the upper part is taken instead")
    arguments = parser.parse_args()
    if arguments.page:
        _take_page(arguments.page, arguments.out)
        return 0
    comfyui = prepare_comfyui()
    make_importable(comfyui)
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    with (
        tempfile.TemporaryDirectory(prefix="rece-picture-") as base,
        ComfyServer(Host(Path(sys.executable), comfyui), Path(base), pack_name=PACK) as server,
        sync_playwright() as driver,
    ):
        workflow = _for_the_pocket_model(server.link_model(pocket_checkpoint()))
        server.request("/settings", SETTINGS)
        browser = launch(driver, executable)
        frontend = Frontend(browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page(), nodes2=False)
        frontend.open(server.address)
        frontend.load(workflow)
        clip: Any = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT, "height": _run(frontend)}
        frontend.page.screenshot(path=str(arguments.out), clip=clip)
        browser.close()
    print(arguments.out)
    return 0


def _take_page(page: Path, out: Path) -> None:
    """What a person sees of a page at first, in few colours, so that the file is small."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = launch(driver, next(filter(None, map(shutil.which, CHROMIUM_NAMES))))
        shown = browser.new_context(viewport=PAGE_SIZE, color_scheme="light").new_page()
        shown.goto(page.resolve().as_uri())
        shown.screenshot(path=str(out))
        browser.close()
    with Image.open(out) as picture:
        few = picture.convert("RGB").quantize(128)
    few.save(out, optimize=True)
    print(out)


def _for_the_pocket_model(checkpoint: str) -> dict[str, Any]:
    """The example with a concept, a prompt and sizes that the pocket model knows; without its notes and their groups."""
    workflow: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    workflow["nodes"] = [node for node in workflow["nodes"] if node["type"] != NOTE]
    workflow["groups"] = []
    for node in workflow["nodes"]:
        values = node["widgets_values"]
        if node["type"] == "CheckpointLoaderSimple":
            values[0] = checkpoint
        elif node["type"] == "RECE_EraseConcepts":
            values[0], values[2] = CONCEPT, ""
        elif node["type"] == "RECE_SaveEraser":
            values[0] = ""  # named after the concept
        elif node["type"] == "CLIPTextEncode" and values[0]:
            values[0] = PROMPT
        elif node["type"] == "EmptyLatentImage":
            values[:2] = [64, 64]
        elif node["type"] == "KSampler":
            values[3:5] = [2.0, "euler_ancestral"]
    _enlarge(workflow)
    return workflow


def _run(frontend: Frontend) -> float:
    """Queue the graph and wait for the pictures and the report to be there; how high it is then, in pixels."""
    page = frontend.page
    frontend.queue()
    page.wait_for_function(
        "() => app.graph.nodes.filter((node) => node.imgs?.length).length === 2"
        " && app.graph.nodes.find(({type}) => type === 'PreviewAny').widgets.some(({value}) => value)",
        timeout=300_000,
    )
    # The canvas draws what it has in its own time; the second frame after a change shows it.
    return float(page.evaluate(FIT, [LEFT, TOP, MARGIN, WIDTH, HEIGHT]))


def _enlarge(workflow: dict[str, Any]) -> None:
    """Put a scaling node before every saved picture: the pocket model's are too small to be seen in a graph."""
    links = {link[0]: link for link in workflow["links"]}
    for save in [node for node in workflow["nodes"] if node["type"] == "SaveImage"]:
        old = links[save["inputs"][0]["link"]]
        decode = next(node for node in workflow["nodes"] if node["id"] == old[1])
        number, link = workflow["last_node_id"] + 1, workflow["last_link_id"] + 1
        workflow |= {"last_node_id": number, "last_link_id": link}
        workflow["links"].append([link, number, 0, save["id"], 0, "IMAGE"])
        old[3:5] = [number, 0]
        save["inputs"][0]["link"] = link
        workflow["nodes"].append(
            {
                "id": number,
                "type": "ImageScale",
                "pos": [decode["pos"][0], decode["pos"][1] + 90],
                "size": [decode["size"][0], 130],
                "flags": {},
                "order": save["order"],
                "mode": 0,
                "inputs": [{"name": "image", "type": "IMAGE", "link": old[0]}],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [link]}],
                "properties": {},
                "widgets_values": ["nearest-exact", SHOWN_SIDE, SHOWN_SIDE, "disabled"],
            }
        )


if __name__ == "__main__":
    sys.exit(main())
