"""Erasers with a shape, sampled by the host's own sampler on small models in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.sample
import comfy.samplers
import numpy as np
import pytest
import torch
from bounds import Rounded, assert_within
from rece_pack.nodes.apply_eraser import ApplyEraser
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.architectures.places import place_of, strengths_of
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.erase_conditioning import erase_conditioning
from rece_pack.nodes.host.jobs.export_lora import lora_metadata, lora_names, lora_tensors
from rece_pack.nodes.host.patching.forwards import add_forwards
from rece_pack.nodes.host.patching.schedules import check_unscheduled
from rece_pack.nodes.host.patching.weights import EffectiveWeights
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.shape_eraser import ShapeEraser
from rece_pack.rece_ops import Eraser, EraserSet, InputError, LowRank, Schedule, Shape, WeightChange
from small_models import CPU, SMALL
from torch import Tensor

from tests.host import every_node
from tools.graph import Graph
from tools.server import ComfyServer

CASE = SMALL["SD1"]
STEPS = 6
LAST_HALF = Schedule.between(0.5, 1.0)
CONVOLUTION = "diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterable[None]:
    with torch.inference_mode():
        yield
    comfy.model_management.unload_all_models()


@pytest.fixture
def model() -> Any:
    return CASE.model()


def random_factors(rows: int, columns: int, rank: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, rank, generator=generator) / rows**0.5, torch.randn(rank, columns, generator=generator)


def eraser(shape: Shape | None = None, **parts: Any) -> EraserSet:
    found = EraserSet(parts or {"text": Eraser(*random_factors(40, 40))}, {"architecture": "SD1"})
    return found if shape is None else found.shaped(shape)


def trained(model: Any) -> WeightChange:
    """A change of the first convolution and of one query, which read no text, and of one value."""
    weights = model.model.state_dict()
    keys = [
        CONVOLUTION,
        *(key for key in weights if key.endswith(("middle_block.1.transformer_blocks.0.attn1.to_v.weight",))),
    ]
    keys.append(next(key for key in architecture_of(model).keys if ".to_v." in key))
    shapes = {key: (weights[key].shape[0], weights[key][0].numel()) for key in keys}
    return WeightChange({key: LowRank(*random_factors(*shape, seed=7)) for key, shape in shapes.items()})


def sampled(
    model: Any, hooks: Any = None, sampler: str = "euler", steps: int = STEPS, **where: Any
) -> tuple[list[Tensor], Tensor]:
    """What every step takes for the picture, and the picture."""
    noise = torch.randn(1, *CASE.latent, generator=torch.Generator().manual_seed(3))
    empty = torch.zeros_like(noise)
    prompts = [[list(CASE.prompt(seed))] for seed in (1, 2)]
    if hooks is not None:
        prompts[0] = comfy.hooks.set_hooks_for_conditioning(prompts[0], hooks)
    seen: list[Tensor] = []
    picture = comfy.sample.sample(
        model, noise, steps, 3.0, sampler, "normal", *prompts, empty,
        callback=lambda step, x0, x, total: seen.append(x0.clone()), disable_pbar=True, seed=0, **where,
    )  # fmt: skip
    return seen, picture


def first_erased(model: Any, percent: float) -> int:
    """The first step that is at or after a point of the schedule, by the host's own arithmetic."""
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)
    limit = sampling.percent_to_sigma(percent)
    return next(step for step, sigma in enumerate(sigmas) if sigma <= limit)


def test_over_the_last_half_the_first_steps_are_those_of_the_model_and_the_rest_those_of_an_erased_one(
    model: Any,
) -> None:
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=LAST_HALF)), 0.7)
    before, after = sampled(model)[0], sampled(patched)[0]
    turn = first_erased(model, 0.5)
    assert 1 <= turn < STEPS - 1
    assert all(map(torch.equal, before[:turn], after[:turn]))
    assert not any(map(torch.equal, before[turn:], after[turn:]))
    # The same switch by hand, at the noise level that ControlNet's nodes would take.
    live = ByHand()
    switched = model.clone()
    add_forwards(switched, architecture_of(model).keys, eraser().transforms["text"].scaled(0.7), live)
    limit = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    switched.set_model_unet_function_wrapper(lambda apply, given: live.step(apply, given, limit))
    by_hand = sampled(switched)[0]
    assert all(map(torch.equal, by_hand, after))


