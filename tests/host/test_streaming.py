"""A projection of many concepts holds no more encoded prompts than one of few."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import torch
from rece_pack.nodes.concept_lines import ConceptLine
from rece_pack.nodes.erasure_request import ErasureRequest
from rece_pack.nodes.host import device
from rece_pack.nodes.host.erasing import run_erasure
from rece_pack.nodes.host.text import EncodedPrompt
from rece_pack.rece_ops import ProjectionSettings


@pytest.fixture(scope="module")
def loaded(checkpoint: Callable[[str], Path]) -> tuple[Any, Any]:
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_vae=False)
    return model, clip


@torch.inference_mode()
def test_encoded_prompts_do_not_pile_up(loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each concept is kept once, as the pair that is measured; in none of its six contexts."""
    alive: list[int] = []

    def counted(self: device.Progress, *_: object) -> None:
        alive.append(sum(isinstance(one, EncodedPrompt) for one in gc.get_objects()))

    monkeypatch.setattr(device.Progress, "step", counted)
    most = {}
    for count in (1, 6):
        alive.clear()
        gc.collect()
        lines = [ConceptLine(f"thing {number}", "art") for number in range(count)]
        run_erasure(*loaded, ErasureRequest(lines, [], ProjectionSettings(), "none"))
        most[count] = max(alive)
    # Five more concepts, and no other prompt.
    assert most[6] - most[1] <= 5
