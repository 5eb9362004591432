"""Writes the templates in `example_workflows/`, each with its picture: made in the real frontend.

    python -m tools.templates [--out example_workflows]

Runs in the host's interpreter, with the requirements of the tests.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from tools.frontend import PACK, Frontend, Workflow, launch
from tools.host import CHROMIUM_NAMES, REPOSITORY, Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.readme_picture import FIT, SETTINGS
from tools.server import ComfyServer
from tools.template_graphs import TEMPLATES
from tools.template_graphs.parts import NOTE, SOURCES, Placed, Template

# So large that the canvas still writes what stands on the nodes.
WIDTH, HEIGHT, TOP, LEFT, MARGIN = 2900, 1900, 235, 60, 80
# A template's picture is shown about as wide.
PICTURE_WIDTH, QUALITY = 640, 80
# An eraser that a template names, so that its loader has something to tell of.
SHOWN_ERASER = REPOSITORY / "tests" / "golden" / "plain.safetensors"


def made(frontend: Frontend, template: Template) -> Workflow:
    """The template as the frontend saves it, and as it is open there then."""
    frontend.clear()
    ids = {
        name: frontend.add(one.kind, one.box[:2], **{key: value for key, value in one.values.items() if key})
        for name, one in template.nodes.items()
    }
    for source, output, target, name in template.links:
        frontend.connect(ids[source], output, ids[target], name)
    workflow = frontend.serialize()
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for name, one in template.nodes.items():
        _place(nodes[ids[name]], one)
    workflow["groups"] = [
        {"id": number, "title": title, "bounding": list(box), "color": colour, "font_size": 24, "flags": {}}
        for number, (title, colour, box) in enumerate(template.groups, start=1)
    ]
    # Opened once, so that what is written is what a frontend writes of what it read.
    frontend.load(workflow)
    saved = frontend.serialize()
    saved["extra"] = {}
    # The frontend draws a new one each time; a template stays the same workflow.
    saved["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-rece/{template.name}"))
    for node in saved["nodes"]:
        one = next(placed for name, placed in template.nodes.items() if ids[name] == node["id"])
        # The frontend fits nodes to what they show at first; the boxes leave room for the rest.
        node["size"] = list(one.box[2:])
    return saved


def _place(node: dict[str, Any], one: Placed) -> None:
    node["size"] = list(one.box[2:])
    if one.title:
        node["title"] = one.title
    node["mode"] = one.mode
    if one.kind == NOTE:
        node["widgets_values"] = [one.values[""]]
    sources = [SOURCES[value] for value in one.values.values() if value in SOURCES]
    if sources:
        # The frontend chooses among what is there.
        node["widgets_values"] = list(one.values.values())
        node["properties"]["models"] = sources


def _picture(frontend: Frontend, path: Path) -> None:
    """What the open template looks like, for the list of templates."""
    from PIL import Image

    frontend.page.evaluate(FIT, [LEFT, TOP, MARGIN, WIDTH, HEIGHT])
    clip: Any = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT, "height": HEIGHT - TOP}
    with Image.open(io.BytesIO(frontend.page.screenshot(clip=clip))) as shown:
        small = shown.convert("RGB").resize((PICTURE_WIDTH, PICTURE_WIDTH * shown.height // shown.width))
    small.save(path, quality=QUALITY, optimize=True)


def _put_files(folder: Path) -> None:
    """Empty files of the names that templates use: the lists have them, and no dialog says that they are missing."""
    for source in SOURCES.values():
        path = folder / source["directory"] / source["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for template in TEMPLATES:
        for one in template.nodes.values():
            if one.kind == "LoraLoader":
                (folder / "loras" / one.values["lora_name"]).touch()
            elif one.kind == "RECE_LoadEraser":
                shutil.copy(SHOWN_ERASER, folder / "erasers" / one.values["eraser_name"])


def main() -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description="Write the templates.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "example_workflows")
    out = parser.parse_args().out
    comfyui = prepare_comfyui()
    make_importable(comfyui)
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    with (
        tempfile.TemporaryDirectory(prefix="rece-templates-") as base,
        ComfyServer(Host(Path(sys.executable), comfyui), Path(base), pack_name=PACK) as server,
        sync_playwright() as driver,
    ):
        _put_files(Path(base) / "models")
        server.request("/settings", SETTINGS)
        browser = launch(driver, executable)
        frontend = Frontend(browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page(), nodes2=False)
        frontend.open(server.address)
        for template in TEMPLATES:
            workflow = made(frontend, template)
            text = json.dumps(workflow, ensure_ascii=False, indent=1)
            (out / f"{template.name}.json").write_text(f"{text}\n", encoding="utf-8", newline="\n")
            frontend.load(workflow)
            _picture(frontend, out / f"{template.name}.jpg")
            print(out / f"{template.name}.json")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
