"""The patch in a MODEL's chain, in this process, with the host's own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from bounds import Rounded, applied, assert_within, within
from comfy.weight_adapter import LoRAAdapter
from rece_pack.nodes.combine_erasers import CombineErasers
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.patching.weight_patch import EraserAdapter
from rece_pack.nodes.host.patching.weights import EffectiveWeights
from rece_pack.nodes.host.session import Session
from rece_pack.rece_ops import Eraser, EraserSet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _without_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nodes run without gradients."""
    with torch.set_grad_enabled("trained" in request.node.name):
        yield


@pytest.fixture(scope="module")
def loaded(checkpoint: Callable[[str], Path]) -> tuple[Any, Any]:
    """MODEL and CLIP of the small SD1.5 checkpoint."""
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_vae=False)
    return model, clip


@pytest.fixture
def model(loaded: tuple[Any, Any]) -> Any:
    return loaded[0].clone()


def random_eraser(dimension: int = 768, rank: int = 5, seed: int = 0) -> EraserSet:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(dimension, rank, generator=generator) / dimension**0.5 for _ in range(2))
    return EraserSet({"text": Eraser(left, right.T.contiguous())}, {"architecture": "SD1"})


def random_lora(model: Any, seed: int = 1) -> dict[str, LoRAAdapter]:
    """A LoRA on every projection, as the stock loader would add it."""
    generator = torch.Generator().manual_seed(seed)
    patches = {}
    for key in keys_of(model):
        out, columns = model.model.state_dict()[key].shape
        up, down = torch.randn(out, 2, generator=generator) * 0.1, torch.randn(2, columns, generator=generator) * 0.1
        patches[key] = LoRAAdapter(set(), (up, down, 2.0, None, None, None))
    return patches


def keys_of(model: Any) -> tuple[str, ...]:
    return architecture_of(model).streams[0].keys


def chain_weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(EffectiveWeights(model, keys_of(model), CPU))


def loaded_weights(model: Any, **load: Any) -> dict[str, torch.Tensor]:
    """The weights as the host patches them into the module, which is then unpatched again."""
    patched = model.patch_model(device_to=CPU, **load)
    try:
        found = {key: patched.state_dict()[key].clone() for key in keys_of(model)}
    finally:
        model.unpatch_model(device_to=CPU)
    return found


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, Rounded]) -> None:
    """Equal up to the sums in float32 and one rounding to the stored dtype."""
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        assert_within(found[key], weight.to(found[key].dtype), key)


def erased(weight: torch.Tensor | Rounded, eraser: EraserSet, strength: float = 1.0) -> Rounded:
    """W·T_s, with the strength on a factor or on the change."""
    whole = weight if isinstance(weight, Rounded) else Rounded(weight)
    return (whole @ eraser["text"].left @ eraser["text"].right) * strength + whole


def with_lora(weight: Rounded, patch: LoRAAdapter, strength: float) -> Rounded:
    """W + s·α/r·up·down."""
    up, down, alpha, *_ = patch.weights
    return (Rounded(up) @ down) * (strength * alpha / down.shape[0]) + weight


def test_the_patch_is_w_times_t_at_any_strength(model: Any) -> None:
    eraser, before = random_eraser(), chain_weights(model)
    for strength in (1.0, 0.3, 2.0):
        expected = {key: erased(weight, eraser, strength) for key, weight in before.items()}
        assert_same_weights(loaded_weights(apply_eraser(Session.open(model), eraser, strength)), expected)


def test_strength_zero_queues_no_patch(model: Any) -> None:
    assert apply_eraser(Session.open(model), random_eraser(), 0.0).patches == model.patches


def test_the_source_model_is_untouched_and_unpatching_is_bit_identical(model: Any) -> None:
    stored = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    patched = apply_eraser(Session.open(model), random_eraser(), 1.0)
    assert model.patches == {}
    loaded_weights(patched)
    assert all(torch.equal(weight, stored[key]) for key, weight in model.model.state_dict().items())
    assert model.backup == {}


def test_a_lora_before_is_erased_and_a_lora_after_is_not(model: Any) -> None:
    eraser, lora = random_eraser(), random_lora(model)
    base = chain_weights(model)
    upstream = model.clone()
    assert upstream.add_patches(lora, 0.7)
    before = loaded_weights(apply_eraser(Session.open(upstream), eraser, 1.0))
    first = {key: erased(with_lora(Rounded(base[key]), lora[key], 0.7), eraser) for key in base}
    assert_same_weights(before, first)

    downstream = apply_eraser(Session.open(model), eraser, 1.0)
    downstream.add_patches(lora, 0.7)
    last = {key: with_lora(erased(base[key], eraser), lora[key], 0.7) for key in base}
    found = loaded_weights(downstream)
    assert_same_weights(found, last)
    # What makes the difference is far from rounding.
    assert not any(within(found[key], first[key].to(found[key].dtype)) for key in base)


