"""Writes the templates about training in `example_workflows/`, each with its picture: made in the real frontend.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.frontend import PACK, Frontend, Workflow, launch
from tools.host import CHROMIUM_NAMES, REPOSITORY, Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.readme_picture import FIT, SETTINGS
from tools.server import ComfyServer

Link = tuple[str, int, str, str]
"""Node, output, node, input."""
Box = tuple[int, int, int, int]
"""Left, top, width and height, in the canvas's units."""

NOTE = "MarkdownNote"
MUTED = 2
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
SOURCE = {
    "name": CHECKPOINT,
    "url": f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}",
    "directory": "checkpoints",
}
# The frontend's own colours of groups.
BLUE, GREEN, PURPLE, ORANGE, RED = "#3f789e", "#8A8", "#a1309b", "#b58b2a", "#A88"
# So large that the canvas still writes what stands on the nodes.
WIDTH, HEIGHT, TOP, LEFT, MARGIN = 2900, 1900, 235, 60, 80
# A template's picture is shown about as wide.
PICTURE_WIDTH, QUALITY = 640, 80


@dataclass(frozen=True)
class Placed:
    """A node of a template.

    Attributes:
        kind: its type.
        box: where it stands.
        values: of its widgets; of a note its text under ''.
        title: that a person reads, where it is not the node's own.
        muted: whether it does not run until a person wants it.
    """

    kind: str
    box: Box
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    muted: bool = False


@dataclass(frozen=True)
class Template:
    """A workflow that ComfyUI lists among the templates.

    Attributes:
        name: that a person reads there; of the file.
        groups: title, colour and box of each.
        nodes: by names of our own.
        links: between them.
    """

    name: str
    groups: Sequence[tuple[str, str, Box]]
    nodes: Mapping[str, Placed]
    links: Sequence[Link]


def _note(number: int, left: int, top: int, height: int, text: str) -> Placed:
    return Placed(NOTE, (left, top, 400, height), {"": text}, f"{number}.")


def _checkpoint(left: int, top: int) -> Placed:
    return Placed("CheckpointLoaderSimple", (left, top, 400, 100), {"ckpt_name": CHECKPOINT})


