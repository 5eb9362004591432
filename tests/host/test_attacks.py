"""Methods, attacks and the report, wired as a person would and run by the real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rece_pack.rece_ops import Eraser, EraserSet

from tools.client import ExecutionError, Picture, Result
from tools.graph import Graph, Node
from tools.server import ComfyServer

PROMPT = "a nude woman"
PAIRS = "a nude woman -> a woman in a dress\na naked man -> a man in a suit # another"

Load = Callable[[str], str]


@pytest.fixture(scope="module")
def load(server: ComfyServer, checkpoint: Callable[[str], Path]) -> Load:
    return lambda kind: server.link_model(checkpoint(kind))


def erase(graph: Graph, loaded: Node, **inputs: Any) -> Node:
    values = {"concepts": "nude", "preset": "nudity", **inputs}
    return graph.node("RECE_EraseConcepts", model=loaded.out(0), clip=loaded.out(1), **values)


def derive(graph: Graph, loaded: Node, model: Any, **inputs: Any) -> Node:
    return graph.node("RECE_DeriveEmbedding", model=model, clip=loaded.out(1), concept=PROMPT, **inputs)


def shown(graph: Graph, source: Any) -> Node:
    return graph.node("PreviewAny", source=source)


def text(result: Result, node: Node) -> str:
    (found,) = result.outputs[node.id]["text"]
    return str(found)


def failure(server: ComfyServer, graph: Graph) -> str:
    with pytest.raises(ExecutionError) as caught:
        server.run(graph.prompt)
    return caught.value.message


def difference(one: Picture, other: Picture) -> float:
    """In steps of 255, on average. Thresholds on it are no rounding bounds: below one step, nobody sees it."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize(
    ("inputs", "headline"),
    [
        ({"method": "UCE"}, "by UCE (first edit only)"),
        ({"method": "RECE"}, "by RECE with 3 epochs:"),
        ({"iteration": "anchored"}, "by RECE with 3 epochs, anchored:"),
        pytest.param({"method": "projection"}, "direction", marks=pytest.mark.large),
        pytest.param(
            {"method": "projection", "directions": 2, "robustness": "strict"},
            "along 2 directions (β 300)",
            marks=pytest.mark.large,
        ),
        pytest.param({"method": "projection", "robustness": "custom", "beta": 0.5}, "(β 0.5)", marks=pytest.mark.large),
        ({"method": "UCE", "preservation": "exactly", "preserve": "a dog"}, "by UCE"),
        ({"regeneration_limit": 0.999}, "by UCE (first edit only)"),
    ],
)
def test_every_method_erases(server: ComfyServer, load: Load, inputs: dict[str, Any], headline: str) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded, **inputs)
    before, after = graph.sample(loaded, PROMPT), graph.sample(loaded, PROMPT, model=erased.out(0))
    report = shown(graph, erased.out(2))
    result = server.run(graph.prompt)
    assert headline in text(result, report)
    assert difference(result.images(before)[0], result.images(after)[0]) > 1.0


def test_what_is_preserved_exactly_gives_the_same_picture(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded, method="UCE", preservation="exactly", preserve="a dog")
    samples = [graph.sample(loaded, text, model=model) for text in ("a dog", PROMPT) for model in (None, erased.out(0))]
    result = server.run(graph.prompt)
    dog, erased_dog, nude, erased_nude = (result.images(sample)[0] for sample in samples)
    # A thousandth of an output is what exact preservation leaves; a picture in 8 bits hardly shows it.
    assert difference(dog, erased_dog) < 0.5
    assert difference(nude, erased_nude) > 1.0


