"""Few-shot unlearning in the text encoder: the job in this process on the pocket model, and the node in the real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from pocket_in_fp8 import pocket_in_fp8
from rece_pack.nodes.host.architectures.table import FAMILIES
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs import unlearn as job
from rece_pack.nodes.host.jobs.unlearn import Unlearned, unlearn_in_text_encoder
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.training.text import TrainedText, drop_unread_attention, unlearned_keys
from rece_pack.nodes.reporting.unlearning import unlearning_report
from rece_pack.nodes.request.training_request import PictureSettings, TrainingRequest, training_request
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.training.settings import UnlearningSettings
from spoiled import spoil
from untouched import assert_untouched, state_of

from pocket_model.assemble import pocket_checkpoint
from tools.graph import Graph, Node
from tools.server import ComfyServer

FEW = PictureSettings(concept=1, other=1, size=64, steps=1, guidance=1.0)
TWO_STEPS = UnlearningSettings(steps=2, batch=1, retained_batch=1, learning_rate=1e-4)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def session(comfyui: Path) -> Session:
    """Of the pocket model."""
    model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(pocket_checkpoint()))
    model.set_model_compute_dtype(torch.float32)
    return Session.open(model, clip, vae)


def asked(
    settings: UnlearningSettings = TWO_STEPS, concepts: str = "red -> yellow", **pictures: Any
) -> TrainingRequest[UnlearningSettings]:
    return training_request(concepts, "a {} circle", "a blue star", settings, replace(FEW, **pictures))


def unlearn(session: Session, request: TrainingRequest[UnlearningSettings] | None = None, **inputs: Any) -> Unlearned:
    with torch.inference_mode():
        return unlearn_in_text_encoder(session, request or asked(), **inputs)


@pytest.fixture(autouse=True)
def _unpatched() -> None:
    """A clone's patches stay in the shared weights until another model is loaded."""
    comfy.model_management.unload_all_models()