class ByHand:
    """A strength that is 1 from some noise level on."""

    strengths = frozenset({0.0, 1.0})
    strength = 0.0

    def step(self, apply: Any, given: dict[str, Any], limit: float) -> Tensor:
        self.strength = float(given["timestep"][0] <= limit)
        return apply(given["input"], given["timestep"], **given["c"])


def test_up_to_the_half_it_is_the_other_way_round(model: Any) -> None:
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=Schedule.between(0, 0.5))), 1.0)
    whole = model.clone()
    add_forwards(whole, architecture_of(model).keys, eraser().transforms["text"])
    erased, after = sampled(whole)[0], sampled(patched)[0]
    turn = first_erased(model, 0.5)
    assert all(map(torch.equal, erased[:turn], after[:turn]))
    assert not any(map(torch.equal, erased[turn:], after[turn:]))


def test_a_range_between_two_steps_does_nothing(model: Any) -> None:
    """The host would keep a keyframe for a step at least, if it were not told otherwise."""
    sigmas = model.get_model_object("model_sampling")
    turn = first_erased(model, 0.5)
    steps = comfy.samplers.calculate_sigmas(sigmas, "normal", STEPS)
    starts = [number / 1000 for number in range(1, 999)]
    between = [one for one in starts if steps[turn] < sigmas.percent_to_sigma(one) < steps[turn - 1]]
    narrow = Schedule.between(between[len(between) // 3], between[len(between) // 2])
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=narrow)), 1.0)
    assert all(map(torch.equal, sampled(patched)[0], sampled(model)[0]))


def test_a_strength_of_the_schedule_is_that_strength(model: Any) -> None:
    half = model.clone()
    add_forwards(half, architecture_of(model).keys, eraser().transforms["text"].scaled(0.5))
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=Schedule(((0.0, 0.5),)))), 1.0)
    assert torch.equal(sampled(patched)[1], sampled(half)[1])


def test_the_model_itself_and_the_next_sampling_are_bit_identical(model: Any) -> None:
    stored = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    before = sampled(model)[1]
    parts = {"text": Eraser(*random_factors(40, 40)), "trained": trained(model)}
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=LAST_HALF), **parts), 1.0)
    first = sampled(patched)[1]
    assert not torch.equal(first, before)
    for _ in range(2):
        assert torch.equal(sampled(model)[1], before)
        assert torch.equal(sampled(patched)[1], first)
    assert model.hook_patches == {}
    assert model.wrappers == {}
    comfy.model_management.unload_all_models()
    assert all(torch.equal(weight, stored[key]) for key, weight in model.model.state_dict().items())


def test_one_step_is_the_same_the_second_time(model: Any) -> None:
    """The host's keyframes remember where the last sampling ended, and take the same noise level for the same step."""
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=Schedule.between(0.3, 1.0))), 1.0)
    runs = [sampled(patched, denoise=0.3, steps=1)[1] for _ in range(2)]
    assert not torch.equal(runs[0], sampled(model, denoise=0.3, steps=1)[1])
    assert torch.equal(*runs)


def test_changes_of_weights_count_in_their_steps_only(model: Any) -> None:
    parts = {"trained": trained(model)}
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=LAST_HALF), **parts), 1.0)
    turn = first_erased(model, 0.5)
    before, after = sampled(model)[0], sampled(patched)[0]
    assert all(map(torch.equal, before[:turn], after[:turn]))
    assert not any(map(torch.equal, before[turn:], after[turn:]))
    always = sampled(apply_eraser(Session.open(model), eraser(**parts), 1.0))[0]
    until = apply_eraser(Session.open(model), eraser(Shape(schedule=Schedule.between(0.0, 0.5)), **parts), 1.0)
    assert all(map(torch.equal, sampled(until)[0][:turn], always[:turn]))


