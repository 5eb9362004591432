"""The graphs of the soak: every node of the pack, wired as people wire it, at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.graph import Graph, Node

CONCEPTS = (
    "nude",
    "Van Gogh -> art",
    "a gun",
    "church -> temple : 0.8",
    "a red hat",
    "凡·高 -> 艺术",
    "embedding:none -> x",
)
NAMES = tuple(f"people/soak {number}" for number in range(6))
PROMPT = "a nude woman"
ERASED = "RECE_EraseConcepts"


@dataclass
class SoakGraph:
    """A graph to run.

    Attributes:
        kind: what it does, for the counts.
        prompt: for the API.
        saves: the file that it writes under a name of its own choice, relative to `models`; empty for none.
        concepts: that the saved file is to name.
        saved: the node that tells the name of the saved file; empty for none.
        refused: whether it is to end in a sentence.
    """

    kind: str
    prompt: Graph = field(default_factory=Graph)
    saves: str = ""
    concepts: tuple[str, ...] = ()
    saved: str = ""
    refused: bool = False


def control(checkpoint: str) -> tuple[Graph, Node, Node]:
    """A picture that no node of ours has a part in: the graph, the sampler and the node that shows it."""
    graph = Graph()
    shown = graph.sample(graph.load(checkpoint), PROMPT, seed=7)
    sampler = next(Node(key) for key, node in graph.prompt.items() if node["class_type"] == "KSampler")
    return graph, sampler, shown


def of_the_host(checkpoint: str, chance: random.Random) -> Graph:
    """A picture of the host's nodes alone, another one each time."""
    graph = Graph()
    graph.sample(graph.load(checkpoint), f"{PROMPT} {chance.randrange(100)}", seed=chance.randrange(10**6))
    return graph


def random_graph(checkpoint: str, chance: random.Random) -> SoakGraph:
    """One of the kinds below."""
    kind = chance.choice(list(KINDS))
    found = SoakGraph(kind)
    KINDS[kind](found, checkpoint, chance)
    return found


def first_save(checkpoint: str, name: str) -> SoakGraph:
    """A small erasure, saved under `name`, so that there is something to load."""
    found = SoakGraph("first save")
    _save(found, checkpoint, name, "replace", ("nude",))
    return found


def _erased(graph: Graph, loaded: Node, chance: random.Random, concepts: tuple[str, ...] = ()) -> Node:
    chosen = concepts or tuple(chance.sample(CONCEPTS[:6], chance.randint(1, 4)))
    method = chance.choice(("RECE", "UCE", "projection"))
    # Random weights survive a few epochs, but a large preset would be a different model.
    return graph.node(
        ERASED,
        model=loaded.out(0),
        clip=loaded.out(1),
        concepts="\n".join(chosen),
        preset=chance.choice(("nudity", "artistic style", "easy object")),
        preserve=chance.choice(("", "a dog\na house")),
        strength=chance.choice((0.0, 0.5, 1.0)),
        method=method,
        templates=chance.choice(("none", "artist")),
    )


def _erase_and_sample(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    loaded = found.prompt.load(checkpoint)
    found.prompt.sample(loaded, PROMPT, model=_erased(found.prompt, loaded, chance), seed=chance.randrange(10**6))


def _save(found: SoakGraph, checkpoint: str, name: str, if_exists: str, concepts: tuple[str, ...]) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    erased = graph.node(
        ERASED, model=loaded.out(0), clip=loaded.out(1), concepts="\n".join(concepts), preset="UCE only"
    )
    saved = graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name=name, if_exists=if_exists)
    found.saved = graph.node("PreviewAny", source=saved.out(0)).id
    found.concepts = tuple(line.partition(" ->")[0] for line in concepts)
    found.saves = f"erasers/{name}.safetensors" if if_exists == "replace" else ""


