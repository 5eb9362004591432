"""An ERASER inside the forward of quantised and compiled models, in this process, with the host's own classes."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import pytest
import torch
from bounds import Rounded, applied, assert_within, unit
from comfy_api.torch_helpers import set_torch_compile_wrapper
from network_bounds import network_rounding
from rece_pack.nodes.apply_eraser import ApplyEraser
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.errors import UnsupportedModelError
from rece_pack.nodes.host.jobs.apply import apply_eraser, describe_application
from rece_pack.nodes.host.patching.forwards import ErasedForward, add_forwards
from rece_pack.nodes.host.patching.weight_patch import add_weight_patches
from rece_pack.nodes.host.patching.weights import EffectiveWeights
from rece_pack.nodes.host.session import Session
from rece_pack.rece_ops import Eraser, EraserSet, LowRank, WeightChange
from safetensors.torch import load_file
from small_models import CPU, SMALL, SmallModel, denoised
from torch import Tensor

FP8 = torch.float8_e4m3fn
CASE = SMALL["SD1"]
# What is quick to compile.
COMPILED = SMALL["Flux schnell"]
State = dict[str, Tensor]


def random_eraser(dimension: int, rank: int = 3, seed: int = 0) -> Eraser:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(dimension, rank, generator=generator) / dimension**0.5 for _ in range(2))
    return Eraser(left, right.T.contiguous())


def keys_of(model: Any) -> tuple[str, ...]:
    return architecture_of(model).streams[0].keys


def erased_inside(model: Any, *erasers: Eraser) -> Any:
    patched = model.clone()
    for eraser in erasers:
        add_forwards(patched, keys_of(model), eraser)
    return patched


def erased_in_weights(model: Any, *erasers: Eraser) -> Any:
    patched = model.clone()
    for eraser in erasers:
        add_weight_patches(patched, keys_of(model), eraser, 1.0)
    return patched


def loaded_output(model: Any, case: SmallModel = CASE) -> Tensor:
    """What MODEL makes of a prompt, loaded as sampling loads it."""
    comfy.model_management.load_models_gpu([model])
    return denoised(model.model, case.prompt(seed=1), case.latent)


def roundings(*builds: Callable[[], Any]) -> float:
    """How far what these models make of a prompt may be from exact, one added to the other; each is built anew."""

    def run(build: Callable[[], Any]) -> Tensor:
        comfy.model_management.unload_all_models()
        return loaded_output(build())

    found = sum(network_rounding(functools.partial(run, build)) for build in builds)
    comfy.model_management.unload_all_models()
    return found


def same(found: Tensor, expected: Tensor, rounding: float) -> bool:
    return float((found - expected).norm()) <= rounding


@pytest.fixture
def model() -> Any:
    """In float64, so that what rounding explains is small, although patches are computed in float32."""
    return CASE.model(dtype=torch.float64)


def test_a_clone_and_its_source_take_turns_without_a_trace(model: Any) -> None:
    patched, other = erased_inside(model, random_eraser(40)), model.clone()
    rounding = roundings(lambda: model, lambda: patched)
    before = loaded_output(model)
    erased = loaded_output(patched)
    assert not same(erased, before, rounding)
    for _ in range(2):
        assert torch.equal(loaded_output(other), before)
        assert torch.equal(loaded_output(patched), erased)
    comfy.model_management.unload_all_models()
    assert torch.equal(denoised(model.model, CASE.prompt(seed=1), CASE.latent), before)


def test_every_weight_that_is_read_is_a_chance_to_cancel(model: Any) -> None:
    weights = EffectiveWeights(model, keys_of(model), CPU)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        weights[keys_of(model)[0]]
    assert len([*weights.values()]) == len(keys_of(model))


def test_the_source_is_itself_again_when_the_loaded_clone_is_gone(model: Any) -> None:
    before = loaded_output(model)
    patched = erased_inside(model, random_eraser(40))
    assert not torch.equal(loaded_output(patched), before)
    del patched
    gc.collect()
    assert torch.equal(loaded_output(model), before)


def test_two_erasers_are_the_first_then_the_second(model: Any) -> None:
    first, second = random_eraser(40, seed=1), random_eraser(40, seed=2)

    def at_once() -> Any:
        return erased_in_weights(model, first @ second)

    def inside() -> Any:
        return erased_inside(model, first, second)

    def mixed() -> Any:
        return erased_inside(erased_in_weights(model, first), second)

    expected, rounding = loaded_output(at_once()), roundings(at_once, inside, mixed)
    assert same(loaded_output(inside()), expected, rounding)
    assert same(loaded_output(mixed()), expected, rounding)
    assert not same(loaded_output(erased_inside(model, second, first)), expected, rounding)


def test_the_rest_of_the_pack_reads_such_a_model_as_erased(model: Any) -> None:
    first, second = random_eraser(40, seed=1), random_eraser(40, seed=2)
    before = EffectiveWeights(model, keys_of(model), CPU)
    after = EffectiveWeights(erased_inside(model, first, second), keys_of(model), CPU)
    for key in keys_of(model):
        expected = applied(applied(before[key], first.left, first.right), second.left, second.right)
        assert_within(after[key], expected, key)


def test_other_packs_patches_of_the_same_forward_survive(model: Any) -> None:
    """Theirs doubles what the layer makes; ours changes what it reads."""
    name = keys_of(model)[0].removesuffix("weight") + "forward"

    def doubled(one: Any) -> Any:
        original, changed = one.get_model_object(name), one.clone()
        changed.add_object_patch(name, lambda rows: 2 * original(rows))
        return changed

    eraser = random_eraser(40)
    in_weights, ours_last = erased_in_weights(doubled(model), eraser), erased_inside(doubled(model), eraser)
    theirs_last = doubled(erased_inside(model, eraser))
    rounding = roundings(lambda: in_weights, lambda: ours_last, lambda: theirs_last)
    expected = loaded_output(in_weights)
    assert not same(expected, loaded_output(erased_in_weights(model, eraser)), rounding)
    assert same(loaded_output(ours_last), expected, rounding)
    assert same(loaded_output(theirs_last), expected, rounding)


def test_partial_loading_runs_the_same_layers(model: Any) -> None:
    patched = erased_inside(model, random_eraser(40))
    rounding = 2 * roundings(lambda: patched)
    expected = loaded_output(patched)
    comfy.model_management.unload_all_models()
    patched.patch_model(device_to=CPU, lowvram_model_memory=1)
    try:
        assert patched.model.model_lowvram
        assert same(denoised(patched.model, CASE.prompt(seed=1), CASE.latent), expected, rounding)
    finally:
        patched.unpatch_model(device_to=CPU)


def test_a_clone_with_layers_of_its_own_runs_those(model: Any) -> None:
    """ComfyUI 0.33 makes such clones for torch.compile and for every further GPU."""
    if "model_override" not in inspect.signature(model.clone).parameters:
        pytest.skip("in this ComfyUI all clones share their layers")
    first, second = random_eraser(40, seed=1), random_eraser(40, seed=2)
    patched, elsewhere = erased_inside(model, first, second), CASE.model(seed=1)
    moved = patched.clone(model_override=elsewhere.get_clone_model_override())
    expected = loaded_output(erased_inside(elsewhere, first, second))
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.zero_()
    assert torch.equal(loaded_output(moved), expected)


def test_gradients_pass_through_a_model_that_was_patched_in_inference_mode(model: Any) -> None:
    with torch.inference_mode():
        patched = erased_inside(model, random_eraser(40))
        loaded_output(patched)
    layer = patched.model.get_submodule(keys_of(model)[0].removesuffix(".weight"))
    assert isinstance(layer.forward, ErasedForward)
    rows = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    layer(rows).sum().backward()
    assert rows.grad is not None
    comfy.model_management.unload_all_models()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_columns_beyond_the_transform_stay_and_the_dtype_too(model: Any, dtype: torch.dtype) -> None:
    eraser, seen = random_eraser(16), []
    name = "diffusion_model.time_embed.0"
    patched = model.clone()
    patched.add_object_patch(f"{name}.forward", seen.append)
    add_forwards(patched, (f"{name}.weight",), eraser)
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    patched.object_patches[f"{name}.forward"](rows)
    (found,) = seen
    assert found.dtype == dtype
    assert torch.equal(found[:, 16:], rows[:, 16:])
    assert_within(found[:, :16], applied(rows[:, :16], eraser.right.T, eraser.left.T).to(dtype))


def test_saving_such_a_model_writes_whole_weights_without_the_erasure(model: Any, tmp_path: Path) -> None:
    saved = {}
    for name, one in {"before": model, "after": erased_inside(model, random_eraser(40))}.items():
        comfy.sd.save_checkpoint(str(tmp_path / name), one)
        saved[name] = load_file(tmp_path / name)
    assert saved["after"].keys() == saved["before"].keys()
    assert all(torch.equal(saved["after"][key], weight) for key, weight in saved["before"].items())
    prefix = "model.diffusion_model."
    assert {key.removeprefix(prefix) for key in saved["after"]} == set(model.model.diffusion_model.state_dict())


@pytest.fixture(scope="module")
def unet(checkpoint: Callable[[str], Path]) -> State:
    """The weights of the small SD1.5 checkpoint's UNet."""
    prefix = "model.diffusion_model."
    weights = load_file(checkpoint("sd15"))
    return {key.removeprefix(prefix): weight.float() for key, weight in weights.items() if key.startswith(prefix)}