def test_hooks_of_other_nodes_on_a_prompt_still_count(model: Any) -> None:
    key = architecture_of(model).keys[0]
    other = comfy.hooks.WeightHook()
    other.need_weight_init = False
    other.weights = {key: ("diff", (torch.ones_like(model.model.state_dict()[key]),))}
    group = comfy.hooks.HookGroup()
    group.add(other)
    patched = apply_eraser(Session.open(model), eraser(Shape(schedule=LAST_HALF)), 1.0)
    turn = first_erased(model, 0.5)
    plain, hooked, both = sampled(model)[0], sampled(model, group)[0], sampled(patched, group)[0]
    assert not torch.equal(plain[0], hooked[0])
    assert all(map(torch.equal, hooked[:turn], both[:turn]))
    assert not torch.equal(hooked[-1], both[-1])
    assert not torch.equal(sampled(patched)[0][-1], both[-1])


def test_a_whole_shape_is_no_shape_bit_for_bit(model: Any) -> None:
    shaped = ShapeEraser.execute(eraser()).result[0]
    applied = ApplyEraser.execute(model, shaped, 0.6, 0.0, 1.0).result[0]
    plain = apply_eraser(Session.open(model), eraser(), 0.6)
    assert applied.wrappers == {}
    assert list(applied.patches) == list(plain.patches)
    assert torch.equal(sampled(applied)[1], sampled(plain)[1])


def weights_of(model: Any) -> dict[str, Tensor]:
    return dict(EffectiveWeights(model, architecture_of(model).keys, CPU))


@pytest.mark.parametrize(
    ("inputs", "counts"),
    [
        ({"keys": 0.0}, lambda key: float(".to_v." in key)),
        ({"values": 0.5}, lambda key: 0.5 if ".to_v." in key else 1.0),
        ({"input_blocks": 0.0, "middle_block": 0.0}, lambda key: float("output_blocks" in key)),
        ({"output_blocks": 0.0, "blocks": "output 1: 0.25"}, lambda key: 0.25 if "output_blocks.1." in key else float("output" not in key)),
        ({"input_blocks": 0.5, "keys": 0.5, "strength": 0.5}, lambda key: 0.5 * (0.5 if "input" in key else 1) * (0.5 if ".to_k." in key else 1)),
    ],
    ids=["values only", "values half", "output only", "one block", "all at once"],
)  # fmt: skip
def test_every_weight_is_changed_as_far_as_its_block_and_role_say(
    model: Any, inputs: dict[str, Any], counts: Callable[[str], float]
) -> None:
    shaped = ShapeEraser.execute(eraser(), **inputs).result[0]
    before, after = weights_of(model), weights_of(apply_eraser(Session.open(model), shaped, 1.0))
    transform = eraser().transforms["text"]
    assert len({counts(key) for key in before}) > 1
    for key, weight in before.items():
        if counts(key) == 0:
            assert torch.equal(after[key], weight)
        else:
            whole = Rounded(weight)
            assert_within(after[key], (whole @ transform.left @ transform.right) * counts(key) + whole, key)


def test_weights_that_read_no_text_have_a_strength_of_their_own(model: Any) -> None:
    change = trained(model)
    (value,) = set(change.changes) & set(architecture_of(model).keys)
    others = set(change.changes) - {value}
    only_text = apply_eraser(Session.open(model), eraser(Shape(others=0.0), trained=change), 1.0)
    assert set(only_text.patches) == {value}
    only_others = apply_eraser(Session.open(model), eraser(Shape(values=0.0), trained=change), 1.0)
    assert set(only_others.patches) == others
    outside = apply_eraser(Session.open(model), eraser(Shape({"middle": 0.0}), trained=change), 1.0)
    assert CONVOLUTION in outside.patches
    assert not any("middle_block" in key for key in outside.patches)