@pytest.fixture(autouse=True)
def _last_layers_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests do not need all layers, which take their time."""
    if "all_layers" not in request.node.name:
        monkeypatch.setattr(job, "unlearned_keys", last_layers)


def last_layers(clip: Any) -> list[str]:
    return [key for key in unlearned_keys(clip) if ".layers.10." in key or ".layers.11." in key]


@pytest.fixture
def unlearned(session: Session) -> Unlearned:
    return unlearn(session)


def states(session: Session) -> list[dict[str, torch.Tensor]]:
    return [state_of(network) for network in (session.model.model, session.clip.cond_stage_model)]


def assert_all_untouched(session: Session, before: list[dict[str, torch.Tensor]]) -> None:
    for network, known in zip((session.model.model, session.clip.cond_stage_model), before, strict=True):
        assert_untouched(network, known)
    assert not session.clip.patcher.patches


def encoded(clip: Any, prompt: str) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0].clone()
    return found


def test_the_error_rises_with_all_layers_and_all_that_came_in_stays(session: Session) -> None:
    before = states(session)
    plain = encoded(session.clip, "a red circle")
    found = unlearn(session, asked(replace(TWO_STEPS, method="as published")))
    assert_all_untouched(session, before)
    record = found.record
    assert len(record.concept) == 2
    assert not record.stopped
    assert not record.retaining
    # Before the first update it is the unedited CLIP's, in half of float32's digits at least.
    assert abs(record.concept[0] - record.unedited[0]) < torch.finfo(torch.float32).eps ** 0.5 * record.unedited[0]
    assert record.concept[-1] > record.unedited[-1] + abs(record.concept[0] - record.unedited[0])
    assert (found.feed_forward, found.attention) == (24, 4)
    assert found.clip is not session.clip
    assert not torch.equal(encoded(found.clip, "a red circle"), plain)
    assert torch.equal(encoded(session.clip, "a red circle"), plain)
    report = unlearning_report(asked(), found)
    assert report.startswith("Unlearned 1 concept in 2 steps on 1 pictures of it: 24 feed-forward and 4 self-attention")


def test_fp8_is_refused(session: Session) -> None:
    with pytest.raises(UnsupportedModelError, match="quantised \\(float8_e4m3fn\\)"):
        unlearn(Session.open(pocket_in_fp8(), session.connected_clip, session.connected_vae))


def test_the_patched_clip_encodes_as_the_hooks_did(session: Session) -> None:
    keys, prompt = unlearned_keys(session.clip), "a red circle, a star"
    generator = torch.Generator().manual_seed(0)
    comfy.model_management.load_models_gpu([session.clip.patcher])
    with torch.inference_mode(False):
        text = TrainedText(session.clip, keys, CPU)
        with torch.no_grad():
            for parameter in text.parameters():
                parameter += 1e-3 * torch.randn(parameter.shape, generator=generator)
            with text.trainable():
                embedding, values = text.encoded(prompt)
    patched = text.patched(1.0)
    with torch.inference_mode():
        again, told = patched.encode_from_tokens_scheduled(patched.tokenize(prompt))[0]
    before = encoded(session.clip, prompt)
    # W·x + Δ·x against (W + Δ)·x, through twelve layers: in half of float32's digits at least.
    error = torch.finfo(torch.float32).eps ** 0.5
    assert (embedding - again).norm() < error * again.norm()
    assert (values["pooled_output"] - told["pooled_output"]).norm() < error * told["pooled_output"].norm()
    assert (before - again).norm() > 100 * error * again.norm()


@pytest.mark.large
def test_of_the_attention_only_the_last_layer_that_is_read_is_learned(session: Session) -> None:
    skipped = session.clip.clone()
    skipped.layer_idx = -2  # type: ignore[misc]
    for clip, layer in ((session.clip, 11), (skipped, 10)):
        with torch.inference_mode(False), torch.enable_grad():
            text = TrainedText(clip, unlearned_keys(clip), CPU)
            with text.trainable():
                embedding, _ = text.encoded("a red circle")
                embedding.square().sum().backward()
            drop_unread_attention(text)
        learned = {
            key for key, one in text.differences.items() if one.weight.requires_grad and one.weight.grad is not None
        }
        attention = {key for key in learned if ".self_attn." in key}
        assert {int(key.split(".layers.")[1].split(".")[0]) for key in attention} == {layer}
        assert len(attention) == 4
        assert len(learned - attention) == 2 * (layer + 1)


@pytest.mark.large
def test_bounded_counts_no_error_beyond_the_bound_and_holds_the_rest(session: Session, unlearned: Unlearned) -> None:
    assert len(unlearned.record.retaining) == 2
    # A bound that the error is above from the start leaves nothing to go by.
    still = unlearn(session, asked(replace(TWO_STEPS, limit=0.01, retain_weight=0.0)))
    assert (still.feed_forward, still.attention) == (0, 0)
    assert still.record.retaining[-1] < torch.finfo(torch.float32).eps
    heavy = unlearn(session, asked(replace(TWO_STEPS, steps=3, learning_rate=1e-3, retain_weight=1e4, limit=100.0)))
    light = unlearn(session, asked(replace(TWO_STEPS, steps=3, learning_rate=1e-3, retain_weight=0.0, limit=100.0)))
    assert heavy.record.retaining[-1] < light.record.retaining[-1]


@pytest.mark.large
def test_low_memory_learns_the_same(session: Session, unlearned: Unlearned) -> None:
    assert unlearn(session, asked(replace(TWO_STEPS, low_memory=True))).record == unlearned.record


@pytest.mark.large
def test_strength_is_that_of_the_patches(session: Session, unlearned: Unlearned) -> None:
    nothing = unlearn(session, strength=0.0)
    assert torch.equal(encoded(nothing.clip, "a red circle"), encoded(session.clip, "a red circle"))
    assert not torch.equal(encoded(unlearned.clip, "a red circle"), encoded(session.clip, "a red circle"))


def test_it_is_cancelled_without_a_trace(session: Session) -> None:
    before = states(session)

    def cancel(value: int, total: int, preview: Any, node_id: Any = None) -> None:
        if value > 0.8 * total:
            comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(cancel)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            unlearn(session)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert_all_untouched(session, before)


def test_a_loss_that_is_no_number_keeps_what_was_learned(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, job, "bounded_ascent", 2)
    found = unlearn(session)
    assert "no finite number" in found.record.stopped
    assert len(found.record.concept) == 1
    assert torch.isfinite(encoded(found.clip, "a red circle")).all()


@pytest.mark.large
def test_own_images_are_learned_from(session: Session) -> None:
    images = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    once = asked(replace(TWO_STEPS, steps=1))
    found = unlearn(session, once, images=images.repeat(2, 1, 1, 1), retained_images=images.flip(1))
    assert (found.pictures, found.retained) == (2, 1)
    with pytest.raises(InputError, match="multiples of 8"):
        unlearn(session, once, images=images[:, :60, :60])
    with pytest.raises(InputError, match="which image shows which"):
        unlearn(session, asked(concepts="red\nblue"), images=images)
    with pytest.raises(WrongConnectionError, match="VAE is None"):
        unlearn(Session.open(session.model, session.clip), once, images=images)


def test_what_cannot_be_unlearned_is_refused(session: Session) -> None:
    flux = next(family for family in FAMILIES if family.name == "Flux")
    other = replace(session, architecture=replace(session.architecture, family=flux))
    with pytest.raises(UnsupportedModelError, match="This MODEL is Flux, for which no eraser can be made by training"):
        unlearn_in_text_encoder(other, asked())
    with pytest.raises(WrongConnectionError, match="CLIP is None"):
        unlearn_in_text_encoder(Session.open(session.model), asked())
    with pytest.raises(InputError, match="'pictures' is 0"):
        unlearn(session, asked(concept=0))
    deaf, weights = session.model.clone(), session.model.model.state_dict()
    deaf.add_patches({key: (-weights[key].float(),) for key in session.architecture.keys})
    with pytest.raises(InputError, match="This MODEL makes the same of 'a red circle' as of 'a yellow circle'"):
        unlearn(Session.open(deaf, session.clip))


def shown(graph: Graph, loaded: Node, **inputs: Any) -> tuple[Node, Node]:
    """The node, and its report."""
    small = {"pictures": 1, "retained_pictures": 1, "size": 64, "picture_steps": 1, "batch": 1, "retained_batch": 1}
    node = graph.node(
        "RECE_UnlearnTextEncoder",
        clip=loaded.out(1),
        model=loaded.out(0),
        vae=loaded.out(2),
        **{
            "concepts": "nude -> dressed",
            "method": "as published",
            "steps": 1,
            "seed": 0,
            "contexts": "a {} woman",
            "learning_rate": 1e-3,
            **small,
            **inputs,
        },
    )
    return node, graph.node("PreviewAny", source=node.out(1))


@pytest.mark.parametrize(
    "kind", ["sd15", pytest.param("sd2", marks=pytest.mark.large), pytest.param("sdxl", marks=pytest.mark.large)]
)
def test_the_node_unlearns_in_the_real_server(
    server: ComfyServer, checkpoint: Callable[[str], Path], kind: str
) -> None:
    name = server.link_model(checkpoint(kind))
    graph = Graph()
    loaded = graph.load(name)
    node, report = shown(graph, loaded)
    graph.node(
        "CheckpointSave", model=loaded.out(0), clip=node.out(0), vae=loaded.out(2), filename_prefix=f"unlearned/{kind}"
    )
    before = graph.sample(loaded, "a nude woman")
    after = graph.sample(loaded, "a nude woman", clip=node)
    result = server.run(graph.prompt, timeout=600)
    (told,) = result.outputs[report.id]["text"]
    assert told.startswith("Unlearned 1 concept in 1 steps on 1 pictures of it: ")
    (untouched,), (unlearned,) = result.images(before), result.images(after)
    assert not np.array_equal(untouched, unlearned)
    (saved,) = (server.base / "output" / "unlearned").glob(f"{kind}_*.safetensors")
    again = Graph()
    samples = [again.sample(again.load(one), "a nude woman") for one in (server.link_model(saved), name)]
    result = server.run(again.prompt, timeout=600)
    from_file, plain = (result.images(one)[0] for one in samples)
    assert np.array_equal(plain, untouched)
    # Stored numbers are rounded once more than those of a patch in memory.
    assert np.abs(from_file.astype(float) - unlearned.astype(float)).mean() < 1.0
