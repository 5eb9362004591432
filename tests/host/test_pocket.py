"""Erasure seen: a word of the pocket model's world is erased in the real server, and its pictures are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import Seen, classify, from_pictures
from pocket_model.trials import Concept, kept, made, trials
from pocket_model.world import Caption
from tools.client import Picture
from tools.graph import Graph, Link, Node
from tools.server import ComfyServer

CONCEPT = Concept("striped", "style")
TRIALS = trials(CONCEPT, 6, 6)
# As the pocket model is sampled everywhere.
SAMPLER = {"steps": 12, "cfg": 2.0, "sampler_name": "euler_ancestral"}
PROJECTION = {"method": "projection", "preset": "nudity"}

Judge = Callable[[Sequence[Picture]], list[Seen]]


def judge(pictures: Sequence[Picture]) -> list[Seen]:
    return classify(from_pictures(pictures))


def sample(graph: Graph, loaded: Node, model: Node | Link | None, captions: Sequence[Caption]) -> list[Node]:
    return [
        graph.sample(loaded, caption.text, model=model, seed=seed, **SAMPLER) for seed, caption in enumerate(captions)
    ]


def erase(graph: Graph, loaded: Node, **inputs: object) -> Node:
    return graph.node(
        "RECE_EraseConcepts",
        model=loaded.out(0),
        clip=loaded.out(1),
        concepts=f"{CONCEPT.name} -> {CONCEPT.target}",
        **{**PROJECTION, **inputs},
    )


@pytest.fixture(scope="module")
def pocket(server: ComfyServer, comfyui: Path) -> str:
    """The pocket model's name in the server."""
    return server.link_model(pocket_checkpoint())


@pytest.fixture(scope="module")
def branches(server: ComfyServer, pocket: str) -> dict[str, list[Picture]]:
    """Pictures of the concept's own prompts and of others, from one graph with an untouched and an erased branch."""
    graph = Graph()
    loaded = graph.load(pocket)
    erased = erase(graph, loaded)
    graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name="unstriped", if_exists="replace")
    graph.save_lora(loaded.out(0), erased.out(1), "unstriped")
    graph.node(
        "CheckpointSave", model=erased.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix="no_stripes"
    )
    nodes = {
        "untouched, own": sample(graph, loaded, None, TRIALS.own),
        "untouched, others": sample(graph, loaded, None, TRIALS.others),
        "erased, own": sample(graph, loaded, erased, TRIALS.own),
        "erased, others": sample(graph, loaded, erased, TRIALS.others),
    }
    result = server.run(graph.prompt, timeout=600)
    return {name: [result.images(node)[0] for node in chosen] for name, chosen in nodes.items()}


def pictures_of(server: ComfyServer, make: Callable[[Graph], tuple[Node, Node | None]]) -> list[Picture]:
    """The concept's own prompts from the loaded checkpoint and the model that `make` adds to a graph."""
    graph = Graph()
    loaded, model = make(graph)
    nodes = sample(graph, loaded, model, TRIALS.own)
    result = server.run(graph.prompt, timeout=600)
    return [result.images(node)[0] for node in nodes]


def distance(one: Sequence[Picture], other: Sequence[Picture]) -> float:
    return float(np.abs(np.stack(one).astype(float) - np.stack(other).astype(float)).mean())


def test_erasing_lowers_the_rate_and_keeps_the_rest(branches: dict[str, list[Picture]]) -> None:
    before, after = (made(CONCEPT, judge(branches[f"{which}, own"])) for which in ("untouched", "erased"))
    assert before.hits >= 5
    assert after.hits <= 1
    rest = kept(TRIALS.others, judge(branches["untouched, others"]))
    assert kept(TRIALS.others, judge(branches["erased, others"])).hits >= rest.hits - 1


def test_the_untouched_branch_is_bit_identical_to_a_graph_without_our_node(
    server: ComfyServer, pocket: str, branches: dict[str, list[Picture]]
) -> None:
    alone = pictures_of(server, lambda graph: (graph.load(pocket), None))
    assert all(map(np.array_equal, alone, branches["untouched, own"]))


def test_the_saved_checkpoint_and_the_lora_erase_as_the_node_does(
    server: ComfyServer, pocket: str, branches: dict[str, list[Picture]]
) -> None:
    (saved,) = (server.base / "output").glob("no_stripes_*.safetensors")
    erased = branches["erased, own"]

    def with_lora(graph: Graph) -> tuple[Node, Node]:
        loaded = graph.load(pocket)
        lora = graph.node(
            "LoraLoaderModelOnly", model=loaded.out(0), lora_name="unstriped.safetensors", strength_model=1.0
        )
        return loaded, lora

    reloaded = pictures_of(server, lambda graph: (graph.load(server.link_model(saved)), None))
    assert made(CONCEPT, judge(reloaded)).hits <= 1
    from_lora = pictures_of(server, with_lora)
    assert made(CONCEPT, judge(from_lora)).hits <= 1
    # The checkpoint is saved in float16, the LoRA in float32: both are the node's pictures except for rounding.
    assert distance(reloaded, erased) < distance(branches["untouched, own"], erased) / 20
    assert distance(from_lora, erased) < distance(branches["untouched, own"], erased) / 20


@pytest.mark.large
def test_strength_goes_from_the_original_to_the_erased_picture(
    server: ComfyServer, pocket: str, branches: dict[str, list[Picture]]
) -> None:
    def at(strength: float) -> list[Picture]:
        def make(graph: Graph) -> tuple[Node, Node]:
            loaded = graph.load(pocket)
            return loaded, erase(graph, loaded, strength=strength)

        return pictures_of(server, make)

    untouched, erased = branches["untouched, own"], branches["erased, own"]
    assert all(map(np.array_equal, at(0.0), untouched))
    half = made(CONCEPT, judge(at(0.5))).hits
    assert made(CONCEPT, judge(erased)).hits <= half <= made(CONCEPT, judge(untouched)).hits
