"""The trained weights that the repository keeps."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from pocket_model.compact import UNET, VAE, WEIGHTS


def test_the_trained_weights_are_small_enough_and_stay_out_of_the_registry(root: Path) -> None:
    assert WEIGHTS.stat().st_size <= 20_000_000
    assert "pocket_model/" in (root / ".comfyignore").read_text(encoding="utf-8").splitlines()


def test_the_trained_weights_are_finite() -> None:
    for name, tensor in load_file(WEIGHTS).items():
        assert name.startswith((UNET, VAE))
        if tensor.is_floating_point():
            assert tensor.isfinite().all(), name
