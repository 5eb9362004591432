"""What templates are made of: nodes in their places, coloured groups with numbered notes, and the groups that many have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Output = tuple[str, int]
"""Node, output."""
Link = tuple[str, int, str, str]
"""Node, output, node, input."""
Box = tuple[int, int, int, int]
"""Left, top, width and height, in the canvas's units."""

NOTE = "MarkdownNote"
MUTED, BYPASSED = 2, 4
# The frontend's own colours of groups.
BLUE, GREEN, PURPLE, ORANGE, RED = "#3f789e", "#8A8", "#a1309b", "#b58b2a", "#A88"
WIDTH, GAP, EDGE, TOP = 400, 40, 20, 80
"""Of a node, between groups, between a group and its nodes, and from its upper edge to its first node."""
COLUMN = WIDTH + 2 * EDGE
STEP = COLUMN + GAP
HEIGHT, HIGH = 1010, 1460
"""Of groups."""
LOOK_WIDTH = 740
NOTHING: Mapping[str, Any] = MappingProxyType({})

_HUB = "https://huggingface.co"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
_FILES = {
    "checkpoints": (
        f"{_HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}",
        f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    ),
    "diffusion_models": (
        f"{_HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
        f"{_HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files/diffusion_models/z_image_turbo_bf16.safetensors",
        f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/diffusion_models/qwen_image_fp8_e4m3fn.safetensors",
        f"{_HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/diffusion_models/"
        "wan2.1_t2v_1.3B_fp16.safetensors",
    ),
    "text_encoders": (
        f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
        f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp8_e4m3fn.safetensors",
        f"{_HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files/text_encoders/qwen_3_4b.safetensors",
        f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
        f"{_HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders/"
        "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    ),
    "vae": (
        f"{_HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files/vae/ae.safetensors",
        f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/vae/qwen_image_vae.safetensors",
        f"{_HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/wan_2.1_vae.safetensors",
    ),
}
SOURCES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        url.rpartition("/")[2]: {"name": url.rpartition("/")[2], "url": url, "directory": folder}
        for folder, urls in _FILES.items()
        for url in urls
    }
)
"""Where a file that a template names is to be had, as workflows tell it; by the file's name."""


@dataclass(frozen=True)
class Placed:
    """A node of a template.

    Attributes:
        kind: its type.
        box: where it stands.
        values: of its widgets; of a note its text under ''.
        title: that a person reads, where it is not the node's own.
        mode: 0, or MUTED or BYPASSED until a person wants it to run.
    """

    kind: str
    box: Box
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    mode: int = 0


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


@dataclass(frozen=True)
class Piece:
    """A group of a template with its nodes and the links that lead to them."""

    title: str
    colour: str
    box: Box
    nodes: Mapping[str, Placed]
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Loaded:
    """The nodes that load a model, one below the other, and what they give."""

    nodes: Mapping[str, Placed]
    model: Output
    clip: Output
    vae: Output


def assembled(name: str, *pieces: Piece) -> Template:
    """The template of these groups, numbered in their order."""
    groups = tuple((f"{number}. {one.title}", one.colour, one.box) for number, one in enumerate(pieces, start=1))
    nodes = {key: placed for one in pieces for key, placed in one.nodes.items()}
    return Template(name, groups, nodes, tuple(link for one in pieces for link in one.links))


def note(number: int, left: int, top: int, height: int, text: str, width: int = WIDTH) -> Placed:
    """A numbered note."""
    return Placed(NOTE, (left, top, width, height), {"": text}, f"{number}.")


def column(
    number: int,
    title: str,
    colour: str,
    left: int,
    text: str,
    height: int,
    nodes: Mapping[str, Placed],
    links: Sequence[Link],
    high: int = HEIGHT,
) -> Piece:
    """A group as wide as a node: a numbered note of that height, and the nodes below it."""
    first = {f"note {number}": note(number, left + EDGE, TOP, height, text)}
    return Piece(title, colour, (left, 0, COLUMN, high), {**first, **nodes}, links)


def checkpoint(left: int, top: int, name: str = CHECKPOINT) -> Placed:
    """A checkpoint's loader."""
    return Placed("CheckpointLoaderSimple", (left, top, WIDTH, 100), {"ckpt_name": name})


def loaded_checkpoint(name: str = CHECKPOINT, top: int = 400) -> Loaded:
    """A model that is one file."""
    return Loaded({"loader": checkpoint(EDGE, top, name)}, ("loader", 0), ("loader", 1), ("loader", 2))


def loaded_files(network: str, encoders: Sequence[str], kind: str, vae: str, top: int = 400) -> Loaded:
    """A model in several files; `kind` is what ComfyUI's loader of text encoders calls it."""
    names = {"clip_name": encoders[0]} if len(encoders) == 1 else {"clip_name1": encoders[0], "clip_name2": encoders[1]}
    nodes = {
        "network": Placed("UNETLoader", (EDGE, top, WIDTH, 90), {"unet_name": network, "weight_dtype": "default"}),
        "encoder": Placed(
            "CLIPLoader" if len(encoders) == 1 else "DualCLIPLoader",
            (EDGE, top + 150, WIDTH, 110 if len(encoders) == 1 else 140),
            {**names, "type": kind, "device": "default"},
        ),
        "vae": Placed("VAELoader", (EDGE, top + 350, WIDTH, 70), {"vae_name": vae}),
    }
    return Loaded(nodes, ("network", 0), ("encoder", 0), ("vae", 0))