def test_a_lora_holds_blocks_and_roles_exactly_and_no_steps(model: Any) -> None:
    session, parts = Session.open(model), {"text": Eraser(*random_factors(40, 40)), "trained": trained(model)}
    # Factors that float32 multiplies by exactly.
    shaped = eraser(Shape({"input": 0.5}, keys=0.0), **parts)
    whole, found = (lora_tensors(session, one, 1.0, 0, torch.float32) for one in (eraser(**parts), shaped))
    strengths = strengths_of(session.architecture, shaped)
    for key, name in lora_names(model, session.architecture, strengths).items():
        up, down, alpha = (f"{name}.{part}" for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        if strengths[key] == 0:
            assert up not in found
            continue
        assert torch.equal(found[up], whole[up] * strengths[key])
        assert torch.equal(found[down], whole[down])
        assert torch.equal(found[alpha], whole[alpha])
    assert 0 in strengths.values()
    assert 0.5 in strengths.values()
    assert '"shape": "input at 0.5; keys off"' in lora_metadata(session.architecture, shaped)["rece_provenance"]
    with pytest.raises(
        UnsupportedModelError, match=r"A LoRA holds weights that are the same in every step.*50% to 100%"
    ):
        lora_tensors(session, eraser(Shape(schedule=LAST_HALF)), 1.0, 0, torch.float32)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            Shape({"input 9": 0.5}),
            "names the block 'input 9', but on this MODEL it changes nothing there. It changes input ",
        ),
        (Shape({"block": 0.0}), "names the block 'block'"),
        (Shape({"input": 0, "middle": 0, "output": 0}), "leaves nothing of it on this MODEL"),
        (Shape(keys=0, values=0), "leaves nothing of it"),
    ],
)
def test_a_shape_that_does_not_fit_the_model_is_refused(model: Any, shape: Shape, message: str) -> None:
    with pytest.raises(WrongConnectionError, match=message):
        apply_eraser(Session.open(model), eraser(shape), 1.0)


def test_a_model_that_reads_text_before_its_blocks_has_steps_and_no_blocks_or_keys() -> None:
    flux = SMALL["Flux schnell"].model()
    session = Session.open(flux)
    streams = {
        stream.name: Eraser(*random_factors(stream.dimension, stream.dimension))
        for stream in session.architecture.streams
    }
    whole = EraserSet(streams, {"architecture": "Flux"})
    with pytest.raises(InputError, match=r"does not fit this Flux MODEL.*neither keys nor values"):
        apply_eraser(session, whole.shaped(Shape(keys=0.0)), 1.0)
    with pytest.raises(WrongConnectionError, match="Its text readers are in no block"):
        apply_eraser(session, whole.shaped(Shape({"input": 0.0})), 1.0)
    apply_eraser(session, whole.shaped(Shape(schedule=LAST_HALF)), 1.0)


def test_the_pooled_stream_has_a_strength_of_its_own() -> None:
    model = SMALL["SDXL"].model()
    session = Session.open(model)
    streams = {
        stream.name: Eraser(*random_factors(stream.dimension, stream.dimension))
        for stream in session.architecture.streams
    }
    whole = EraserSet(streams, {"architecture": "SDXL"})
    left = ShapeEraser.execute(whole, pooled=0.0, keys=0.5).result[0]
    assert set(left) == {"text"}
    assert "diffusion_model.label_emb.0.0.weight" not in apply_eraser(session, left, 1.0).patches
    # Keys and values are those of the tokens; the pooled stream is in no block.
    strengths = strengths_of(session.architecture, ShapeEraser.execute(whole, keys=0.5, middle_block=0.5).result[0])
    assert strengths["diffusion_model.label_emb.0.0.weight"] == 1.0
    with pytest.raises(InputError, match="this ERASER has no pooled text stream"):
        ShapeEraser.execute(eraser(), pooled=0.5)


def test_a_stream_that_is_left_out_is_not_changed_and_still_fits() -> None:
    model = SMALL["HiDream"].model()
    session = Session.open(model)
    streams = {
        stream.name: Eraser(*random_factors(stream.dimension, stream.dimension))
        for stream in session.architecture.streams
    }
    only = ShapeEraser.execute(EraserSet(streams, {"architecture": "HiDream"}), streams="t5xxl", pooled=0.0).result[0]
    (t5,) = (stream for stream in session.architecture.streams if stream.name == "t5xxl")
    assert set(apply_eraser(session, only, 1.0).patches) == set(t5.keys)
    with pytest.raises(InputError, match="'streams' names 'text', but the text streams of this ERASER are llama"):
        ShapeEraser.execute(EraserSet(streams), streams="text")