def as_fp8(unet: State) -> tuple[Any, State]:
    """The MODEL as 'Load Diffusion Model' loads it with a weight dtype of fp8, and its weights."""
    state = {key: weight.to(FP8) for key, weight in unet.items()}
    loaded = comfy.sd.load_diffusion_model_state_dict(dict(state), model_options={"dtype": FP8})
    return loaded, {key: weight.float() for key, weight in state.items()}


def as_scaled_fp8(unet: State) -> tuple[Any, State]:
    """The MODEL of a file in scaled fp8, and the weights that it stands for."""
    state: State = {"scaled_fp8": torch.zeros(2, dtype=FP8)}
    meant = {}
    for key, weight in unet.items():
        state[key] = meant[key] = weight
        if weight.ndim == 2 and key.endswith(".weight"):
            scale = weight.abs().max() / torch.finfo(FP8).max
            state[key] = (weight / scale).to(FP8)
            state[key.removesuffix("weight") + "scale_weight"] = scale
            meant[key] = state[key].float() * scale
    return comfy.sd.load_diffusion_model_state_dict(state), meant


def unet_output(model: Any) -> Tensor:
    comfy.model_management.load_models_gpu([model])
    tokens = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1))
    return denoised(model.model, (tokens, {}), (4, 8, 8))