def test_the_limits_are_kept_and_told(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    report = shown(graph, erase(graph, loaded, drift_limit=0.02).out(2))
    told = text(server.run(graph.prompt), report)
    assert "The erase scale was lowered from 1 to" in told or "Stopped after" in told
    drifts = [line for line in told.splitlines() if "(not preserved)" in line]
    assert drifts
    assert all(float(line.rsplit(":", 1)[1].strip(" %")) <= 2.0 for line in drifts)


def test_three_ways_to_derive_agree_and_bring_the_concept_back(server: ComfyServer, load: Load) -> None:
    """From the patched MODEL, from the ERASER, and from a saved checkpoint with its original."""
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded, preset="UCE only", concepts=PROMPT)
    graph.node("CheckpointSave", model=erased.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix="attacked")
    derived = [derive(graph, loaded, erased.out(0)), derive(graph, loaded, loaded.out(0), eraser=erased.out(1))]
    samples = [
        graph.sample(loaded, PROMPT),
        graph.sample(loaded, PROMPT, model=erased.out(0)),
        *(graph.sample(loaded, node, model=erased.out(0)) for node in derived),
    ]
    reports = [shown(graph, node.out(1)) for node in derived]
    result = server.run(graph.prompt)
    original, without, *attacked = (result.images(sample)[0] for sample in samples)
    assert text(result, reports[0]) == text(result, reports[1])
    assert f"'{PROMPT}': the derived embedding brings back" in text(result, reports[0])
    assert difference(attacked[0], attacked[1]) < 0.5
    assert difference(attacked[0], original) < difference(without, original)

    (saved,) = (server.base / "output").glob("attacked_*.safetensors")
    again = Graph()
    original_model, reloaded = again.load(load("sd15")), again.load(server.link_model(saved))
    from_file = derive(again, reloaded, reloaded.out(0), original=original_model.out(0))
    pictured = again.sample(reloaded, from_file)
    found = server.run(again.prompt).images(pictured)[0]
    # The checkpoint rounds its weights to float16.
    assert difference(found, attacked[0]) < difference(found, without) / 4


@pytest.mark.parametrize("kind", ["sd15", pytest.param("sdxl", marks=pytest.mark.large)])
def test_a_concept_vector_moves_a_prompt_and_its_scale_counts(server: ComfyServer, load: Load, kind: str) -> None:
    graph = Graph()
    loaded = graph.load(load(kind))
    prompt = graph.encode("a woman", loaded.out(1))
    vectors = [
        graph.node("RECE_ConceptVector", conditioning=prompt, clip=loaded.out(1), pairs=PAIRS, scale=scale)
        for scale in (0.0, 0.2, 3.0)
    ]
    samples = [graph.sample(loaded, node) for node in (prompt, *vectors)]
    report = shown(graph, vectors[2].out(1))
    result = server.run(graph.prompt)
    plain, none, some, much = (result.images(sample)[0] for sample in samples)
    assert np.array_equal(plain, none)
    assert 0 < difference(some, plain) < difference(much, plain)
    assert text(result, report).startswith("The concept's vector, from 2 pairs of prompts, is ")


def test_pairs_are_read_from_a_file_in_the_input_folder(server: ComfyServer, load: Load) -> None:
    table = server.base / "input" / "pairs.csv"
    table.write_text('with,without\n"a nude woman, standing",a woman\na nude man,a man\n', encoding="utf-8")
    graph = Graph()
    loaded = graph.load(load("sd15"))
    prompt = graph.encode("a woman", loaded.out(1))
    vector = graph.node(
        "RECE_ConceptVector",
        conditioning=prompt,
        clip=loaded.out(1),
        pairs=PAIRS,
        scale=1.0,
        pairs_file="pairs.csv",
    )
    report = shown(graph, vector.out(1))
    assert "from 4 pairs" in text(server.run(graph.prompt), report)
    table.write_text("with,without\na nude woman,a woman,a dress\n", encoding="utf-8")
    assert "Row 2 of 'pairs.csv' has 3 columns" in failure(server, graph)


def inverting(graph: Graph, loaded: Node, model: Any, size: int = 64, **inputs: Any) -> Node:
    images = graph.node("EmptyImage", width=size, height=size, batch_size=2, color=0xC04020)
    values = {"start": "", "tokens": 2, "steps": 8, "seed": 1, "learning_rate": 0.2, **inputs}
    return graph.node("RECE_InvertConcept", model=model, clip=loaded.out(1), vae=loaded.out(2), images=images, **values)


@pytest.mark.parametrize("kind", ["sd15", pytest.param("sdxl", marks=pytest.mark.large)])
def test_inversion_learns_in_the_real_server_and_leaves_the_model_alone(
    server: ComfyServer, load: Load, kind: str
) -> None:
    graph = Graph()
    loaded = graph.load(load(kind))
    erased = erase(graph, loaded, preset="UCE only")
    before = graph.sample(loaded, PROMPT, model=erased.out(0))
    first = server.run(graph.prompt).images(before)[0]
    inverted = inverting(graph, loaded, erased.out(0))
    report, after = shown(graph, inverted.out(1)), graph.sample(loaded, inverted, model=erased.out(0))
    again = graph.sample(loaded, PROMPT, model=erased.out(0), seed=0, steps=2)
    result = server.run(graph.prompt)
    assert text(result, report).startswith(
        "Learned 2 token embeddings in 8 steps: the error of the predicted noise went"
    )
    # ComfyUI 0.33 leaves out some of the messages that follow each other closely.
    told = [(step.value, step.max) for step in result.progress if step.node == inverted.id]
    assert len(told) > 1
    value, most = told[-1]
    assert value == most
    assert difference(result.images(after)[0], first) > 1.0
    assert np.array_equal(result.images(again)[0], first)