def test_jobs_that_cannot_follow_a_shape_say_so(model: Any) -> None:
    shaped = eraser(Shape(keys=0.0))
    with pytest.raises(WrongConnectionError, match="counts only in part of the model or of the steps"):
        Session.open(model).transformed_streams(shaped)
    with pytest.raises(WrongConnectionError, match="counts only in part"):
        erase_conditioning([[torch.zeros(1, 7, 40), {}]], shaped, 1.0)
    check_unscheduled(apply_eraser(Session.open(model), shaped, 1.0), "this attack")
    with pytest.raises(
        UnsupportedModelError, match="counts only in part of the steps, and this attack looks at no step"
    ):
        check_unscheduled(apply_eraser(Session.open(model), eraser(Shape(schedule=LAST_HALF)), 1.0), "this attack")


@pytest.mark.parametrize("inputs", [{"strength": 0.0}, {"start_percent": 0.6, "end_percent": 0.5}, {"keys": 3.0}])
def test_an_input_out_of_range_is_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ShapeEraser.execute(eraser(), **inputs)


def test_places_are_read_off_the_names_of_weights() -> None:
    found = {
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": ("input 4", "keys"),
        "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight": ("middle", "values"),
        "diffusion_model.blocks.12.attn2.kv_proj.weight": ("block 12", "keys and values"),
        "diffusion_model.blocks.block12.blocks.1.block.attn.to_k.0.weight": ("block 12", "keys"),
        "diffusion_model.blocks.3.cross_attn.v_proj.weight": ("block 3", "values"),
        "diffusion_model.double_blocks.3.img_attn.qkv.weight": ("double 3", "text reader"),
        "diffusion_model.txt_in.weight": (None, "text reader"),
    }
    assert {key: (place_of(key, True).block, place_of(key, True).role) for key in found} == found
    assert (
        place_of("diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight", False).role
        == "other weight"
    )


def test_a_shape_survives_its_file_in_the_server(server: ComfyServer, checkpoint: Callable[[str], Path]) -> None:
    """Made, saved, loaded, applied; the branch without it is the model's own picture."""
    every_node.prepare(server)
    name = server.link_model(checkpoint("sd15"))
    graph = Graph()
    loaded = graph.load(name)
    whole = graph.node("RECE_LoadEraser", eraser_name=every_node.ERASER_NAME)
    shaped = graph.node("RECE_ShapeEraser", eraser=whole, start_percent=0.5, keys=0.5, blocks="middle: 0.5")
    saved = graph.node("RECE_SaveEraser", eraser=shaped, file_name="shaped", if_exists="replace")
    applied = graph.node("RECE_ApplyEraser", model=loaded.out(0), eraser=shaped, strength=1.0)
    pictures = [
        graph.sample(loaded, "a nude", model=model, seed=3, steps=4) for model in (loaded.out(0), applied.out(0))
    ]
    result = server.run(graph.prompt)
    own, erased = (result.images(one)[0] for one in pictures)
    assert not np.array_equal(own, erased)
    assert "only in part: middle at 0.5; keys at 0.5; 50% to 100% of the sampling." in str(result.outputs[applied.id])
    assert "models/erasers/shaped.safetensors" in str(result.outputs[saved.id])

    again = Graph()
    loaded = again.load(name)
    read = again.node("RECE_LoadEraser", eraser_name="shaped.safetensors")
    applied = again.node("RECE_ApplyEraser", model=loaded.out(0), eraser=read, strength=1.0)
    pictures = [
        again.sample(loaded, "a nude", model=model, seed=3, steps=4) for model in (applied.out(0), loaded.out(0))
    ]
    result = server.run(again.prompt)
    assert np.array_equal(result.images(pictures[0])[0], erased)
    assert np.array_equal(result.images(pictures[1])[0], own)
