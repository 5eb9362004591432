"""Models other than Stable Diffusion, loaded by ComfyUI's own nodes and run by the real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.client import Picture, Result
from tools.graph import Graph, Link, Node
from tools.server import ComfyServer

PROMPT = "a circle on a table"
# First edit only: the erasure at its plainest, which even random weights survive.
ERASE = {"concepts": "circle", "preset": "UCE only"}


@dataclass(frozen=True)
class Loaded:
    """What the loaders of an architecture give, in a graph."""

    graph: Graph
    model: Node
    clip: Node | Link
    vae: Node | Link
    latent: Node
    cfg: float
    guidance: bool = False

    def sample(self, model: Node | Link | None = None, prompt: str = PROMPT) -> Node:
        """Everything from prompt to picture."""
        positive = self.graph.encode(prompt, self.clip)
        if self.guidance:
            positive = self.graph.node("FluxGuidance", conditioning=positive, guidance=3.5)
        parts = {"model": model, "clip": self.clip, "vae": self.vae, "latent": self.latent}
        return self.graph.sample(self.model, positive, cfg=self.cfg, **parts)


Files = Callable[[str, str], str]


@pytest.fixture(scope="module")
def files(server: ComfyServer, checkpoint: Callable[[str], Path]) -> Files:
    """Makes a small file available to the server in one of its folders, and tells its name."""
    return lambda kind, folder: server.link_model(checkpoint(kind), folder)


def sd3(files: Files) -> Loaded:
    """One file, with the first of the three text encoders: SD3 does without T5."""
    graph = Graph()
    loaded = graph.load(files("sd3", "checkpoints"))
    return Loaded(graph, loaded, loaded.out(1), loaded.out(2), still(graph), 5.0)


def flux(files: Files) -> Loaded:
    graph = Graph()
    model = graph.node("UNETLoader", unet_name=files("flux", "diffusion_models"), weight_dtype="default")
    vae = graph.node("VAELoader", vae_name=files("vae16", "vae"))
    clip_l, t5xxl = (files(kind, "text_encoders") for kind in ("clip_l", "t5xxl"))
    clip = graph.node("DualCLIPLoader", clip_name1=clip_l, clip_name2=t5xxl, type="flux")
    return Loaded(graph, model, clip, vae, still(graph), 1.0, guidance=True)


def wan(files: Files) -> Loaded:
    graph = Graph()
    model = graph.node("UNETLoader", unet_name=files("wan", "diffusion_models"), weight_dtype="default")
    clip = graph.node("CLIPLoader", clip_name=files("umt5xxl", "text_encoders"), type="wan")
    vae = graph.node("VAELoader", vae_name=files("wan_vae", "vae"))
    video = graph.node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
    return Loaded(graph, model, clip, vae, video, 5.0)


def still(graph: Graph) -> Node:
    return graph.node("EmptySD3LatentImage", width=64, height=64, batch_size=1)


LOADERS: dict[str, Callable[[Files], Loaded]] = {"sd3": sd3, "flux": flux, "wan": wan}
# Architecture, and how many frames a sample has.
EXPECTED = {"sd3": ("SD3", 1), "flux": ("Flux", 1), "wan": ("Wan", 5)}


@dataclass(frozen=True)
class Erased:
    """A run that erased: its frames without and with the erasure, of one prompt and seed, and what the node said."""

    kind: str
    untouched: Picture
    unpatched: Picture
    erased: Picture
    unrelated: Picture
    report: str
    summary: str


def frames(result: Result, node: Node) -> Picture:
    return np.stack(result.images(node))


def difference(one: Picture, other: Picture) -> float:
    """In steps of 255, on average. Thresholds on it are no rounding bounds: below one step, nobody sees it."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.fixture(scope="module", params=LOADERS)