@pytest.mark.large
def test_low_memory_learns_the_same_and_another_seed_does_not(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    reports = [
        shown(graph, inverting(graph, loaded, loaded.out(0), **inputs).out(1))
        for inputs in ({}, {"low_memory": True}, {"seed": 2})
    ]
    result = server.run(graph.prompt)
    plain, low, other = (text(result, report) for report in reports)
    assert plain == low != other


def test_what_was_found_can_be_erased_too(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    found = inverting(graph, loaded, loaded.out(0))
    erased = erase(graph, loaded, embedding=found, preset="UCE only")
    samples = [graph.sample(loaded, found, model=model) for model in (None, erased.out(0))]
    report = shown(graph, erased.out(2))
    result = server.run(graph.prompt)
    assert "  embedding 1: residual" in text(result, report)
    assert difference(*(result.images(sample)[0] for sample in samples)) > 1.0


def test_the_report_says_what_it_found(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    eraser = erase(graph, loaded, concepts="nude\nVan Gogh -> art", preset="UCE only").out(1)
    made = graph.node("RECE_ErasureReport", model=loaded.out(0), clip=loaded.out(1), eraser=eraser)
    other = graph.node(
        "RECE_ErasureReport",
        model=loaded.out(0),
        clip=loaded.out(1),
        eraser=eraser,
        concepts="a tree",
        preserve="a dog",
    )
    figure = graph.node("PreviewImage", images=made.out(0))
    outputs = [shown(graph, made.out(1)), shown(graph, made.out(2)), shown(graph, other.out(1))]
    result = server.run(graph.prompt)
    report, numbers, unknown = (text(result, node) for node in outputs)
    assert "UCE on SD1: nude → (empty prompt), Van Gogh → art." in report
    found = json.loads(numbers)
    assert [concept["name"] for concept in found["concepts"]] == ["nude", "Van Gogh"]
    assert found["concepts"][0]["residual"] < 0.1
    # Shares of their sum, each rounded twice, as many as there are.
    shares = found["spectrum"]["text"]
    assert sum(shares) == pytest.approx(1, rel=2 * (len(shares) + 2) * 2**-53)
    assert unknown.startswith("a tree: still there, ")
    assert "On 'Erase Concepts': Add 'a tree' to 'concepts'." in unknown.splitlines()[0]
    assert "  a dog: " in unknown
    picture = result.images(figure)[0]
    assert picture.shape[:2] == (800, 1200)
    assert picture.std() > 5


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"method": "projection", "preset": "UCE only"}, "the preset 'UCE only' asks for another"),
        (
            {"method": "projection", "drift_limit": 0.1},
            "'drift_limit' is 0.1, but the method 'projection' does not use it",
        ),
        ({"method": "RECE", "directions": 3}, "'directions' is 3, but the method 'RECE' does not use it"),
        ({"drift_limit": 1e-9}, "Even the weakest edit"),
    ],
)
def test_settings_that_contradict_each_other(
    server: ComfyServer, load: Load, inputs: dict[str, Any], message: str
) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    shown(graph, erase(graph, loaded, **inputs).out(2))
    assert message in failure(server, graph)


def test_nothing_to_derive_from_is_refused(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    shown(graph, derive(graph, loaded, loaded.out(0)).out(1))
    assert "MODEL has no erasure in its patch chain" in failure(server, graph)

    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded)
    shown(graph, derive(graph, loaded, loaded.out(0), eraser=erased.out(1), original=loaded.out(0)).out(1))
    assert "Both 'eraser' and 'original' are connected" in failure(server, graph)


@pytest.mark.large
def test_an_eraser_of_another_base_is_refused(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded, other = graph.load(load("sd15")), graph.load(load("sd2"))
    shown(graph, derive(graph, loaded, loaded.out(0), eraser=erase(graph, other).out(1)).out(1))
    assert "use an eraser that was made on the same base" in failure(server, graph)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (60, "The images are 60×60 pixels: give sides"),
        (24, "The images are 24×24 pixels: give sides of at least 32"),
    ],
)
def test_images_of_a_wrong_size(server: ComfyServer, load: Load, size: int, message: str) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    shown(graph, inverting(graph, loaded, loaded.out(0), size=size).out(1))
    assert message in failure(server, graph)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("", "There is no pair of prompts"),
        ("a nude woman", "Line 1 ('a nude woman') is no pair of prompts"),
        ("a -> b -> c", "is no pair of prompts"),
    ],
)
def test_pairs_that_are_none(server: ComfyServer, load: Load, pairs: str, message: str) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    prompt = graph.encode("a woman", loaded.out(1))
    vector = graph.node("RECE_ConceptVector", conditioning=prompt, clip=loaded.out(1), pairs=pairs, scale=3.0)
    shown(graph, vector.out(1))
    assert message in failure(server, graph)