def model_piece(
    loaded: Loaded,
    text: str,
    height: int = 260,
    more: Mapping[str, Placed] = NOTHING,
    links: Sequence[Link] = (),
) -> Piece:
    """The first group: what to choose, the loaders, and `more` with its links."""
    return column(1, "Model", BLUE, 0, text, height, {**loaded.nodes, **more}, links)


def erase_piece(
    loaded: Loaded,
    values: Mapping[str, Any],
    text: str,
    height: int = 240,
    model: Output | None = None,
    clip: Output | None = None,
) -> Piece:
    """The second group: what to erase, from what was loaded or from another `model` and `clip`."""
    erase = Placed("RECE_EraseConcepts", (STEP + EDGE, TOP + height + 60, WIDTH, 600), values)
    links = ((*(model or loaded.model), "erase", "model"), (*(clip or loaded.clip), "erase", "clip"))
    return column(2, "Erase", GREEN, STEP, text, height, {"erase": erase}, links)


def look_piece(
    number: int,
    left: int,
    loaded: Loaded,
    erased: Sequence[Output],
    report: Output,
    values: Mapping[str, Any],
    text: str,
    model: Output | None = None,
) -> Piece:
    """A group that compares pictures, with the same noise, and shows the report."""
    inner, middle = left + EDGE, left + EDGE + 370
    nodes = {
        f"note {number}": note(number, inner, TOP, 150, text, LOOK_WIDTH - 2 * EDGE),
        "compare": Placed(
            "RECE_CompareErasure",
            (inner, 290, LOOK_WIDTH - 2 * EDGE, 560),
            {"seed": 42, "control_after_generate": "fixed", **values},
        ),
        "pictures": Placed("SaveImage", (inner, 1080, 330, 340), {"filename_prefix": "rece/compared"}, "Pictures"),
        "report": Placed("PreviewAny", (middle, 1080, 330, 340), {}, "Report"),
    }
    links = [
        (*(model or loaded.model), "compare", "model"),
        (*loaded.clip, "compare", "clip"),
        (*loaded.vae, "compare", "vae"),
        *((*one, "compare", f"erased_{place}") for place, one in enumerate(erased, start=1)),
        ("compare", 1, "pictures", "images"),
        (*report, "report", "source"),
    ]
    return Piece("Look", RED, (left, 0, LOOK_WIDTH, HIGH), nodes, links)


def save_piece(
    number: int,
    left: int,
    text: str,
    file_name: str,
    height: int = 240,
    more: Mapping[str, Placed] = NOTHING,
    links: Sequence[Link] = (),
) -> Piece:
    """A group that saves the eraser, and `more` with its links."""
    save = saved_eraser(left + EDGE, TOP + height + 60, file_name)
    links = (("erase", 1, "save", "eraser"), *links)
    return column(number, "Save", ORANGE, left, text, height, {"save": save, **more}, links)


@dataclass(frozen=True)
class Sampled:
    """A row of pictures: how it is called, its model and its prompt."""

    title: str
    model: Output
    positive: Output


def sampled_piece(
    number: int,
    left: int,
    title: str,
    rows: Sequence[Sampled],
    shared: Mapping[str, Output],
    settings: Mapping[str, Any],
    saver: tuple[str, Mapping[str, Any]],
    text: str,
) -> Piece:
    """A group with a sampler, a decoder and a saved picture for each row.

    Args:
        shared: the 'negative' prompt, the 'latent' and the 'vae'.
        settings: of the samplers.
        saver: the node that saves, and its values besides the name of its files.
    """
    inner, kind = left + EDGE, saver[0]
    nodes: dict[str, Placed] = {f"note {number}": note(number, inner, TOP, 120, text, 960)}
    links: list[Link] = []
    for place, row in enumerate(rows):
        top, sampler, decode, name = 270 + 390 * place, f"{row.title} sampler", f"{row.title} decode", row.title
        fixed = {"seed": 42, "control_after_generate": "fixed", **settings}
        nodes[sampler] = Placed("KSampler", (inner, top, 320, 320), fixed, f"{row.title}: sampler")
        nodes[decode] = Placed("VAEDecode", (inner + 350, top, 230, 60))
        files = {"filename_prefix": f"rece/{row.title.lower().replace(' ', '_')}", **saver[1]}
        nodes[name] = Placed(kind, (inner + 610, top, 350, 330), files, row.title)
        links += [
            (*row.model, sampler, "model"),
            (*row.positive, sampler, "positive"),
            (*shared["negative"], sampler, "negative"),
            (*shared["latent"], sampler, "latent_image"),
            (sampler, 0, decode, "samples"),
            (*shared["vae"], decode, "vae"),
            (decode, 0, name, "images"),
        ]
    return Piece(title, RED, (left, 0, 1000, 270 + 390 * len(rows)), nodes, links)


def prompt(left: int, top: int, text: str, title: str, height: int = 130, width: int = WIDTH) -> Placed:
    """A prompt's encoder."""
    return Placed("CLIPTextEncode", (left, top, width, height), {"text": text}, title)


def empty_latent(top: int, height: int = 120) -> Placed:
    """Of Stable Diffusion's own size, below the loaders."""
    return Placed("EmptyLatentImage", (EDGE, top, WIDTH, height), {"width": 512, "height": 512})


def saved_eraser(left: int, top: int, file_name: str, height: int = 200) -> Placed:
    """What saves an eraser, in the place of the file of the run before."""
    values = {"file_name": file_name, "if_exists": "replace"}
    return Placed("RECE_SaveEraser", (left, top, WIDTH, height), values)