def test_weights_are_read_as_they_stand_in_the_chain_even_while_another_clone_is_loaded(model: Any) -> None:
    expected = chain_weights(model)
    other = model.clone()
    other.add_patches(random_lora(model), 1.0)
    queued = chain_weights(other)
    other.patch_model(device_to=CPU)
    try:
        for key, weight in chain_weights(model).items():
            assert torch.equal(weight, expected[key]), key
        for key, weight in chain_weights(other).items():
            assert torch.equal(weight, queued[key]), key
    finally:
        other.unpatch_model(device_to=CPU)


def test_other_packs_patches_survive(model: Any) -> None:
    def attention_patch(q: Any, k: Any, v: Any, extra: Any) -> Any:
        return q, k, v

    model.set_model_attn2_patch(attention_patch)
    model.add_object_patch("latent_format", object())
    model.add_patches({"diffusion_model.out.2.bias": (torch.ones(4),)}, 0.5)
    patched = apply_eraser(Session.open(model), random_eraser(), 1.0)
    assert attention_patch in patched.model_options["transformer_options"]["patches"]["attn2_patch"]
    assert patched.object_patches == model.object_patches
    assert patched.patches["diffusion_model.out.2.bias"] == model.patches["diffusion_model.out.2.bias"]
    assert set(patched.patches) - set(model.patches) == set(keys_of(model))


def test_partial_loading_computes_the_same_layers(model: Any) -> None:
    """With room for nothing, the host patches every weight when its layer runs, through `LowVramPatch`."""
    eraser = random_eraser()
    patched = apply_eraser(Session.open(model), eraser, 1.0)
    key = keys_of(patched)[0]
    context = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(3)).to(patched.model.get_dtype())

    def output() -> torch.Tensor:
        layer = patched.model.get_submodule(key.removesuffix(".weight"))
        return layer(context)

    patched.patch_model(device_to=CPU)
    full = output()
    patched.unpatch_model(device_to=CPU)
    patched.patch_model(device_to=CPU, lowvram_model_memory=1)
    try:
        assert patched.model.model_lowvram
        partial = output()
    finally:
        patched.unpatch_model(device_to=CPU)
    unpatched = output()
    # Both round the weight to its dtype once, and sum up products of it in float32 at least.
    weight = erased(chain_weights(model)[key], eraser).to(context.dtype)
    weight.dtype = torch.float32
    expected = (Rounded(context[0], dtype=torch.float32) @ weight.T).to(context.dtype)
    assert_within(full[0], expected)
    assert_within(partial[0], expected)
    assert not within(unpatched[0], expected)


def test_the_adapter_is_rebuilt_from_its_weights() -> None:
    """The low-VRAM path moves `weights` and calls the constructor with nothing else."""
    eraser = random_eraser(16, 2)["text"]
    adapter = EraserAdapter(set(), (eraser.left, eraser.right))
    rebuilt = type(adapter)(adapter.loaded_keys, adapter.weights)
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    for one in (adapter, rebuilt):
        found = comfy.lora.calculate_weight([(1.0, one, 1.0, None, None)], weight.clone(), "key")
        assert_within(found, applied(weight, eraser.left, eraser.right))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_adapter_returns_the_dtype_it_was_given_and_honours_slices(dtype: torch.dtype) -> None:
    eraser = random_eraser(16, 2)["text"]
    adapter = EraserAdapter(set(), (eraser.left, eraser.right))
    weight = torch.randn(4, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    sliced = comfy.lora.calculate_weight([(0.5, adapter, 1.0, (1, 8, 16), None)], weight.clone(), "key")
    assert sliced.dtype == dtype
    assert torch.equal(sliced[:, :8], weight[:, :8])
    part = Rounded(weight[:, 8:].float())
    assert_within(sliced[:, 8:], ((part @ eraser.left @ eraser.right) * 0.5 + part).to(dtype))


def test_the_patched_model_can_be_trained_on(model: Any) -> None:
    """Nodes run under inference mode; the patch must not drag that into a training node."""
    with torch.inference_mode():
        patched = apply_eraser(Session.open(model), random_eraser(), 1.0)
    (_, adapter, *_), *_ = patched.patches[keys_of(model)[0]]
    weight = torch.nn.Parameter(torch.randn(3, 768))
    (weight @ adapter.weights[0]).sum().backward()
    assert weight.grad is not None


def test_an_eraser_of_another_model_is_refused(model: Any) -> None:
    foreign = EraserSet({"text": Eraser.identity(2048)}, {"architecture": "SDXL"})
    with pytest.raises(WrongConnectionError, match=r"made for SDXL \(text dimension 2048\), but the MODEL is SD1"):
        apply_eraser(Session.open(model), foreign, 1.0)
    with pytest.raises(WrongConnectionError, match="made for another model"):
        apply_eraser(Session.open(model), EraserSet({"pooled": Eraser.identity(768)}), 1.0)


def test_erasers_of_two_architectures_are_not_combined() -> None:
    """Also where both have the same streams: T5 gives tokens of one size to many models."""
    one, other = (EraserSet({"text": Eraser.identity(8)}, {"architecture": name}) for name in ("Flux", "Chroma"))
    with pytest.raises(WrongConnectionError, match="made on Chroma and Flux, which read different text"):
        CombineErasers.execute(one, other, 1.0, 1.0)