CONCEPT = "Van Gogh -> art"
CONTEXTS = "a painting by {}\na portrait in the style of {}\na village, painted by {}\na vase with flowers by {}"
PRESERVE = "a painting by Claude Monet\na painting by Paul Gauguin\na photo of a village"
TEMPLATES = (
    Template(
        "Harden an erasure (SD 1.5)",
        (
            ("1. Model", BLUE, (0, 0, 440, 1010)),
            ("2. Erase in closed form", GREEN, (480, 0, 440, 1010)),
            ("3. Harden it", PURPLE, (960, 0, 440, 1460)),
            ("4. Save and apply", ORANGE, (1440, 0, 440, 1010)),
            ("5. Compare", RED, (1920, 0, 740, 1460)),
        ),
        {
            "note 1": _note(
                1,
                20,
                80,
                400,
                "Choose a **Stable Diffusion 1.5** checkpoint (2 and XL work too).\n\nThe erasure begins in closed form, which takes "
                "a second, and is then **trained** against contexts that learn to bring the concept back. The training takes "
                "minutes on a graphics card. It can be cancelled and resumed.",
            ),
            "loader": _checkpoint(20, 540),
            "note 2": _note(
                2,
                500,
                80,
                200,
                "`Van Gogh -> art` says what to draw instead. A **target** of the same kind costs other pictures least.",
            ),
            "erase": Placed(
                "RECE_EraseConcepts",
                (500, 340, 400, 560),
                {"concepts": CONCEPT, "method": "projection", "preserve": "Claude Monet\nPaul Gauguin"},
            ),
            "note 3": _note(
                3,
                980,
                80,
                260,
                "`contexts` are prompts in which people write the concept, `preserve` what should stay, above all what is **close to "
                "it**. More steps erase more and cost more.\n\nReceler is another method of this node.",
            ),
            "train": Placed(
                "RECE_TrainEraser",
                (980, 400, 400, 1000),
                {"concepts": CONCEPT, "contexts": CONTEXTS, "preserve": PRESERVE},
            ),
            "note 4": _note(
                4,
                1460,
                80,
                200,
                "The **eraser** holds the closed form and what was trained. It fits every fine-tune of SD 1.5: next time, *Load Eraser* and "
                "*Apply Eraser* are enough.",
            ),
            "save": Placed(
                "RECE_SaveEraser",
                (1460, 340, 400, 160),
                {"file_name": "hardened_van_gogh_sd15", "if_exists": "replace"},
            ),
            "apply": Placed("RECE_ApplyEraser", (1460, 600, 400, 220)),
            "note 5": Placed(
                NOTE,
                (1940, 80, 700, 150),
                {
                    "": "From left to right: the model, the closed form, the hardened erasure, always with the same noise. Look at the "
                    "**other** painters too. Whether an attacker gets through, these pictures do not say: try *Invert Concept*."
                },
                "5.",
            ),
            "compare": Placed(
                "RECE_CompareErasure",
                (1940, 290, 700, 560),
                {
                    "prompts": "a painting of a harbour by Van Gogh\na painting of a harbour by Claude Monet\na photo of a dog in a park",
                    "seed": 42,
                    "control_after_generate": "fixed",
                },
            ),
            "pictures": Placed("SaveImage", (1940, 1080, 330, 340), {"filename_prefix": "rece/hardened"}, "Pictures"),
            "report": Placed("PreviewAny", (2310, 1080, 330, 340), {}, "Report"),
        },
        (
            ("loader", 0, "erase", "model"),
            ("loader", 1, "erase", "clip"),
            ("loader", 0, "train", "model"),
            ("loader", 1, "train", "clip"),
            ("loader", 2, "train", "vae"),
            ("erase", 1, "train", "eraser"),
            ("train", 1, "save", "eraser"),
            ("train", 1, "apply", "eraser"),
            ("loader", 0, "apply", "model"),
            ("loader", 0, "compare", "model"),
            ("loader", 1, "compare", "clip"),
            ("loader", 2, "compare", "vae"),
            ("erase", 1, "compare", "erased_1"),
            ("apply", 0, "compare", "erased_2"),
            ("compare", 1, "pictures", "images"),
            ("train", 2, "report", "source"),
        ),
    ),
    Template(
        "Unlearn in the text encoder (SD 1.5)",
        (
            ("1. Model and prompts", BLUE, (0, 0, 440, 1300)),
            ("2. Unlearn", PURPLE, (480, 0, 440, 1300)),
            ("3. Before and after", GREEN, (960, 0, 1200, 1040)),
            ("4. Save the text encoder", ORANGE, (960, 1080, 1200, 340)),
        ),
        {
            "note 1": _note(
                1,
                20,
                80,
                260,
                "Choose a **Stable Diffusion 1.5** checkpoint. The model itself stays as it is: only the **text encoder** unlearns, "
                "so that every model with this CLIP can be used with it afterwards.",
            ),
            "loader": _checkpoint(20, 400),
            "latent": Placed("EmptyLatentImage", (20, 580, 400, 130), {"width": 512, "height": 512}),
            "note 2": _note(
                2,
                500,
                80,
                260,
                "A few pictures and a few steps (few-shot unlearning). *bounded* stops before it ruins everything; on this pack's "
                "small test model it erased **nothing, or everything**. Raise `learning_rate` and `steps` carefully.",
            ),
            "unlearn": Placed(
                "RECE_UnlearnTextEncoder",
                (500, 400, 400, 840),
                {"concepts": CONCEPT, "contexts": CONTEXTS, "preserve": PRESERVE},
            ),
            "note 3": Placed(
                NOTE,
                (980, 80, 1080, 110),
                {
                    "": "The same model, noise and prompt, read by the **old** text encoder above and by the **new** one below."
                },
                "3.",
            ),
            "positive": Placed(
                "CLIPTextEncode",
                (980, 250, 320, 130),
                {"text": "a painting of a harbour by Van Gogh"},
                "Prompt, as before",
            ),
            "negative": Placed("CLIPTextEncode", (980, 450, 320, 110), {"text": ""}, "Negative prompt, as before"),
            "new positive": Placed(
                "CLIPTextEncode",
                (980, 640, 320, 130),
                {"text": "a painting of a harbour by Van Gogh"},
                "Prompt, unlearned",
            ),
            "new negative": Placed("CLIPTextEncode", (980, 840, 320, 110), {"text": ""}, "Negative prompt, unlearned"),
            "sampler": Placed(
                "KSampler",
                (1330, 250, 300, 320),
                {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "sampler_name": "euler"},
                "Before: sampler",
            ),
            "new sampler": Placed(
                "KSampler",
                (1330, 640, 300, 320),
                {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "sampler_name": "euler"},
                "After: sampler",
            ),
            "decode": Placed("VAEDecode", (1660, 250, 225, 60)),
            "new decode": Placed("VAEDecode", (1660, 640, 225, 60)),
            "picture": Placed("SaveImage", (1920, 250, 220, 320), {"filename_prefix": "rece/before"}, "Before"),
            "new picture": Placed("SaveImage", (1920, 640, 220, 320), {"filename_prefix": "rece/after"}, "After"),
            "report": Placed("PreviewAny", (20, 800, 400, 440), {}, "Report"),
            "note 4": Placed(
                NOTE,
                (980, 1160, 500, 200),
                {
                    "": "*CLIPSave* is **muted**: choose it and press Ctrl+M when you like what you see. Load its file with *CLIPLoader* in "
                    "the place of the checkpoint's CLIP."
                },
                "4.",
            ),
            "save": Placed(
                "CLIPSave", (1540, 1160, 400, 120), {"filename_prefix": "clip/unlearned_van_gogh"}, muted=True
            ),
        },
        (
            ("loader", 1, "unlearn", "clip"),
            ("loader", 0, "unlearn", "model"),
            ("loader", 2, "unlearn", "vae"),
            ("loader", 1, "positive", "clip"),
            ("loader", 1, "negative", "clip"),
            ("unlearn", 0, "new positive", "clip"),
            ("unlearn", 0, "new negative", "clip"),
            ("loader", 0, "sampler", "model"),
            ("positive", 0, "sampler", "positive"),
            ("negative", 0, "sampler", "negative"),
            ("latent", 0, "sampler", "latent_image"),
            ("loader", 0, "new sampler", "model"),
            ("new positive", 0, "new sampler", "positive"),
            ("new negative", 0, "new sampler", "negative"),
            ("latent", 0, "new sampler", "latent_image"),
            ("sampler", 0, "decode", "samples"),
            ("loader", 2, "decode", "vae"),
            ("new sampler", 0, "new decode", "samples"),
            ("loader", 2, "new decode", "vae"),
            ("decode", 0, "picture", "images"),
            ("new decode", 0, "new picture", "images"),
            ("unlearn", 1, "report", "source"),
            ("unlearn", 0, "save", "clip"),
        ),
    ),
)


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
    for node in saved["nodes"]:
        one = next(placed for name, placed in template.nodes.items() if ids[name] == node["id"])
        # The frontend fits nodes to what they show at first; the boxes leave room for the rest.
        node["size"] = list(one.box[2:])
    return saved


