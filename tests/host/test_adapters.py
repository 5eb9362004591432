"""Adapters on a MODEL, sampled by the host's own sampler on small models in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sd
import comfy.utils
import pytest
import torch
from rece_pack.nodes.apply_eraser import ApplyEraser
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs.apply import apply_eraser, describe_application
from rece_pack.nodes.host.jobs.derive import derive_conditioning
from rece_pack.nodes.host.jobs.erase_conditioning import erase_conditioning
from rece_pack.nodes.host.jobs.export_lora import lora_tensors
from rece_pack.nodes.host.patching.adapters import AdapterPatch, Attention, cross_attentions
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.stored.model import changes_of
from rece_pack.nodes.reporting.sentences import eraser_description, unmeasured
from rece_pack.nodes.shape_eraser import ShapeEraser
from rece_pack.rece_ops import Adapter, Adapters, Eraser, EraserSet, Schedule, Shape
from small_models import CPU, SMALL
from torch import Tensor

STEPS = 4
MIDDLE = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield
    comfy.model_management.unload_all_models()


@pytest.fixture
def model() -> Any:
    return SMALL["SD1"].model()


def random_adapter(dimension: int, seed: int = 0, width: int = 5) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((width, dimension), (width,), (dimension, width), (dimension,))
    return Adapter(*(torch.randn(shape, generator=generator) / dimension**0.5 for shape in shapes))


def adapters(model: Any, seed: int = 0) -> Adapters:
    layers = cross_attentions(model)
    return Adapters({layer: random_adapter(size, seed + turn) for turn, (layer, size) in enumerate(layers.items())})


def eraser(model: Any, shape: Shape | None = None, seed: int = 0, name: str = "SD1", **parts: Any) -> EraserSet:
    found = EraserSet({**parts, "adapters": adapters(model, seed)}, {"architecture": name})
    return found if shape is None else found.shaped(shape)


def sampled(model: Any, name: str = "SD1", count: int = 2) -> list[Tensor]:
    """What every step takes for `count` pictures, with a prompt and an empty one in one batch."""
    case = SMALL[name]
    noise = torch.randn(count, *case.latent, generator=torch.Generator().manual_seed(3))
    seen: list[Tensor] = []
    comfy.sample.sample(
        model, noise, STEPS, 3.0, "euler", "normal", *([list(case.prompt(seed))] for seed in (1, 2)),
        torch.zeros_like(noise), callback=lambda step, x0, x, total: seen.append(x0.clone()), disable_pbar=True, seed=0,
    )  # fmt: skip
    return seen


@contextmanager
def by_hand(model: Any, found: Adapters, strength: Callable[[str], float] = lambda layer: 1.0) -> Iterator[None]:
    """y + s·A(y) by hooks on the layers themselves."""

    def hook(adapter: Adapter) -> Any:
        return lambda layer, inputs, written: (written.float() + adapter.of(written.float())).to(written.dtype)

    handles = []
    for layer, adapter in found.adapters.items():
        attention = comfy.utils.get_attr(model.model, layer)
        handles.append(attention.register_forward_hook(hook(adapter.scaled(strength(layer)))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", ["SD1", "SDXL"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_cross_attention_is_followed_by_its_adapter(name: str, dtype: torch.dtype) -> None:
    model = SMALL[name].model(dtype=dtype)
    assert len(cross_attentions(model)) == 7
    patched = apply_eraser(Session.open(model), eraser(model, name=name), 0.5)
    before, after = sampled(model, name), sampled(patched, name)
    with by_hand(model, adapters(model), lambda layer: 0.5):
        expected = sampled(model, name)
    assert all(map(torch.equal, after, expected))
    assert not any(map(torch.equal, after, before))
    # The branch without it is bit for bit what it was, and one picture is what it is among others up to rounding.
    assert all(map(torch.equal, sampled(model, name), before))
    assert model.model_options["transformer_options"] == {}


@pytest.mark.large
@pytest.mark.parametrize("kind", ["sd15", "sd15_inpaint", "sd2", "sdxl"])
def test_real_configurations_have_adapters_after_all_of_their_blocks(
    checkpoint: Callable[[str], Path], kind: str
) -> None:
    model = comfy.sd.load_checkpoint_guess_config(str(checkpoint(kind)), output_vae=False, output_clip=False)[0]
    name = Session.open(model).architecture.name
    blocks = [one for one, _ in model.model.named_modules() if one.endswith(".attn2")]
    assert sorted(cross_attentions(model)) == sorted(blocks)
    for layer in blocks:
        assert Attention.named(layer) is not None
    found = eraser(model, name=name)
    patched = apply_eraser(Session.open(model), found, 1.0)
    (patch,) = patched.model_options["transformer_options"]["patches"]["attn2_output_patch"]
    heard: list[Any] = []
    patched.set_model_attn2_output_patch(lambda written, options: heard.append(Attention.told(options)) or written)
    comfy.model_management.load_models_gpu([patched])
    base = patched.model
    channels = base.latent_format.latent_channels
    noise = torch.randn(1, channels, 8, 8)
    conditions = {"c_crossattn": torch.randn(1, 77, Session.open(model).architecture.streams[0].dimension)}
    if base.adm_channels:
        conditions["y"] = torch.randn(1, base.adm_channels)
    if base.model_config.unet_config["in_channels"] > channels:
        conditions["c_concat"] = torch.randn(1, base.model_config.unet_config["in_channels"] - channels, 8, 8)
    options = patched.model_options["transformer_options"]
    predicted = [
        base.apply_model(noise, torch.ones(1), transformer_options=dict(one), **conditions) for one in (options, {})
    ]
    assert set(heard) == {Attention.named(layer) for layer in blocks} == set(patch._adapters)
    assert not torch.equal(*predicted)


def test_patches_of_other_packs_stay_and_are_called_in_their_order(model: Any) -> None:
    def doubled(written: Tensor, options: Any) -> Tensor:
        return written * 2

    def shifted(written: Tensor, options: Any) -> Tensor:
        return written + 0.25

    before = model.clone()
    before.set_model_attn2_output_patch(doubled)
    patched = apply_eraser(Session.open(before), eraser(model), 1.0)
    patched.set_model_attn2_output_patch(shifted)
    hand = model.clone()
    found = {Attention.named(layer): adapter for layer, adapter in adapters(model).adapters.items()}
    for patch in (doubled, lambda y, options: y + found[Attention.told(options)].of(y), shifted):
        hand.set_model_attn2_output_patch(patch)
    assert all(map(torch.equal, sampled(patched), sampled(hand)))
    assert before.model_options["transformer_options"]["patches"] == {"attn2_output_patch": [doubled]}


def test_clones_share_the_adapters_and_not_each_others_patches(model: Any) -> None:
    patched = apply_eraser(Session.open(model), eraser(model), 1.0)
    first = sampled(patched)
    clone = patched.clone()
    clone.set_model_attn2_output_patch(lambda written, options: written * 0)
    (own,), (theirs, _) = (
        one.model_options["transformer_options"]["patches"]["attn2_output_patch"] for one in (patched, clone)
    )
    assert own is theirs
    assert not any(map(torch.equal, sampled(clone), first))
    assert all(map(torch.equal, sampled(patched), first))


def test_two_one_after_the_other_read_what_is_there_and_combined_they_read_the_same(model: Any) -> None:
    one, other = eraser(model), eraser(model, seed=100)
    twice = apply_eraser(Session.open(apply_eraser(Session.open(model), one, 1.0)), other, 1.0)
    hand = model.clone()
    found = {Attention.named(layer): adapter for layer, adapter in adapters(model).adapters.items()}
    more = {Attention.named(layer): adapter for layer, adapter in adapters(model, 100).adapters.items()}

    def in_turn(written: Tensor, options: Any) -> Tensor:
        place = Attention.told(options)
        first = written + found[place].of(written)
        return first + more[place].of(first)

    hand.set_model_attn2_output_patch(in_turn)
    in_turns = sampled(hand)
    assert all(map(torch.equal, sampled(twice), in_turns))
    combined = apply_eraser(Session.open(model), one.combined(other, {"architecture": "SD1"}), 1.0)
    with by_hand(model, one.adapters["adapters"] @ other.adapters["adapters"]):
        beside = sampled(model)
    assert all(map(torch.equal, sampled(combined), beside))
    assert not any(map(torch.equal, beside, in_turns))


def test_blocks_and_other_weights_of_a_shape_scale_them(model: Any) -> None:
    shaped = ShapeEraser.execute(eraser(model), input_blocks=0.0, blocks="output 1: 0.5", other_weights=0.5).result[0]
    patched = apply_eraser(Session.open(model), shaped, 1.0)

    def strength(layer: str) -> float:
        if "input_blocks" in layer:
            return 0.0
        return 0.25 if "output_blocks.1." in layer else 0.5

    with by_hand(model, adapters(model), strength):
        expected = sampled(model)
    assert all(map(torch.equal, sampled(patched), expected))
    with pytest.raises(WrongConnectionError, match="leaves nothing of it"):
        apply_eraser(Session.open(model), eraser(model, Shape(others=0.0)), 1.0)


def test_a_schedule_turns_them_on_in_its_steps_only(model: Any) -> None:
    patched = apply_eraser(Session.open(model), eraser(model, Shape(schedule=Schedule.between(0.5, 1.0))), 1.0)
    before, after = sampled(model), sampled(patched)
    same = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == sorted(same, reverse=True)
    assert {True, False} == set(same)
    always = apply_eraser(Session.open(model), eraser(model), 1.0)
    until = apply_eraser(Session.open(model), eraser(model, Shape(schedule=Schedule.between(0.0, 0.5))), 1.0)
    turn = same.index(False)
    assert all(map(torch.equal, sampled(until)[:turn], sampled(always)[:turn]))
    # Another clone has the schedule of the first.
    assert all(map(torch.equal, sampled(patched.clone()), after))


def test_copies_follow_the_host_and_work_where_gradients_are_wanted(model: Any) -> None:
    adapter = random_adapter(6)
    patch = AdapterPatch({Attention("middle", 0, 0): adapter})
    options = {"block": ("middle", 0), "block_index": 0}
    written = torch.randn(2, 3, 6)
    expected = written + adapter.of(written)
    assert torch.equal(patch(written, options), expected)
    assert patch.to(torch.device("meta")) is patch
    assert patch._copies == {}
    assert patch.to(torch.float16) is patch
    assert torch.equal(patch(written, options), expected)
    with torch.inference_mode(False), torch.enable_grad():
        entered = torch.randn(2, 3, 6).requires_grad_()
        (slope,) = torch.autograd.grad(patch(entered, options).square().sum(), entered)
        assert slope.abs().min() > 0
    assert patch(written.half(), options).dtype == torch.float16
    assert patch(written.double(), options).dtype == torch.float64
    # Where it is not meant, and in networks that say no block, all goes through as it is.
    for other in ({"block": ("input", 0), "block_index": 0}, {"block": ("middle", 0), "block_index": 1}, {}):
        assert patch(written, other) is written


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        (MIDDLE, ("middle", 0, 0)),
        ("diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2", ("input", 7, 9)),
        ("diffusion_model.output_blocks.11.1.transformer_blocks.0.attn2", ("output", 11, 0)),
        ("diffusion_model.input_blocks.1.transformer_blocks.0.attn2", None),
        ("diffusion_model.middle_block.1.transformer_blocks.0.attn1", None),
        ("diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2.to_q", None),
        ("control_model.input_blocks.7.1.transformer_blocks.9.attn2", None),
        ("", None),
    ],
)
def test_layers_are_found_by_their_names(layer: str, place: tuple[str, int, int] | None) -> None:
    assert Attention.named(layer) == place


def test_what_cannot_hold_adapters_says_so(model: Any) -> None:
    session, found = Session.open(model), eraser(model)
    with pytest.raises(UnsupportedModelError, match="which no LoRA can hold: save it with 'Save Eraser'"):
        lora_tensors(session, found, 1.0, 0, torch.float32)
    with pytest.raises(UnsupportedModelError, match="for which a checkpoint has no place"):
        changes_of(session, found, 1.0)  # type: ignore[arg-type]
    with pytest.raises(WrongConnectionError, match="which no CONDITIONING can hold"):
        erase_conditioning([list(SMALL["SD1"].prompt(1))], found, 1.0)
    with pytest.raises(WrongConnectionError, match="has no text transform, which is what the report measures"):
        session.transformed_streams(found)
    (encoder,) = (type("Encoder", (), {"encode": lambda self, text: None})(),)
    session.__dict__["encoder"] = encoder
    with pytest.raises(WrongConnectionError, match="has only adapters after the cross-attentions"):
        derive_conditioning(session, "x", 1.0, found, None)
    assert "CheckpointSave and ModelSave write the model without them" in describe_application(session, found)
    assert "Adapters 'adapters': after 7 cross-attentions, width 5 at most." in eraser_description(found)
    assert unmeasured(found) == ["Its adapters are not in these numbers: look at pictures."]


def test_other_models_refuse_them(model: Any) -> None:
    larger = Adapters({MIDDLE: random_adapter(64)})
    with pytest.raises(WrongConnectionError, match="for tokens of 64 numbers, but MODEL has one of 32"):
        apply_eraser(Session.open(model), EraserSet({"adapters": larger}), 1.0)
    nowhere = Adapters({MIDDLE.replace("middle_block", "input_blocks.9"): random_adapter(32)})
    with pytest.raises(WrongConnectionError, match="MODEL has none of that name"):
        apply_eraser(Session.open(model), EraserSet({"adapters": nowhere}), 1.0)
    flux = SMALL["Flux dev"].model()
    with pytest.raises(WrongConnectionError, match="MODEL has none of that name"):
        apply_eraser(Session.open(flux), EraserSet({"adapters": larger}), 1.0)
    with pytest.raises(WrongConnectionError, match="was made for SD1"):
        apply_eraser(Session.open(flux), eraser(model), 1.0)


def test_the_node_says_where_they_run(model: Any) -> None:
    result = ApplyEraser.execute(model, eraser(model, text=Eraser.identity(40)), 1.0)
    (told,) = result.ui.as_dict()["text"]
    assert "Adapters run inside the model, after its cross-attentions" in told
    assert ApplyEraser.execute(model, eraser(model), 0.0).result[0].model_options["transformer_options"] == {}
    assert model.load_device == CPU