def _replace(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    _save(found, checkpoint, chance.choice(NAMES), "replace", tuple(chance.sample(CONCEPTS[:3], 2)))


def _keep_both(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    _save(found, checkpoint, chance.choice(NAMES), "keep both", tuple(chance.sample(CONCEPTS[:3], 2)))


def _load(graph: Graph, chance: random.Random) -> Node:
    return graph.node("RECE_LoadEraser", eraser_name=f"{chance.choice(NAMES)}.safetensors")


def _load_and_apply(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    applied = graph.node(
        "RECE_ApplyEraser", model=loaded.out(0), eraser=_load(graph, chance), strength=chance.choice((0.5, 1.0))
    )
    graph.sample(loaded, PROMPT, model=applied, seed=chance.randrange(10**6))


def _combine_on_conditioning(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    combined = graph.node(
        "RECE_CombineErasers",
        first=_load(graph, chance),
        second=_load(graph, chance),
        strength_first=1.0,
        strength_second=chance.choice((0.5, 1.0)),
    )
    erased = graph.node(
        "RECE_ApplyEraserToConditioning",
        conditioning=graph.encode(PROMPT, loaded.out(1)),
        eraser=combined,
        strength=1.0,
    )
    graph.sample(loaded, erased, seed=chance.randrange(10**6))


def _save_lora(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    name = f"soak lora {chance.randrange(3)}"
    graph.save_lora(loaded, _load(graph, chance), name, chance.choice(("float32", "float16")))
    found.saves = f"loras/{name}.safetensors"


def _derive(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    erased = _erased(graph, loaded, chance, ("nude",))
    graph.prompt[erased.id]["inputs"]["strength"] = 1.0
    derived = graph.node(
        "RECE_DeriveEmbedding",
        model=erased,
        clip=loaded.out(1),
        concept="nude",
        regularization=chance.choice((0.1, 1.0)),
    )
    graph.sample(loaded, derived, model=erased, seed=chance.randrange(10**6))


def _vector(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    attacked = graph.node(
        "RECE_ConceptVector",
        conditioning=graph.encode("a person", loaded.out(1)),
        clip=loaded.out(1),
        pairs="a nude woman -> a woman\na naked man -> a man",
        scale=chance.choice((1.0, 3.0)),
    )
    graph.sample(loaded, attacked, model=_erased(graph, loaded, chance), seed=chance.randrange(10**6))


def _invert(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    pictures = graph.node("EmptyImage", width=64, height=64, batch_size=1, color=chance.randrange(1 << 24))
    inverted = graph.node(
        "RECE_InvertConcept",
        model=_erased(graph, loaded, chance),
        clip=loaded.out(1),
        vae=loaded.out(2),
        images=pictures,
        start="a person",
        tokens=chance.randint(1, 4),
        steps=chance.randint(2, 6),
        seed=chance.randrange(10**6),
    )
    graph.sample(loaded, inverted, seed=chance.randrange(10**6))


def _report(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    reported = graph.node(
        "RECE_ErasureReport",
        model=loaded.out(0),
        clip=loaded.out(1),
        eraser=_load(graph, chance),
        concepts=chance.choice(("", "naked\nnudity")),
    )
    graph.node("PreviewImage", images=reported)
    graph.node("PreviewAny", source=reported.out(2))


def _malformed(found: SoakGraph, checkpoint: str, chance: random.Random) -> None:
    graph = found.prompt
    loaded = graph.load(checkpoint)
    inputs = {"model": loaded.out(0), "clip": loaded.out(1), "concepts": "nude", "preset": "UCE only"}
    wrong = chance.choice(
        (
            {"concepts": "\ud800"},
            {"concepts": "x" * 10**5},
            {"concepts": "a :" + " " * 10**6 + ":x"},
            {"preset": "\udfff"},
            {"clip": 5},
            {"model": loaded.out(0), "clip": "text"},
            {"strength": float("nan")},
        )
    )
    graph.node("PreviewAny", source=graph.node(ERASED, **{**inputs, **wrong}).out(2))
    found.refused = True


KINDS: dict[str, Callable[[SoakGraph, str, random.Random], None]] = {
    "erase, sample": _erase_and_sample,
    "erase, save in place of a file": _replace,
    "erase, save beside a file": _keep_both,
    "load, apply, sample": _load_and_apply,
    "combine, apply to a prompt, sample": _combine_on_conditioning,
    "load, save as a LoRA": _save_lora,
    "erase, derive, sample": _derive,
    "concept vector, erase, sample": _vector,
    "erase, invert, sample": _invert,
    "load, report": _report,
    "malformed": _malformed,
}
