"""Receler: the job in this process on the pocket model, and the node in the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch
from pocket_in_fp8 import pocket_in_fp8
from rece_pack.nodes.host.architectures.table import FAMILIES
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs import train_receler as job
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.train import train_eraser
from rece_pack.nodes.host.jobs.train_receler import TrainedReceler, train_receler
from rece_pack.nodes.host.patching.adapters import OUTPUT_PATCH, Attention
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.training.adapters import ConceptMaps, TrainedPatch, attention_layers
from rece_pack.nodes.host.training.denoiser import Denoiser
from rece_pack.nodes.host.training.prompts import placed_phrases
from rece_pack.nodes.host.training.sampling import sampled_until
from rece_pack.nodes.reporting.receler import receler_curves, receler_report
from rece_pack.nodes.request.training_request import PictureSettings, TrainingRequest, training_request
from rece_pack.nodes.train_eraser import TrainEraser
from rece_pack.rece_ops import Adapters, Eraser, EraserFileError, EraserSet, InputError
from rece_pack.rece_ops.training.settings import AS_DESCRIBED, AS_PUBLISHED, HardenedSettings, RecelerSettings
from spoiled import spoil
from untouched import assert_untouched, state_of

from pocket_model.assemble import pocket_checkpoint
from tools.graph import Graph, Node
from tools.server import ComfyServer

SHOWN = PictureSettings(concept=1, other=1, size=64, steps=1, guidance=1.0)
PUBLISHED = RecelerSettings(
    False, steps=3, adapter_width=4, sampling_steps=2, learned_tokens=2, inner_steps=2, adapter_rate=0.01
)
DESCRIBED = replace(PUBLISHED, adversarial=True, steps=2)

Loaded = tuple[Any, Any]


@pytest.fixture(scope="module")
def loaded(comfyui: Path) -> Loaded:
    """MODEL and CLIP of the pocket model."""
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(pocket_checkpoint()))
    model.set_model_compute_dtype(torch.float32)
    return model, clip


@pytest.fixture(autouse=True)
def _output_folder(tmp_path: Path) -> Iterator[None]:
    """ComfyUI's output folder, one a test."""
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield
    folder_paths.set_output_directory(before)


def asked(
    settings: RecelerSettings = PUBLISHED, concepts: str = "red", contexts: str = "{}", preserve: str = ""
) -> TrainingRequest[RecelerSettings]:
    return training_request(concepts, contexts, preserve, settings, SHOWN)


def train(loaded: Loaded, request: TrainingRequest[RecelerSettings] | None = None, **inputs: Any) -> TrainedReceler:
    with torch.inference_mode():
        return train_receler(Session.open(*loaded), request or asked(), **inputs)


@pytest.fixture(scope="module")
def published(loaded: Loaded) -> TrainedReceler:
    return train(loaded)


@pytest.fixture(scope="module")
def described(loaded: Loaded) -> TrainedReceler:
    return train(loaded, asked(DESCRIBED))


def same(one: Adapters, other: Adapters) -> bool:
    return list(one.adapters) == list(other.adapters) and all(
        torch.equal(*pair)
        for layer in one.adapters
        for pair in zip(one.adapters[layer], other.adapters[layer], strict=True)
    )


def test_it_learns_and_leaves_the_model_alone(loaded: Loaded) -> None:
    before, options = state_of(loaded[0].model), dict(loaded[0].model_options["transformer_options"])
    found = train(loaded, asked(replace(PUBLISHED, steps=2)))
    assert_untouched(loaded[0].model, before)
    assert loaded[0].model_options["transformer_options"] == options == {}
    record = found.record
    assert record.steps == 2
    assert not record.stopped
    # Adapters that add nothing: the prediction is the model's own, to the bit.
    assert (record.erasing[0], record.attacking[0], record.localized[0]) == (record.unedited[0], 0.0, 0.0)
    assert record.attacking[1] > 0 < record.localized[1]
    (adapters,) = found.eraser.adapters.values()
    assert same(adapters, found.adapters)
    assert [(one.dimension, one.width) for one in adapters.adapters.values()] == [(320, 4)] * 4
    for adapter in adapters.adapters.values():
        assert all(torch.isfinite(tensor).all() and not tensor.is_inference() for tensor in adapter)
        assert adapter.up.any()


def test_the_learned_tokens_reach_the_model_only_as_described(
    published: TrainedReceler, described: TrainedReceler
) -> None:
    # The first picture is the same; with the learned tokens the model predicts something else of it, without adapters already.
    assert described.record.unedited[0] == published.record.unedited[0]
    assert described.record.attacking[0] > 0 == published.record.attacking[0]
    assert (published.eraser.provenance.method, described.eraser.provenance.method) == (AS_PUBLISHED, AS_DESCRIBED)
    assert published.eraser.provenance.concepts == ("red",)