def report_on(graph: Graph, loaded: Node, eraser: Any, **inputs: Any) -> Node:
    return graph.node("RECE_ErasureReport", model=loaded.out(0), clip=loaded.out(1), eraser=eraser, **inputs)


@pytest.mark.large
def test_a_combined_eraser_is_asked_for_all_its_concepts(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    first, second = (erase(graph, loaded, concepts=concept, method="UCE").out(1) for concept in ("nude -> art", "hat"))
    both = graph.node("RECE_CombineErasers", first=first, second=second, strength_first=1.0, strength_second=1.0)
    half = graph.node("RECE_CombineErasers", first=first, second=second, strength_first=1.0, strength_second=0.0)
    reports = [shown(graph, report_on(graph, loaded, eraser).out(2)) for eraser in (both, half)]
    result = server.run(graph.prompt)
    found = [[one["name"] for one in json.loads(text(result, report))["concepts"]] for report in reports]
    assert found == [["nude", "hat"], ["nude"]]


@pytest.mark.large
def test_the_report_says_the_same_of_a_concept_that_is_typed_and_of_one_that_is_not(
    server: ComfyServer, load: Load
) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    eraser = erase(graph, loaded, concepts="circle -> star", preset="UCE only").out(1)
    reports = [report_on(graph, loaded, eraser, concepts=concepts) for concepts in ("", "Circle", "ring")]
    outputs = [shown(graph, report.out(index)) for report in reports for index in (1, 2)]
    result = server.run(graph.prompt)
    named, typed, other = (text(result, node) for node in outputs[::2])
    residuals = [json.loads(text(result, node))["concepts"][0]["residual"] for node in outputs[1::2]]
    assert residuals[0] == residuals[1] < 0.5
    assert named.splitlines()[0].replace("circle", "Circle") == typed.splitlines()[0]
    assert "Circle → star" in typed
    assert "ring → star" in other


def test_the_two_nodes_alone_are_a_graph_and_show_their_panels_again_from_the_cache(
    server: ComfyServer, load: Load
) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = erase(graph, loaded, concepts="a kite")
    report = report_on(graph, loaded, erased.out(1))
    first, again = server.run(graph.prompt), server.run(graph.prompt)
    assert {erased.id, report.id} <= set(first.executed)
    assert {erased.id, report.id} <= set(again.cached)
    for node in (erased, report):
        assert again.outputs[node.id] == first.outputs[node.id]
        (verdict,) = first.outputs[node.id]["rece_verdict"]
        assert verdict["headline"].startswith("a kite: ")
        assert verdict["tone"] in ("good", "caution", "bad")


def test_an_erased_model_is_said_to_be_erased_already_and_by_what(server: ComfyServer, load: Load) -> None:
    graph = Graph()
    loaded = graph.load(load("sd15"))
    before = erase(graph, loaded, concepts="a boat -> a tree", preset="UCE only")
    again = graph.node(
        "RECE_EraseConcepts", model=before.out(0), clip=loaded.out(1), concepts="a boat -> a tree", preset="UCE only"
    )
    result = server.run(graph.prompt)
    summary = text(result, again)
    assert "already erased from (UCE on SD1: a boat → a tree)" in summary
    assert "a boat: already erased in the model that came in" in summary
    assert "are still there" not in summary
    (verdict,) = result.outputs[again.id]["rece_verdict"]
    assert verdict["headline"].startswith("a boat: already erased in the model that came in")
    assert "already erased" not in text(result, before)


def test_an_eraser_that_names_no_concepts_needs_some_to_be_typed(server: ComfyServer, load: Load) -> None:
    name = "nameless.safetensors"
    eraser = EraserSet({"text": Eraser.identity(768)}, {"architecture": "SD1"})
    eraser.save(server.base / "models" / "erasers" / name)
    graph = Graph()
    loaded = graph.load(load("sd15"))
    report_on(graph, loaded, graph.node("RECE_LoadEraser", eraser_name=name))
    assert "The ERASER does not say what it erases" in failure(server, graph)