def _place(node: dict[str, Any], one: Placed) -> None:
    node["size"] = list(one.box[2:])
    if one.title:
        node["title"] = one.title
    if one.muted:
        node["mode"] = MUTED
    if one.kind == NOTE:
        node["widgets_values"] = [one.values[""]]
    if one.kind == "CheckpointLoaderSimple":
        node["widgets_values"] = [CHECKPOINT]
        node["properties"]["models"] = [SOURCE]


def _picture(frontend: Frontend, path: Path) -> None:
    """What the open template looks like, for the list of templates."""
    from PIL import Image

    frontend.page.evaluate(FIT, [LEFT, TOP, MARGIN, WIDTH, HEIGHT])
    clip: Any = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT, "height": HEIGHT - TOP}
    with Image.open(io.BytesIO(frontend.page.screenshot(clip=clip))) as shown:
        small = shown.convert("RGB").resize((PICTURE_WIDTH, PICTURE_WIDTH * shown.height // shown.width))
    small.save(path, quality=QUALITY, optimize=True)


def main() -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description="Write the templates about training.")
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
        # An empty file of the usual name: the list of checkpoints has it, and no dialog says that it is missing.
        (Path(base) / "models" / "checkpoints").mkdir(parents=True, exist_ok=True)
        (Path(base) / "models" / "checkpoints" / CHECKPOINT).touch()
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
