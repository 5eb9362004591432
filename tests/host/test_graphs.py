"""What a person wires, run by the real server, and the pictures that come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rece_pack.rece_ops import EraserSet
from safetensors import safe_open

from tools.client import ExecutionInterrupted, Picture
from tools.graph import Graph, Link, Node
from tools.server import ComfyServer

PROMPT = "a nude woman"
# First edit only: the erasure at its plainest, which even random weights survive.
UCE = {"preset": "UCE only"}


@pytest.fixture(scope="module")
def load(server: ComfyServer, checkpoint: Callable[[str], Path]) -> Callable[[str], str]:
    """Makes a small checkpoint available to the server, and tells its name."""
    return lambda kind: server.link_model(checkpoint(kind))


def erase(graph: Graph, model: Node | Link, clip: Link, concepts: str = "nude\nVan Gogh -> art", **inputs: Any) -> Node:
    return graph.node("RECE_EraseConcepts", model=model, clip=clip, concepts=concepts, **{**UCE, **inputs})


def picture(server: ComfyServer, graph: Graph, node: Node) -> Picture:
    return server.run(graph.prompt).images(node)[0]


def difference(one: Picture, other: Picture) -> float:
    """In steps of 255, on average. Thresholds on it are no rounding bounds: below one step, nobody sees it."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.fixture(scope="module")
def untouched(server: ComfyServer, load: Callable[[str], str]) -> Callable[[str], Picture]:
    """The picture of a kind made without any node of ours in the graph."""

    def make(kind: str) -> Picture:
        graph = Graph()
        return picture(server, graph, graph.sample(graph.load(load(kind)), PROMPT))

    return make


@pytest.mark.parametrize(
    "kind", ["sd15", *(pytest.param(one, marks=pytest.mark.large) for one in ("sd2", "sdxl", "sdxl_refiner"))]
)
def test_the_erased_branch_changes_and_the_untouched_branch_is_bit_identical(
    server: ComfyServer, load: Callable[[str], str], untouched: Callable[[str], Picture], kind: str
) -> None:
    before = untouched(kind)
    server.free()  # or the untouched branch would only be this picture, remembered
    graph = Graph()
    loaded = graph.load(load(kind))
    erased = erase(graph, loaded.out(0), loaded.out(1))
    with_concept = graph.sample(loaded, PROMPT)
    without_concept = graph.sample(loaded, PROMPT, model=erased.out(0))
    result = server.run(graph.prompt)
    assert np.array_equal(result.images(with_concept)[0], before)
    assert difference(result.images(without_concept)[0], before) > 1.0
    assert [step.value for step in result.progress if step.node == erased.id][-1] > 0
    shown = "\n".join(result.outputs[erased.id]["text"])
    assert "nude" in shown
    assert "left" in shown


@pytest.mark.parametrize("kind", ["sd15_inpaint", "ip2p"])
def test_inpainting_and_instruct_models_are_erased(server: ComfyServer, load: Callable[[str], str], kind: str) -> None:
    """These need more than a prompt, so the ERASER and the report are looked at instead of a picture."""
    graph = Graph()
    loaded = graph.load(load(kind))
    erased = erase(graph, loaded.out(0), loaded.out(1))
    report = graph.node("PreviewAny", source=erased.out(2))
    text = server.run(graph.prompt).outputs[report.id]["text"][0]
    assert text.startswith("Erased 2 concepts from this SD1 model by UCE (first edit only): 8 key and value weights")


def test_strength_zero_is_the_original_and_strengths_lie_in_between(
    server: ComfyServer, load: Callable[[str], str], untouched: Callable[[str], Picture]
) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    samples = {
        strength: graph.sample(loaded, PROMPT, model=erase(graph, loaded.out(0), loaded.out(1), strength=strength))
        for strength in (0.0, 0.05, 1.0)
    }
    result = server.run(graph.prompt)
    pictures = {strength: result.images(node)[0] for strength, node in samples.items()}
    assert np.array_equal(pictures[0.0], untouched("sd15"))
    assert 0 < difference(pictures[0.05], pictures[0.0]) < difference(pictures[1.0], pictures[0.0])


def test_a_saved_eraser_loads_and_erases_as_the_node_did(server: ComfyServer, load: Callable[[str], str]) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded.out(0), loaded.out(1), preset="nudity", preserve="a dog")
    graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name="people/no nude", if_exists="replace")
    direct = picture(server, graph, graph.sample(loaded, PROMPT, model=erased.out(0)))
    file = server.base / "models" / "erasers" / "people" / "no nude.safetensors"
    assert file.stat().st_size < 8 * 2**20

    again = Graph()
    loaded = again.load(load("sd15"))
    eraser = again.node("RECE_LoadEraser", eraser_name="people/no nude.safetensors")
    applied = again.node("RECE_ApplyEraser", model=loaded.out(0), eraser=eraser.out(0), strength=1.0)
    description = again.node("PreviewAny", source=eraser.out(1))
    result = server.run(again.prompt)
    assert "nude → (empty prompt), Van Gogh → art, preserving a dog" in result.outputs[description.id]["text"][0]
    assert np.array_equal(picture(server, again, again.sample(loaded, PROMPT, model=applied)), direct)
    for told in ("Erased 2 concepts from this SD1", "Saved models/erasers/people/no nude", "Applied at strength 1"):
        assert f"RECE: {told}" in server.log

    provenance = EraserSet.load(file).metadata
    assert provenance["settings"]["epochs"] == 3
    assert provenance["architecture"] == "SD1"
    assert not any(str(folder) in json.dumps(provenance) for folder in (server.base, Path.home()))