@pytest.mark.large
def test_the_adversary_finds_the_concept_in_its_steps(loaded: Loaded) -> None:
    one, many = (
        train(loaded, asked(replace(DESCRIBED, steps=1, inner_steps=steps))).record.attacking[0] for steps in (1, 8)
    )
    assert many < one


def test_the_eraser_does_to_a_model_what_the_training_did(loaded: Loaded, published: TrainedReceler) -> None:
    model = loaded[0]
    patched = apply_eraser(Session.open(*loaded), published.eraser, 1.0)
    by_place = {Attention.named(layer): one for layer, one in published.adapters.adapters.items()}
    trained = TrainedPatch({place: one for place, one in by_place.items() if place is not None}, None)
    generator = torch.Generator().manual_seed(0)
    rows, clean = torch.randn(2, 77, 768, generator=generator), torch.randn(2, 4, 8, 8, generator=generator)
    with torch.inference_mode():
        denoiser, erased = (Denoiser(one, (2, 4, 8, 8), model.load_device) for one in (model, patched))
        noised = denoiser.noised(clean, generator)
        in_training = denoiser.denoised(noised, rows, {}, {OUTPUT_PATCH: trained})
        assert torch.equal(erased.denoised(noised, rows, {}), in_training)
        assert not torch.equal(denoiser.denoised(noised, rows, {}), in_training)
        # Where the maps are looked at, the prediction is what it is elsewhere.
        maps = ConceptMaps(attention_layers(model), slice(1, 3))
        assert torch.equal(denoiser.denoised(noised, rows, {}, maps.patches()), denoiser.denoised(noised, rows, {}))
        assert {tuple(share.shape) for share in maps.shares.values()} == {(2, 64)}
        assert len(maps.shares) == 4
        assert all(share.min() > 0 and share.max() < 1 for share in maps.shares.values())
        everything = ConceptMaps(attention_layers(model), slice(0, 77))
        denoiser.denoised(noised, rows, {}, everything.patches())
    for share in everything.shares.values():
        assert (share * 77 - 1).abs().max() < 1e-4


def test_it_comes_back_from_a_file(loaded: Loaded, published: TrainedReceler, tmp_path: Path) -> None:
    read = EraserSet.load(published.eraser.save(tmp_path / "eraser.safetensors"))
    assert list(read) == ["adapters"]
    assert same(read.adapters["adapters"], published.adapters)
    assert read.provenance == published.eraser.provenance
    assert read.provenance.settings is not None
    assert read.provenance.settings["adapter_width"] == 4