@torch.no_grad()
@pytest.mark.parametrize("stored", [as_fp8, as_scaled_fp8])
def test_fp8_weights_are_not_rounded_again(unet: State, stored: Callable[[State], tuple[Any, State]]) -> None:
    """Nearer to the exact result than a patch, whose weights are rounded to fp8 again, by an order of magnitude."""
    quantised, weights = stored(unet)
    exact = comfy.sd.load_diffusion_model_state_dict(dict(weights), model_options={"dtype": torch.float32})
    eraser = random_eraser(768, 20)
    expected = unet_output(erased_in_weights(exact, eraser))
    change = (expected - unet_output(exact)).norm()

    def error(erased: Any) -> float:
        return float((unet_output(erased) - expected).norm() / change)

    assert describe_application(Session.open(quantised)).startswith("The erasure runs inside the model")
    inside = apply_eraser(Session.open(quantised), EraserSet({"text": eraser}, {"architecture": "SD1"}), 1.0)
    assert inside.patches == {}
    errors = error(inside), error(erased_in_weights(quantised, eraser))
    print(f"{stored.__name__}: {errors[0]:.2g} inside the forward, {errors[1]:.2g} by a patch")
    assert 10 * errors[0] < errors[1]


def test_changes_of_other_weights_are_refused_where_a_patch_would_round_them_again(unet: State) -> None:
    quantised, _ = as_fp8(unet)
    parts = {
        "text": random_eraser(768, 20),
        "trained": WeightChange({"diffusion_model.out.2.weight": LowRank(torch.ones(4, 1), torch.ones(1, 2880))}),
    }
    with pytest.raises(UnsupportedModelError, match=r"changes more weights .* put it on the model in half precision"):
        apply_eraser(Session.open(quantised), EraserSet(parts, {"architecture": "SD1"}), 1.0)