def erased(request: pytest.FixtureRequest, server: ComfyServer, files: Files) -> Erased:
    """Every architecture, erased from once for all tests; the eraser and the erased model are saved."""
    kind: str = request.param
    plain = LOADERS[kind](files)
    alone = plain.sample()
    untouched = frames(server.run(plain.graph.prompt), alone)
    server.free()  # or the unpatched branch would only be this picture, remembered

    loaded = LOADERS[kind](files)
    graph = loaded.graph
    node = graph.node("RECE_EraseConcepts", model=loaded.model, clip=loaded.clip, **ERASE)
    graph.node("RECE_SaveEraser", eraser=node.out(1), file_name=kind, if_exists="replace")
    report = graph.node("PreviewAny", source=node.out(2))
    without, with_erasure = loaded.sample(), loaded.sample(node.out(0))
    unrelated = loaded.sample(prompt="two dogs")
    save(loaded, node.out(0), kind)
    result = server.run(graph.prompt)
    pictures = (frames(result, one) for one in (without, with_erasure, unrelated))
    said = (result.outputs[one.id]["text"] for one in (report, node))
    return Erased(kind, untouched, *pictures, *map("\n".join, said))


def save(loaded: Loaded, model: Link, kind: str) -> None:
    """By ComfyUI's own node, where the model is small enough to be written for a test."""
    parts: dict[str, Any] = {"model": model, "filename_prefix": f"transformers/{kind}"}
    if kind == "sd3":
        loaded.graph.node("CheckpointSave", clip=loaded.clip, vae=loaded.vae, **parts)
    if kind == "wan":
        loaded.graph.node("ModelSave", **parts)


def test_the_erased_branch_changes_and_the_untouched_branch_is_bit_identical(erased: Erased) -> None:
    name, count = EXPECTED[erased.kind]
    assert len(erased.untouched) == count
    assert erased.untouched.std() > 10
    assert np.array_equal(erased.unpatched, erased.untouched)
    assert difference(erased.unrelated, erased.untouched) > 1.0
    assert difference(erased.erased, erased.untouched) > 1.0
    read = (
        "1 key and value weights"
        if name == "Wan"
        else "2 key and value weights in the token embeddings and the pooled embedding"
    )
    assert erased.report.startswith(f"Erased 1 concept from this {name} model by UCE (first edit only): {read}")
    assert "circle" in erased.summary


def test_a_saved_eraser_erases_as_the_node_did_and_at_strength_zero_nothing(
    server: ComfyServer, files: Files, erased: Erased
) -> None:
    loaded = LOADERS[erased.kind](files)
    eraser = loaded.graph.node("RECE_LoadEraser", eraser_name=f"{erased.kind}.safetensors")
    samples = {
        strength: loaded.sample(
            loaded.graph.node("RECE_ApplyEraser", model=loaded.model, eraser=eraser.out(0), strength=strength)
        )
        for strength in (0.0, 1.0)
    }
    result = server.run(loaded.graph.prompt)
    assert np.array_equal(frames(result, samples[0.0]), erased.untouched)
    assert np.array_equal(frames(result, samples[1.0]), erased.erased)


@pytest.mark.parametrize("erased", ["sd3", "wan"], indirect=True)
def test_what_the_stock_nodes_save_gives_the_same_picture(server: ComfyServer, files: Files, erased: Erased) -> None:
    (file,) = (server.base / "output" / "transformers").glob(f"{erased.kind}_*.safetensors")
    loaded = LOADERS[erased.kind](files)
    if erased.kind == "sd3":
        model = loaded.graph.load(server.link_model(file))
    else:
        name = server.link_model(file, "diffusion_models")
        model = loaded.graph.node("UNETLoader", unet_name=name, weight_dtype="default")
    sampled = loaded.sample(model)
    from_file = frames(server.run(loaded.graph.prompt), sampled)
    file.unlink()
    # Stored in float16, run in float32 here: one rounding of the changed weights.
    assert difference(from_file, erased.erased) < 1.0
    assert difference(from_file, erased.untouched) > 1.0
