"""A graph of every node of the pack that runs in a moment, to be spoiled in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from rece_pack.rece_ops import Eraser, EraserSet
from safetensors.torch import save_file

from tools.client import ExecutionError
from tools.graph import Graph, Node
from tools.server import ComfyServer

ERASER_NAME, TABLE_NAME, PROMPTS_NAME = "every_node.safetensors", "every_node.csv", "every_node.txt"
OTHERS_NAME, OTHERS_WEIGHT = (
    "another_tools.safetensors",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
)
DIMENSION = 768
Build = Callable[[Graph, Node], dict[str, Any]]


def prepare(server: ComfyServer) -> None:
    """Put the files that the graphs read where the server finds them."""
    left = 0.01 * torch.randn(DIMENSION, 2, generator=torch.Generator().manual_seed(0))
    metadata = {"method": "UCE", "architecture": "SD1", "concepts": ["nude"], "targets": [""]}
    EraserSet({"text": Eraser(left, left.T.contiguous())}, metadata).save(
        server.base / "models" / "erasers" / ERASER_NAME
    )
    save_file({OTHERS_WEIGHT: torch.randn(320, DIMENSION)}, server.base / "models" / "erasers" / OTHERS_NAME)
    (server.base / "input" / TABLE_NAME).write_text("with,without\na nude,a dress\n", encoding="utf-8")
    (server.base / "input" / PROMPTS_NAME).write_text("a church\na dog\n", encoding="utf-8")


def graph_of(class_type: str, checkpoint: str, wrong: Mapping[str, Any]) -> Graph:
    """A graph that shows the first output of a node, whose inputs are sound except for those in `wrong`."""
    graph = Graph()
    loaded = graph.load(checkpoint)
    node = graph.node(class_type, **{**BUILD[class_type](graph, loaded), **wrong})
    graph.node("PreviewAny", source=node)
    return graph


def run_sound(server: ComfyServer, class_type: str, checkpoint: str) -> None:
    """Run the node's sound graph; a detector whose package is not here says so, which is an answer too."""
    try:
        server.run(graph_of(class_type, checkpoint, {}).prompt)
    except ExecutionError as error:
        if "which is not installed: run" not in str(error):
            raise


