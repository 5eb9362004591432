"""Contexts of every block: what pictures read in place of their prompts, in the pocket model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sd
import pytest
import torch
from rece_pack.nodes.host.training.block_contexts import BlockContexts, reading_blocks
from rece_pack.nodes.host.training.denoiser import Denoiser
from torch import Tensor

from benchmarks.audit.probes.block_tokens import with_contexts
from pocket_model.assemble import pocket_checkpoint

SHAPE, TOKENS, WIDTH = (3, 4, 8, 8), 77, 768


@pytest.fixture(scope="module")
def model(comfyui: Path) -> Any:
    model, *_ = comfy.sd.load_checkpoint_guess_config(str(pocket_checkpoint()))
    model.set_model_compute_dtype(torch.float32)
    comfy.model_management.load_models_gpu([model])
    return model


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predicted(model: Any, prompts: Tensor, own: Tensor | None = None) -> Tensor:
    """Of the same noise always; the first pictures have contexts of their own."""
    denoiser = Denoiser(model, SHAPE, model.load_device)
    patches = {} if own is None else BlockContexts(own, reading_blocks(model)).patches()
    with torch.no_grad():
        return denoiser.denoised_at(drawn(*SHAPE, seed=1), torch.full((3,), 5.0), prompts, {}, patches)


def test_the_blocks_are_those_that_the_host_names(model: Any) -> None:
    seen: list[tuple[str, int]] = []

    def look(read: Tensor, context: Tensor, value: Tensor, options: Any) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(tuple(options["block"]))
        return read, context, value

    with torch.no_grad():
        Denoiser(model, SHAPE, model.load_device).denoised_at(
            drawn(*SHAPE), torch.full((3,), 5.0), drawn(3, TOKENS, WIDTH), {}, {"attn2_patch": look}
        )
    assert sorted(seen) == sorted(reading_blocks(model))
    assert sorted(reading_blocks(model).values()) == list(range(len(seen)))


def test_a_context_that_is_the_same_in_all_blocks_is_a_prompt(model: Any) -> None:
    prompts, own = drawn(3, TOKENS, WIDTH), drawn(2, TOKENS, WIDTH, seed=2)
    blocks = len(reading_blocks(model))
    whole = predicted(model, torch.cat([own, prompts[2:]]))
    # The same numbers enter the same products.
    assert torch.equal(predicted(model, prompts, own[:, :, None].expand(-1, -1, blocks, -1)), whole)
    assert not torch.equal(predicted(model, prompts), whole)


def test_every_block_reads_its_own_and_other_pictures_read_their_prompts(model: Any) -> None:
    prompts, blocks = drawn(3, TOKENS, WIDTH), reading_blocks(model)
    own = prompts[:1, :, None].repeat(1, 1, len(blocks), 1)
    plain = predicted(model, prompts, own)
    for number in blocks.values():
        changed = own.clone()
        changed[:, 1:4, number] += 1.0
        found = predicted(model, prompts, changed)
        assert not torch.equal(found[0], plain[0]), number
        assert torch.equal(found[1:], plain[1:])


def test_nothing_is_hung_on_the_model_without_pictures(model: Any) -> None:
    assert BlockContexts(torch.zeros(0, TOKENS, 1, WIDTH), reading_blocks(model)).patches() == {}


def test_an_attack_in_every_block_leaves_the_negative_prompt_alone(model: Any) -> None:
    prompt, negative, other = (drawn(1, TOKENS, WIDTH, seed=seed) for seed in range(3))

    def pictures(sampled: Any, positive: Tensor) -> Tensor:
        conditions = [[[one.expand(2, -1, -1), {}]] for one in (positive, negative)]
        noise = drawn(2, *SHAPE[1:], seed=3)
        with torch.inference_mode():
            found: Tensor = comfy.sample.sample(
                sampled,
                noise,
                2,
                3.0,
                "euler",
                "simple",
                *conditions,
                torch.zeros_like(noise),
                disable_pbar=True,
                seed=0,
            )
        return found

    same = prompt[0, :, None].repeat(1, len(reading_blocks(model)), 1)
    wanted = pictures(model, prompt)
    # The same numbers enter the same products.
    assert torch.equal(pictures(with_contexts(model, same), other), wanted)
    assert torch.equal(pictures(model, prompt), wanted)
    same[5, -1] += 1.0
    assert not torch.equal(pictures(with_contexts(model, same), other), wanted)