def test_the_exported_lora_erases_as_the_node_does(server: ComfyServer, load: Callable[[str], str]) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded.out(0), loaded.out(1))
    graph.save_lora(loaded, erased.out(1), "no_nude")
    direct = picture(server, graph, graph.sample(loaded, PROMPT, model=erased.out(0)))
    with safe_open(server.base / "models" / "loras" / "no_nude.safetensors", "pt") as file:
        assert file.metadata()["ss_base_model_version"] == "sd_v1"

    again = Graph()
    loaded = again.load(load("sd15"))
    lora = again.node("LoraLoaderModelOnly", model=loaded.out(0), lora_name="no_nude.safetensors", strength_model=1.0)
    by_lora = picture(server, again, again.sample(loaded, PROMPT, model=lora))
    # The two sums round differently in the last bits, which moves a picture by less than a step of 255.
    assert difference(by_lora, direct) < 1.0


@pytest.mark.parametrize("kind", ["sd15", pytest.param("sdxl", marks=pytest.mark.large)])
def test_a_saved_checkpoint_gives_the_same_picture(server: ComfyServer, load: Callable[[str], str], kind: str) -> None:
    graph = Graph()
    loaded = graph.load(load(kind))
    erased = erase(graph, loaded.out(0), loaded.out(1))
    graph.node(
        "CheckpointSave", model=erased.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix=f"erased/{kind}"
    )
    direct = picture(server, graph, graph.sample(loaded, PROMPT, model=erased.out(0)))
    (file,) = (server.base / "output" / "erased").glob(f"{kind}_*.safetensors")
    name = server.link_model(file)
    again = Graph()
    reloaded = again.load(name)
    from_file = picture(server, again, again.sample(reloaded, PROMPT))
    file.unlink()
    # Small SD models run in float32 here, but are stored in float16: one rounding of the changed weights.
    assert difference(from_file, direct) < 1.0


def test_a_saved_diffusion_model_gives_the_same_picture(server: ComfyServer, load: Callable[[str], str]) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded.out(0), loaded.out(1))
    graph.node("ModelSave", model=erased.out(0), filename_prefix="erased/unet")
    direct = picture(server, graph, graph.sample(loaded, PROMPT, model=erased.out(0)))
    (file,) = (server.base / "output" / "erased").glob("unet_*.safetensors")
    again = Graph()
    loaded = again.load(load("sd15"))
    unet = again.node("UNETLoader", unet_name=server.link_model(file, "diffusion_models"), weight_dtype="default")
    from_file = picture(server, again, again.sample(loaded, PROMPT, model=unet))
    assert difference(from_file, direct) < 1.0


def test_combined_erasers_are_one_after_the_other(server: ComfyServer, load: Callable[[str], str]) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    first, second = (erase(graph, loaded.out(0), loaded.out(1), text) for text in ("nude", "Van Gogh -> art"))
    combined = graph.node(
        "RECE_CombineErasers", first=first.out(1), second=second.out(1), strength_first=1.0, strength_second=0.5
    )
    at_once = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=combined, strength=1.0)
    step = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=first.out(1), strength=1.0)
    in_turn = graph.node("RECE_ApplyEraser", model=step, eraser=second.out(1), strength=0.5)
    samples = [graph.sample(loaded, PROMPT, model=model) for model in (at_once, in_turn)]
    result = server.run(graph.prompt)
    assert difference(*(result.images(node)[0] for node in samples)) < 1.0
    assert "Combined, one after the other: UCE on SD1: nude" in result.outputs[combined.id]["text"][0]


def test_an_existing_file_is_kept_or_replaced_as_asked(server: ComfyServer, load: Callable[[str], str]) -> None:
    names = []
    for concepts, if_exists in (("nude", "keep both"), ("gun", "keep both"), ("knife", "replace")):
        graph = Graph()
        loaded = graph.load(load("sd15"))
        erased = erase(graph, loaded.out(0), loaded.out(1), concepts)
        saved = graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name="twice", if_exists=if_exists)
        name = graph.node("PreviewAny", source=saved.out(0))
        names.append(server.run(graph.prompt).outputs[name.id]["text"][0])
    assert names == ["twice.safetensors", "twice_2.safetensors", "twice.safetensors"]
    folder = server.base / "models" / "erasers"
    assert EraserSet.load(folder / "twice.safetensors").metadata["concepts"] == ["knife"]
    assert EraserSet.load(folder / "twice_2.safetensors").metadata["concepts"] == ["gun"]
    assert not list(folder.glob(".*"))


def test_cancel_stops_an_erasure_and_leaves_the_server_well(
    server: ComfyServer, load: Callable[[str], str], untouched: Callable[[str], Picture]
) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    concepts = "\n".join(f"concept number {i}" for i in range(400))
    erased = erase(graph, loaded.out(0), loaded.out(1), concepts)
    graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name="cancelled", if_exists="replace")

    def cancel(event: dict[str, Any]) -> None:
        if event["type"] == "progress":
            server.interrupt()

    with pytest.raises(ExecutionInterrupted):
        server.wait(server.submit(graph.prompt), on_event=cancel)
    assert not (server.base / "models" / "erasers" / "cancelled.safetensors").exists()
    assert untouched("sd15").std() > 0


def test_nothing_runs_twice_for_a_new_seed(server: ComfyServer, load: Callable[[str], str]) -> None:
    executed = []
    for seed in (11, 12):
        graph = Graph()
        loaded = graph.load(load("sd15"))
        erased = erase(graph, loaded.out(0), loaded.out(1), "a hat")
        graph.sample(loaded, PROMPT, model=erased.out(0), seed=seed)
        executed.append(erased.id in server.run(graph.prompt).executed)
    assert executed == [True, False]
