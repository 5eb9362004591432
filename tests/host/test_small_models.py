"""Every architecture of the table, on a small random instance: what is patched is all that reads the text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.sd
import pytest
import torch
from bounds import Rounded, as_lora, assert_within, gamma, product
from network_bounds import network_rounding
from rece_pack.nodes.host.architectures.detection import Architecture, TextStream, architecture_of
from rece_pack.nodes.host.architectures.table import FAMILIES
from rece_pack.nodes.host.architectures.token_stages import LearnedPadding, Norm
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.erase_conditioning import erase_conditioning
from rece_pack.nodes.host.jobs.export_lora import lora_names, lora_tensors
from rece_pack.nodes.host.patching.forwards import add_forwards
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.text.reader import TextReader
from rece_pack.rece_ops import Eraser, EraserSet
from small_models import CPU, SMALL, SmallModel, denoised
from torch import Tensor

Entry = tuple[Tensor, dict[str, Any]]
Transform = Callable[[str, Tensor], Tensor]


@pytest.fixture(params=SMALL)
def case(request: pytest.FixtureRequest) -> SmallModel:
    small = SMALL[request.param]
    if not small.exists:
        pytest.skip("this ComfyUI does not know the architecture")
    return small


def random_erasers(architecture: Architecture) -> EraserSet:
    generator = torch.Generator().manual_seed(5)

    def one(dimension: int) -> Eraser:
        left, right = (torch.randn(dimension, 3, generator=generator) / dimension**0.5 for _ in range(2))
        return Eraser(left, right.T.contiguous())

    streams = {stream.name: one(stream.dimension) for stream in architecture.streams}
    return EraserSet(streams, {"architecture": architecture.name})


@contextmanager
def transformed(model: Any, architecture: Architecture, entry: Entry, transform: Transform) -> Iterator[Entry]:
    """The prompt with `transform` of every text stream's tokens, in CONDITIONING or behind the layer that comes first.

    Nothing is done to the projections, so that whatever else reads the text reads it transformed too.
    """
    embedding, values = entry[0].clone(), {**entry[1]}
    with ExitStack() as hooks:
        for stream in architecture.streams:
            sources = {source.slot: source for source in stream.sources}
            for source in sources.values():
                network = model.model.diffusion_model
                if isinstance(source.stage, LearnedPadding):
                    for block in network.blocks:
                        hooks.enter_context(_hooked(block.register_forward_pre_hook(_third(stream.name, transform))))
                    break
                norm = _named(network, source.stage.layer) if isinstance(source.stage, Norm) else None
                if norm is not None:
                    hooks.enter_context(_hooked(norm.register_forward_hook(_result(stream.name, transform))))
                elif not source.slot.key:
                    embedding = transform(stream.name, embedding)
                elif source.pooled:
                    values[source.slot.key] = transform(stream.name, values[source.slot.key])
                else:
                    held = values[source.slot.key].clone()
                    held[:, source.slot.layer] = transform(stream.name, held[:, source.slot.layer])
                    values[source.slot.key] = held
        yield embedding, values


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _third(name: str, transform: Transform) -> Callable[..., Any]:
    return lambda module, inputs: (*inputs[:2], transform(name, inputs[2]), *inputs[3:])


def _result(name: str, transform: Transform) -> Callable[..., Any]:
    return lambda module, inputs, output: transform(name, output)


def _named(network: Any, name: str) -> Any:
    for part in name.split("."):
        network = getattr(network, part, None)
    return network


def patched_output(model: Any, entry: Entry, case: SmallModel) -> Tensor:
    loaded = model.patch_model(device_to=CPU)
    try:
        return denoised(loaded, entry, case.latent)
    finally:
        model.unpatch_model(device_to=CPU)


def test_the_table_finds_the_streams(case: SmallModel) -> None:
    architecture = architecture_of(case.model())
    found = {stream.name: (stream.dimension, len(stream.keys)) for stream in architecture.streams}
    assert found == case.streams


def test_every_family_has_a_small_model() -> None:
    covered = {small.configuration for small in SMALL.values()}
    without = {family.name for family in FAMILIES if not covered & set(family.configurations)}
    assert without == {"SD2", "SDXL refiner"}, "these differ from SD1 and SDXL in size only; add a case for the others"


def in_weights(model: Any, erasers: EraserSet, entry: Entry, case: SmallModel) -> Tensor:
    patched = apply_eraser(Session.open(model), erasers, 1.0)
    assert patched.patches
    return patched_output(patched, entry, case)


def in_forwards(model: Any, erasers: EraserSet, entry: Entry, case: SmallModel) -> Tensor:
    patched = model.clone()
    for stream in architecture_of(model).streams:
        add_forwards(patched, stream.keys, erasers[stream.name])
    return patched_output(patched, entry, case)


def in_conditioning(model: Any, erasers: EraserSet, entry: Entry, case: SmallModel) -> Tensor:
    reader = TextReader(model, architecture_of(model))
    behind = [one.name for one in reader.architecture.streams if any(map(reader.stage, one.sources))]
    eraser = EraserSet(dict(erasers), {**erasers.metadata, "fronts": behind})
    if behind:
        with pytest.raises(WrongConnectionError, match=f"^{reader.architecture.name} reads the text through a norm"):
            erase_conditioning([list(entry)], eraser, 1.0)
        pytest.skip("tokens are erased behind a norm or a network")
    ((embedding, values),) = erase_conditioning([list(entry)], eraser, 1.0)
    return patched_output(model, (embedding, values), case)


@pytest.mark.parametrize("way", [in_weights, in_forwards, in_conditioning])
def test_an_erased_model_is_the_model_with_transformed_text(case: SmallModel, way: Callable[..., Tensor]) -> None:
    """All are sums of the same products, rounded in different places: as if the tokens had been rounded differently.

    W·T and T·c are sums of d + 3 products in float32 and less, so that in every order each number of a token is off by γ of
    that times the sizes of the products at most. What that does to a picture is measured on the model itself, with every
    number off by so much, up or down at random. It is far above what the roundings of the model's own layers do.
    """
    model = case.model()
    architecture = architecture_of(model)
    erasers, entry = random_erasers(architecture), case.prompt(seed=1)
    generator = torch.Generator().manual_seed(9)

    def exactly(name: str, tokens: Tensor) -> Tensor:
        return erasers[name].apply_to_context(tokens)

    def roughly(name: str, tokens: Tensor) -> Tensor:
        found, eraser = exactly(name, tokens), erasers[name]
        sizes = tokens.abs() + (tokens.abs() @ eraser.right.abs().T) @ eraser.left.abs().T
        signs = torch.randint(0, 2, found.shape, generator=generator) * 2 - 1
        return found + gamma(found.shape[-1] + 3, found.dtype) * sizes * signs

    before = denoised(model.model, entry, case.latent)
    with transformed(model, architecture, entry, exactly) as prompt:
        expected = denoised(model.model, prompt, case.latent)
    with transformed(model, architecture, entry, roughly) as prompt:
        rounded = float((denoised(model.model, prompt, case.latent) - expected).norm())
    found = way(model, erasers, entry, case)
    # There and here.
    assert float((found - expected).norm()) <= 2 * rounded
    assert float((before - expected).norm()) > 100 * rounded


def test_the_model_itself_is_bit_identical_afterwards(case: SmallModel) -> None:
    model = case.model()
    before = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    patched_output(
        apply_eraser(Session.open(model), random_erasers(architecture_of(model)), 1.0), case.prompt(seed=4), case
    )
    assert all(torch.equal(weight, before[key]) for key, weight in model.model.state_dict().items())


def test_the_reader_sees_what_the_projections_read(case: SmallModel) -> None:
    model = case.model()
    architecture = architecture_of(model)
    reader, (embedding, values) = TextReader(model, architecture), case.prompt(seed=2)

    def by_the_model(stream: TextStream) -> Tensor:
        inputs: list[Tensor] = []
        layer = model.model.get_submodule(stream.keys[0].removesuffix(".weight"))
        with _hooked(layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))):
            denoised(model.model, (embedding, values), case.latent)
        given = inputs[0][..., : stream.dimension] if stream.sliced else inputs[0]
        return given.reshape(-1, stream.dimension)

    def by_the_reader(stream: TextStream) -> Tensor:
        # Sources that share a slot lie in it one after the other, which takes a tokenizer to tell apart.
        sources = {source.slot: source for source in stream.sources}.values()
        return torch.cat(
            [reader.read(stream, source, reader.held(source, embedding, values), values) for source in sources]
        )

    def rows_of(way: Callable[[TextStream], Tensor], stream: TextStream, count: int) -> Tensor:
        return way(stream)[-count:]

    for stream in architecture.streams:
        expected = by_the_reader(stream)
        found = rows_of(by_the_model, stream, len(expected))
        if not any(map(reader.stage, stream.sources)):
            assert torch.equal(found, expected)
            continue
        # A norm or a network, in the model's own order of summation and in ours.
        rounding = sum(
            network_rounding(functools.partial(rows_of, way, stream, len(expected)), tries=1)
            for way in (by_the_model, by_the_reader)
        )
        assert float((found - expected).norm()) <= rounding < 2**-8 * float(expected.norm())


@pytest.mark.parametrize("name", ["Mochi", "LTX-Video"])
def test_tokens_that_the_mask_hides_are_not_read(name: str) -> None:
    case = SMALL[name]
    model, (embedding, values) = case.model(), case.prompt(seed=3)
    hidden = values["attention_mask"][0] == 0
    other = embedding.clone()
    other[:, hidden] = 1.0
    outputs = [denoised(model.model, (one, values), case.latent) for one in (embedding, other)]
    assert torch.equal(*outputs)
    other[:, ~hidden] = 1.0
    assert not torch.equal(denoised(model.model, (other, values), case.latent), outputs[0])


@torch.no_grad()
def test_the_stock_loader_reads_the_eraser_as_a_lora(case: SmallModel) -> None:
    model = case.model()
    architecture = architecture_of(model)
    erasers = random_erasers(architecture)
    tensors = lora_tensors(Session.open(model), erasers, 1.0, 0, torch.float32)
    names = lora_names(model, architecture, architecture.keys)
    loaded, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    for stream in architecture.streams:
        before, after = (Session.open(one).weights(stream) for one in (model, loaded))
        for key in stream.keys:
            up, down = (tensors[f"{names[key]}.lora_{side}.weight"] for side in ("up", "down"))
            down = down[:, : stream.dimension]
            left, right = (factor.double() for factor in (erasers[stream.name].left, erasers[stream.name].right))
            lora = as_lora(up, down, Rounded(before[key].double()) @ left @ right)
            summed = Rounded(lora.value, lora.error + product(up, down, torch.float32), torch.float32)
            assert_within(after[key], summed * 1.0 + before[key], key)
