"""The trained weights that the repository keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocket_model.assemble import text_encoder_weights
from pocket_model.compact import IMAGE, TEXT, TEXT_WEIGHTS, UNET, VAE, WEIGHTS
from pocket_model.networks import encode
from pocket_model.recipe import RECIPE
from pocket_model.text_network import token_ids
from pocket_model.train_text import text_network

DIGESTS = {
    WEIGHTS: "f462a26303abd41abc446d17e1f3fb1736621b8276bb1841609374dbd0286d61",
    TEXT_WEIGHTS: "2eb4147194924dbf3810102e74f122fb5bf78c195477aa22a8e92dc4048bd8b3",
}
OF = {WEIGHTS: (UNET, VAE), TEXT_WEIGHTS: (TEXT, IMAGE)}


def test_the_trained_weights_are_small_enough_and_stay_out_of_the_registry(root: Path) -> None:
    assert sum(path.stat().st_size for path in (root / "pocket_model").glob("*.safetensors")) <= 26_000_000
    assert "pocket_model/" in (root / ".comfyignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.name)
def test_the_trained_weights_are_those_that_were_measured(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DIGESTS[path]


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.name)
def test_the_trained_weights_are_finite(path: Path) -> None:
    for name, tensor in load_file(path).items():
        assert name.startswith(OF[path])
        if tensor.is_floating_point():
            assert tensor.isfinite().all(), name


def test_comfyui_reads_what_the_trained_text_encoder_says(comfyui: Path) -> None:
    import comfy.sd

    weights = {name.removeprefix("cond_stage_model.transformer."): w for name, w in text_encoder_weights().items()}
    clip = comfy.sd.load_text_encoder_state_dicts([weights], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)
    texts = [
        "",
        "ruby",
        "a photo of Zorro Quill on a black background in a downpour",
        "a dog in a park, highly detailed",
    ]
    expected = encode(clip, texts)
    with torch.inference_mode():
        found = text_network(RECIPE.seed)(token_ids(texts))
    assert found.shape == expected.shape
    # Every matrix of the merged encoder is rounded to float16 once more, by 2^-11 at most. The two matrices that follow
    # each other in each half of a layer add to the residual stream, whose parts are each no longer than the whole.
    layers, halves, matrices = 12, 2, 2
    assert (found - expected).norm() / expected.norm() < layers * halves * matrices * 2**-11