@torch.no_grad()
@pytest.mark.parametrize("stored", [as_fp8, as_scaled_fp8])
def test_quantised_weights_are_read_as_what_they_stand_for(
    unet: State, stored: Callable[[State], tuple[Any, State]]
) -> None:
    quantised, weights = stored(unet)
    for key, weight in EffectiveWeights(quantised, keys_of(quantised), CPU).items():
        meant = weights[key.removeprefix("diffusion_model.")]
        # A number in fp8 is one in float32 too, and its product with the scale is rounded once, there and here.
        assert_within(weight, Rounded(meant, 2 * unit(torch.float32) * meant.double().abs()))


class PackedTensor(torch.Tensor):
    """A stand-in for tensors that other packs store quantised weights in: bytes, which say another shape."""

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.size(0), 40))


def test_weights_in_a_tensor_of_another_packs_own(model: Any) -> None:
    for key in keys_of(model):
        layer = model.model.get_submodule(key.removesuffix(".weight"))
        packed = torch.zeros(layer.weight.shape[0], 23, dtype=torch.uint8).as_subclass(PackedTensor)
        layer.weight = torch.nn.Parameter(packed, requires_grad=False)
    assert "because the model is quantised (PackedTensor)" in describe_application(Session.open(model))
    patched = apply_eraser(Session.open(model), EraserSet({"text": random_eraser(40)}, {"architecture": "SD1"}), 1.0)
    assert len(patched.object_patches) == len(keys_of(model))
    with pytest.raises(
        UnsupportedModelError, match=r"stored as PackedTensor of torch\.uint8, which this pack cannot read"
    ):
        EffectiveWeights(model, keys_of(model), CPU)[keys_of(model)[0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_plain_weights_are_patched(model: Any, dtype: torch.dtype) -> None:
    model.model.to(dtype)
    assert describe_application(Session.open(model)).startswith("The erasure is a patch of the model's weights")
    patched = apply_eraser(Session.open(model), EraserSet({"text": random_eraser(40)}, {"architecture": "SD1"}), 1.0)
    assert set(patched.patches) == set(keys_of(model))
    assert patched.object_patches == {}


def test_the_node_says_where_the_erasure_is() -> None:
    plain, compiled = (
        ApplyEraser.execute(one, EraserSet({"text": random_eraser(40)}, {"architecture": name}), 1.0)
        for one, name in ((CASE.model(), "SD1"), (compiled_in_place(), "Flux"))
    )
    assert "CheckpointSave and ModelSave write the erased weights" in str(plain.ui.as_dict())
    assert "CheckpointSave and ModelSave write the weights without it. Save the ERASER" in str(compiled.ui.as_dict())


def compiled_in_place() -> Any:
    """A MODEL as packs leave it that compile the diffusion model itself; the compiler's tracer runs, no C++ does."""
    model = COMPILED.model()
    model.model.diffusion_model = torch.compile(model.model.diffusion_model, backend="eager")
    return model


@pytest.fixture
def _compiler() -> Any:
    torch._dynamo.reset()
    yield
    comfy.model_management.unload_all_models()
    torch._dynamo.reset()


@pytest.mark.large
@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_a_model_that_was_compiled_in_place() -> None:
    eraser, plain = random_eraser(40), COMPILED.model()
    # This back end of the compiler runs the same operations.
    expected = [loaded_output(one, COMPILED) for one in (plain, erased_inside(plain, eraser))]
    assert not torch.equal(*expected)
    compiled = compiled_in_place()
    assert "because the model is compiled" in describe_application(Session.open(compiled))
    patched = apply_eraser(Session.open(compiled), EraserSet({"text": eraser}, {"architecture": "Flux"}), 1.0)
    assert patched.patches == {}
    for _ in range(2):
        assert torch.equal(loaded_output(compiled, COMPILED), expected[0])
        assert torch.equal(loaded_output(patched, COMPILED), expected[1])


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_the_compiler_notices_when_an_erasure_comes_and_goes() -> None:
    """In a graph of one piece, with nothing else to notice: forward hooks go unnoticed here."""
    base = torch.nn.Module()
    base.diffusion_model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    compiled, rows = torch.compile(base.diffusion_model, backend="eager"), torch.randn(3, 8)
    model = comfy.model_patcher.ModelPatcher(base, CPU, CPU)
    clones = [model, *(model.clone() for _ in range(2))]
    for seed, clone in enumerate(clones[1:]):
        add_forwards(clone, ("diffusion_model.0.weight",), random_eraser(8, seed=seed))
    outputs = []
    for clone in 2 * clones:
        clone.patch_model(device_to=CPU)
        outputs.append(base.diffusion_model(rows))
        assert torch.equal(compiled(rows), outputs[-1])
        clone.unpatch_model(device_to=CPU)
    assert not any(torch.equal(*pair) for pair in pairwise(outputs))


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
@pytest.mark.parametrize(
    ("put", "compiled_first"),
    [
        (erased_inside, True),
        pytest.param(erased_inside, False, marks=pytest.mark.large),
        pytest.param(erased_in_weights, True, marks=pytest.mark.large),
    ],
)
def test_what_the_stock_node_compiles(put: Callable[..., Any], compiled_first: bool) -> None:
    """The compiled code of one clone must not be run for another that is erased, or erased otherwise."""
    model, erasers = COMPILED.model(), (random_eraser(40, seed=1), random_eraser(40, seed=2))

    def compiled(one: Any) -> Any:
        clone = one.clone()
        set_torch_compile_wrapper(clone, backend="eager")
        return clone

    def erased(eraser: Eraser) -> Any:
        return put(compiled(model), eraser) if compiled_first else compiled(put(model, eraser))

    # This back end of the compiler runs the same operations.
    expected = [loaded_output(one, COMPILED) for one in (model, *(put(model, eraser) for eraser in erasers))]
    assert not any(torch.equal(*two) for two in combinations(expected, 2))
    clones = [compiled(model), *map(erased, erasers)]
    for _ in range(2):
        for clone, output in zip(clones, expected, strict=True):
            assert torch.equal(sampled_output(clone), output)


def sampled_output(model: Any) -> Tensor:
    """As `loaded_output`, with the wrappers that sampling hands to the model."""
    comfy.model_management.load_models_gpu([model])
    base, options = model.model, {"wrappers": model.wrappers}
    run = base.apply_model

    def with_wrappers(*args: Any, **kwargs: Any) -> Tensor:
        return run(*args, **{**kwargs, "transformer_options": options})

    base.apply_model = with_wrappers
    try:
        return denoised(base, COMPILED.prompt(seed=1), COMPILED.latent)
    finally:
        del base.apply_model