@pytest.mark.parametrize(
    "settings",
    [pytest.param(PUBLISHED, id="published", marks=pytest.mark.large), pytest.param(DESCRIBED, id="described")],
)
def test_a_training_that_is_cancelled_is_gone_on_with_as_if_it_had_not_been(
    loaded: Loaded, settings: RecelerSettings, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole = request.getfixturevalue("described" if settings.adversarial else "published")
    before, sound = state_of(loaded[0].model), job.error
    calls: list[int] = []

    def cancelling(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        # One call checks the MODEL, and each step has three at its end; as described, each update of the adversary has one too, and
        # this is the first of the second step's.
        calls.append(1)
        if len(calls) == (7 if settings.adversarial else 5):
            comfy.model_management.interrupt_current_processing()
        return sound(predicted, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "error", cancelling)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(loaded, asked(settings))
    assert_untouched(loaded[0].model, before)
    (state,) = (tmp_path / "rece_training").iterdir()
    assert state.name.startswith("no_red_step_")
    again = train(loaded, asked(settings), resume=state.name)
    assert again.record == whole.record
    assert same(again.adapters, whole.adapters)
    with pytest.raises(EraserFileError, match="another 'adapter_rate'"):
        train(loaded, asked(replace(settings, adapter_rate=1e-3)), resume=state.name)
    with pytest.raises(EraserFileError, match="another 'adversarial'"):
        train(loaded, asked(replace(settings, adversarial=not settings.adversarial)), resume=state.name)
    hardened = training_request("red -> yellow", "a {} circle", "", HardenedSettings(steps=1, batch=2), SHOWN)
    with torch.inference_mode(), pytest.raises(EraserFileError, match="another '"):
        train_eraser(Session.open(*loaded, None), hardened, "nothing", resume=state.name)


def test_a_loss_that_is_no_number_keeps_what_was_learned_before(
    loaded: Loaded, published: TrainedReceler, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(loaded[0].model)
    spoil(monkeypatch, job, "erasing_target", 3)
    found = train(loaded)
    assert "no finite number" in found.record.stopped
    assert found.record.erasing == published.record.erasing[:2]
    assert all(torch.isfinite(tensor).all() for one in found.adapters.adapters.values() for tensor in one)
    assert_untouched(loaded[0].model, before)
    assert "Warning: The training stopped after step 2" in receler_report(asked(), found)


@pytest.mark.large
def test_low_memory_learns_the_same(loaded: Loaded, published: TrainedReceler) -> None:
    found = train(loaded, asked(replace(PUBLISHED, low_memory=True)))
    assert found.record == published.record


@pytest.mark.large
def test_an_eraser_that_is_connected_counts_meanwhile_and_is_part_of_the_result(
    loaded: Loaded, published: TrainedReceler
) -> None:
    once = asked(replace(PUBLISHED, steps=1))
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(768, 2, generator=generator) / 768**0.5, torch.randn(2, 768, generator=generator) / 20
    text = EraserSet({"text": Eraser(left, right)}, {"architecture": "SD1", "method": "RECE"})
    more = train(loaded, once, eraser=text)
    assert list(more.eraser) == ["text", "adapters"]
    assert more.eraser.provenance.method == "combined"
    assert more.record.attacking[0] > 0
    again = train(loaded, once, eraser=published.eraser)
    joined = again.eraser.adapters["adapters"].adapters
    assert {one.width for one in joined.values()} == {8}
    assert again.record.attacking[0] > 0
    for layer, adapter in published.adapters.adapters.items():
        assert torch.equal(joined[layer].down[:4], adapter.down)
    # The hardened method goes on from adapters too, which count in its predictions.
    request = training_request(
        "red -> yellow", "a {} circle", "", HardenedSettings(steps=1, rank=1, batch=2, retained_batch=1), SHOWN
    )
    with torch.inference_mode():
        hardened = train_eraser(Session.open(*loaded, None), request, eraser=published.eraser)
    assert list(hardened.eraser) == ["adapters", "weights"]
    assert hardened.record.retaining[0] > 1e-6


def test_a_model_that_makes_nothing_of_the_concept_is_refused(loaded: Loaded) -> None:
    deaf = loaded[0].clone()
    keys = Session.open(*loaded).architecture.keys
    weights = loaded[0].model.state_dict()
    deaf.add_patches({key: (-weights[key].float(),) for key in keys})
    with pytest.raises(InputError, match="makes the same of 'red' as of the empty prompt"):
        train((deaf, loaded[1]))
    with pytest.raises(InputError, match="makes the same of 'a red star' as of 'a blue star'"):
        train((deaf, loaded[1]), asked(concepts="red -> blue", contexts="a {} star"))


def test_quantised_models_are_refused_and_take_adapters(loaded: Loaded, published: TrainedReceler) -> None:
    session = Session.open(*loaded)
    flux = next(family for family in FAMILIES if family.name == "Flux")
    other = replace(session, architecture=replace(session.architecture, family=flux))
    with pytest.raises(UnsupportedModelError, match="This MODEL is Flux"):
        train_receler(other, asked())
    model = pocket_in_fp8()
    with pytest.raises(UnsupportedModelError, match="quantised \\(float8_e4m3fn\\)"):
        train((model, loaded[1]))
    patched = apply_eraser(Session.open(model), published.eraser, 1.0)
    assert len(patched.model_options["transformer_options"]["patches"][OUTPUT_PATCH]) == 1


def test_the_concept_is_found_in_its_prompt(loaded: Loaded) -> None:
    session = Session.open(*loaded)
    contexts = "{}\na photo of a {} in the rain\nnon-{} things"
    phrases = placed_phrases(session, asked(concepts="red\nZorro Quill -> Mira", contexts=contexts))
    found = [(one.concept, one.anchor, one.number, one.first, one.end, one.behind) for one in phrases]
    tokens = len(loaded[1].tokenizer.clip_l.tokenizer("Zorro Quill")["input_ids"]) - 2
    assert found[:4] == [
        ("red", "", 0, 1, 2, 2),
        ("Zorro Quill", "Mira", 1, 1, 1 + tokens, 1 + tokens),
        ("a photo of a red in the rain", "a photo of a in the rain", 0, 5, 6, 9),
        ("a photo of a Zorro Quill in the rain", "a photo of a Mira in the rain", 1, 5, 5 + tokens, 8 + tokens),
    ]
    assert all(1 <= one.first < one.end <= one.behind for one in phrases)


def test_a_sampling_stops_at_its_noise_level(loaded: Loaded) -> None:
    model = loaded[0]
    levels: list[float] = []

    def predict(noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        levels.append(float(sigmas[0]))
        return torch.stack([torch.full((4, 8, 8), 3.0), torch.ones(4, 8, 8)]).to(noisy)

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        denoiser = Denoiser(model, (2, 4, 8, 8), model.load_device)
        table = denoiser.levels
        found = sampled_until(denoiser, predict, noise, 333, 10, 2.0)
        assert levels == [float(table[number]) for number in (901, 801, 701, 601, 501, 401)]
        # What it takes for the clean picture is 1 + 2·(3 − 1) in each step, so that it comes to 5 + σ·ε of one ε.
        start = denoiser.begun(noise, table[901])
        wanted = 5 + (start - 5) * (table[333] / table[901])
        # Six steps, each of a handful of roundings of the sizes of the start.
        assert (found - wanted).abs().max() <= 6 * 8 * torch.finfo(torch.float32).eps / 2 * start.abs().max()
        # At the noisiest levels there is nothing to sample.
        levels.clear()
        assert torch.equal(sampled_until(denoiser, predict, noise, 950, 10, 2.0), denoiser.begun(noise, table[950]))
        assert levels == []


def test_a_long_prompt_is_refused_by_its_name(loaded: Loaded) -> None:
    with pytest.raises(InputError, match="fills more than one window"):
        train(loaded, asked(contexts="{} " + "star " * 80))


@pytest.mark.large
def test_where_a_prompt_leaves_room_for_one_token_one_is_learned(loaded: Loaded) -> None:
    tight = train(loaded, asked(replace(DESCRIBED, steps=1), contexts="{} " + "star " * 74))
    assert tight.record.attacking[0] > 0


def test_the_report_says_what_to_think_of_it(published: TrainedReceler, described: TrainedReceler) -> None:
    told = receler_report(asked(preserve="a blue star"), published)
    assert told.startswith(
        "Trained 1 concept away in 3 steps by Receler (as published: without an adversary): adapters after 4 "
    )
    assert "Note: 'preserve' has no effect with Receler" in told
    assert "Adversary" not in told
    told = receler_report(asked(DESCRIBED), described)
    assert "(as described: learned tokens behind the prompt look for the concept)" in told
    assert "Adversary: its predictions are" in told
    assert "preserve" not in told
    assert receler_curves(described.record).shape[0] == 1


def test_connected_images_are_refused(loaded: Loaded) -> None:
    with pytest.raises(WrongConnectionError, match="'images' would not be looked at"):
        TrainEraser.execute(*loaded, None, "red", AS_PUBLISHED, 1, 0, images=torch.zeros(1, 64, 64, 3))


def shown(graph: Graph, loaded: Node, **inputs: Any) -> tuple[Node, Node]:
    """The node, and its report."""
    small = {"size": 64, "adapter_width": 2, "sampling_steps": 1, "learned_tokens": 1, "inner_steps": 1}
    node = graph.node(
        "RECE_TrainEraser",
        model=loaded.out(0),
        clip=loaded.out(1),
        vae=loaded.out(2),
        **{"concepts": "nude", "method": AS_DESCRIBED, "steps": 2, "seed": 0, "adapter_rate": 0.1, **small, **inputs},
    )
    return node, graph.node("PreviewAny", source=node.out(2))


@pytest.mark.parametrize(
    "kind",
    ["sd15", *(pytest.param(kind, marks=pytest.mark.large) for kind in ("sd15_inpaint", "sd2", "sdxl"))],
)
def test_the_node_trains_in_the_real_server(server: ComfyServer, checkpoint: Callable[[str], Path], kind: str) -> None:
    name = server.link_model(checkpoint(kind))
    graph = Graph()
    loaded = graph.load(name)
    node, report = shown(graph, loaded)
    graph.node("RECE_SaveEraser", eraser=node.out(1), file_name=f"receler_{kind}", if_exists="replace")
    curves = graph.node("PreviewImage", images=node.out(3))
    result = server.run(graph.prompt, timeout=600)
    (told,) = result.outputs[report.id]["text"]
    assert told.startswith("Trained 1 concept away in 2 steps by Receler (as described")
    assert "Adapters run inside the model" in told
    assert result.images(curves)[0].std() > 0
    if kind == "sd15_inpaint":
        return
    before, after = (graph.sample(loaded, "a nude woman", **more) for more in ({}, {"model": node}))
    result = server.run(graph.prompt, timeout=600)
    (untouched,), (erased,) = result.images(before), result.images(after)
    assert not np.array_equal(untouched, erased)