def _erase(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {"model": loaded.out(0), "clip": loaded.out(1), "concepts": "nude", "preset": "UCE only"}


def _eraser(graph: Graph) -> Node:
    return graph.node("RECE_LoadEraser", eraser_name=ERASER_NAME)


def _derive(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        "model": loaded.out(0),
        "clip": loaded.out(1),
        "concept": "nude",
        "regularization": 0.1,
        "eraser": _eraser(graph),
    }


def _vector(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        "conditioning": graph.encode("a person", loaded.out(1)),
        "clip": loaded.out(1),
        "pairs": "a nude -> a dress",
        "scale": 1.0,
        "pairs_file": TABLE_NAME,
    }


def _invert(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        "model": loaded.out(0),
        "clip": loaded.out(1),
        "vae": loaded.out(2),
        "images": graph.node("EmptyImage", width=32, height=32, batch_size=1, color=255),
        "start": "a person",
        "tokens": 1,
        "steps": 1,
        "seed": 0,
    }


def _save(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {"eraser": _eraser(graph), "file_name": "every_node_saved", "if_exists": "replace"}


def _lora(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {**_save(graph, loaded), "model": loaded.out(0), "strength": 1.0, "max_rank": 1, "dtype": "float16"}


def _combine(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {"first": _eraser(graph), "second": _eraser(graph), "strength_first": 1.0, "strength_second": 1.0}


def _conditioning(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {"conditioning": graph.encode("a person", loaded.out(1)), "eraser": _eraser(graph), "strength": 1.0}


def _compare(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        **{name: loaded.out(index) for index, name in enumerate(("model", "clip", "vae"))},
        "erased_1": _eraser(graph),
        "prompts": "a hat",
        "negative": "",
        "seed": 0,
        "seeds": 1,
        "strengths": "1",
        "steps": 1,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "width": 64,
        "height": 64,
    }


def _train(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        **{name: loaded.out(index) for index, name in enumerate(("model", "clip", "vae"))},
        "concepts": "nude -> dressed",
        "method": "hardened",
        "steps": 1,
        "seed": 0,
        "contexts": "a {} woman",
        "start": "nothing",
        "pictures": 1,
        "retained_pictures": 1,
        "size": 64,
        "picture_steps": 1,
        "batch": 2,
        "retained_batch": 1,
        "rank": 1,
        "adversaries": 1,
    }


def _prune(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        "model": loaded.out(0),
        "clip": loaded.out(1),
        "concepts": "nude -> dressed",
        "share": 0.02,
        "seed": 0,
        "contexts": "a {} woman",
        "pictures": 1,
        "size": 64,
        "first_steps": 1,
        "picture_steps": 2,
    }


def _unlearn(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        **{name: loaded.out(index) for index, name in enumerate(("model", "clip", "vae"))},
        "concepts": "nude -> dressed",
        "method": "bounded",
        "steps": 1,
        "seed": 0,
        "contexts": "a {} woman",
        "pictures": 1,
        "retained_pictures": 1,
        "size": 64,
        "picture_steps": 1,
        "batch": 1,
        "retained_batch": 1,
    }


def _balance(graph: Graph, loaded: Node) -> dict[str, Any]:
    return {
        **{name: loaded.out(index) for index, name in enumerate(("model", "clip", "vae"))},
        "concept": "person -> man | woman",
        "detector": "NudeNet",
        "descriptions": "BELLY_EXPOSED\nFEET_EXPOSED",
        "pictures": 2,
        "rounds": 1,
        "steps": 1,
        "size": 32,
    }


BUILD: Mapping[str, Build] = {
    "RECE_EraseConcepts": _erase,
    "RECE_ApplyEraser": lambda graph, loaded: {"model": loaded.out(0), "eraser": _eraser(graph), "strength": 1.0},
    "RECE_ApplyEraserToConditioning": _conditioning,
    "RECE_CombineErasers": _combine,
    "RECE_SaveEraser": _save,
    "RECE_LoadEraser": lambda graph, loaded: {"eraser_name": ERASER_NAME},
    "RECE_ImportEraser": lambda graph, loaded: {"model": loaded.out(0), "file": f"erasers/{OTHERS_NAME}"},
    "RECE_SaveEraserAsLoRA": _lora,
    "RECE_DeriveEmbedding": _derive,
    "RECE_ConceptVector": _vector,
    "RECE_InvertConcept": _invert,
    "RECE_CompareErasure": _compare,
    "RECE_ErasureReport": lambda graph, loaded: {
        "model": loaded.out(0),
        "clip": loaded.out(1),
        "eraser": _eraser(graph),
        "concepts": "nude",
    },
    "RECE_DetectConcept": lambda graph, loaded: {
        "images": graph.node("EmptyImage", width=32, height=32, batch_size=1, color=255),
        "detector": "NudeNet",
        "concept": "",
        "others": "",
        "threshold": 0.6,
        "classifier": "none",
    },
    "RECE_EvaluateErasure": lambda graph, loaded: {
        "model": loaded.out(0),
        "erased": loaded.out(0),
        "clip": loaded.out(1),
        "vae": loaded.out(2),
        "prompt_set": PROMPTS_NAME,
        "detector": "NudeNet",
        "first": 1,
        "steps": 1,
        "size": 32,
    },
    "RECE_SuggestConcepts": lambda graph, loaded: {
        "model": loaded.out(0),
        "clip": loaded.out(1),
        "concepts": "nude",
        "eraser": _eraser(graph),
        "vocabulary": "none",
        "word_list": "none",
        "words": "naked\ndressed\nhat",
        "word_file": PROMPTS_NAME,
        "likeness": 0.7,
        "leak": 0.3,
        "most_erased": 2,
        "most_preserved": 2,
    },
    "RECE_LoadPromptSet": lambda graph, loaded: {"prompt_set": PROMPTS_NAME},
    "RECE_TrainEraser": _train,
    "RECE_PruneConcept": _prune,
    "RECE_UnlearnTextEncoder": _unlearn,
    "RECE_BalanceConcept": _balance,
    "RECE_ShapeEraser": lambda graph, loaded: {
        "eraser": _eraser(graph),
        "strength": 1.0,
        "start_percent": 0.5,
        "end_percent": 1.0,
        "keys": 0.0,
        "blocks": "output 3: 0.5",
    },
}
