"""What a node says, before anything runs, of others that stand where they undo it; in both renderers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.rece_ops import Eraser, EraserSet

from tools.frontend import Frontend
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

AFTER = re.compile("'Load LoRA.*' changes the model after this erasure")
"""ComfyUI 0.33 calls the node 'Load LoRA (Model and CLIP)'."""
CLIP = "'CLIP Text Encode (Prompt)' encodes a prompt with another CLIP"
BASE = "The eraser was made on another model ('sd15.safetensors')"
EMPTY = (1000, 960)
"""A place of the canvas where neither a node nor the map is; a click there is something that a person did."""


def told(frontend: Frontend, count: int) -> list[str]:
    """What stands on the nodes, once it is so many sentences."""
    frontend.page.mouse.click(*EMPTY)
    frontend.page.wait_for_function(
        "(count) => document.querySelectorAll('.rece-report-order').length === count", arg=count, timeout=5000
    )
    return frontend.page.locator(".rece-report-order").all_inner_texts()


def loaded(frontend: Frontend, position: tuple[int, int] = (20, 100)) -> Any:
    return frontend.add("CheckpointLoaderSimple", position, ckpt_name="sd15.safetensors")


def erased(frontend: Frontend, loader: Any) -> Any:
    erase = frontend.add("RECE_EraseConcepts", (350, 100), concepts="hat")
    frontend.connect(loader, 0, erase, "model")
    frontend.connect(loader, 1, erase, "clip")
    return erase


def test_a_lora_after_an_erasure_is_told_of_until_it_is_bypassed_or_moved(frontend: Frontend) -> None:
    loader = loaded(frontend)
    erase = erased(frontend, loader)
    lora = frontend.add("LoraLoader", (800, 100))
    frontend.connect(erase, 0, lora, "model")
    frontend.connect(loader, 1, lora, "clip")
    assert AFTER.match(told(frontend, 1)[0])
    frontend.report(erase).get_by_text("Put it before this node.").wait_for()
    bypass = "([id, mode]) => { recetest.node(id).mode = mode }"
    frontend.page.evaluate(bypass, [lora, 4])
    told(frontend, 0)
    frontend.report(erase).wait_for(state="hidden")
    frontend.page.evaluate(bypass, [lora, 0])
    told(frontend, 1)
    # A report comes below, and a saved workflow says it again when it is opened.
    frontend.executed(erase, "one line")
    assert frontend.report(erase).locator("> div").all_inner_texts()[1:] == ["one line"]
    frontend.load(frontend.serialize())
    frontend.page.locator(".rece-report-order").wait_for()
    frontend.call("disconnect", [lora, "model"])
    frontend.connect(loader, 0, lora, "model")
    told(frontend, 0)


def test_prompts_of_another_clip_are_told_of(frontend: Frontend) -> None:
    loader = loaded(frontend)
    erase = erased(frontend, loader)
    skip = frontend.add("CLIPSetLastLayer", (20, 400))
    frontend.connect(loader, 1, skip, "clip")
    sampler = frontend.add("KSampler", (800, 300))
    frontend.connect(erase, 0, sampler, "model")
    for place, name in enumerate(("positive", "negative")):
        prompt = frontend.add("CLIPTextEncode", (350, 500 + 200 * place))
        frontend.connect(skip if name == "positive" else loader, 0 if name == "positive" else 1, prompt, "clip")
        frontend.connect(prompt, 0, sampler, name)
    assert told(frontend, 1)[0].startswith(CLIP)
    frontend.connect(skip, 0, erase, "clip")
    # Now it is the other prompt.
    assert told(frontend, 1)[0].startswith(CLIP)
    frontend.call("disconnect", [sampler, "negative"])
    told(frontend, 0)


def test_an_eraser_of_another_model_is_told_of_on_the_node_that_applies_it(frontend: Frontend) -> None:
    loader = loaded(frontend)
    erase = erased(frontend, loader)
    shape = frontend.add("RECE_ShapeEraser", (800, 100))
    apply = frontend.add("RECE_ApplyEraser", (800, 650))
    again = loaded(frontend, (20, 300))
    frontend.connect(erase, 1, shape, "eraser")
    frontend.connect(shape, 0, apply, "eraser")
    frontend.connect(again, 0, apply, "model")
    # The same file by another loader is the same model.
    told(frontend, 0)
    other = frontend.add("UNETLoader", (20, 500))
    frontend.connect(other, 0, apply, "model")
    assert told(frontend, 1)[0].startswith(BASE)


def test_a_file_for_another_architecture_is_told_of_before_anything_runs(
    frontend: Frontend, server: ComfyServer, checkpoint: Callable[[str], Path]
) -> None:
    server.link_model(checkpoint("sdxl"))
    factor = torch.ones(768, 1)
    eraser = EraserSet({"text": Eraser(factor, factor.T.contiguous())}, {"architecture": "SD1"})
    eraser.save(server.base / "models" / "erasers" / "for_sd1.safetensors")
    loader = loaded(frontend)
    lora = frontend.add("LoraLoaderModelOnly", (20, 400))
    load = frontend.add("RECE_LoadEraser", (20, 650), eraser_name="for_sd1.safetensors")
    shape = frontend.add("RECE_ShapeEraser", (400, 100))
    apply = frontend.add("RECE_ApplyEraser", (800, 100))
    frontend.connect(loader, 0, lora, "model")
    frontend.connect(lora, 0, apply, "model")
    frontend.connect(load, 0, shape, "eraser")
    with frontend.page.expect_response(lambda response: "/rece/misfit?" in response.url):
        frontend.connect(shape, 0, apply, "eraser")
        told(frontend, 0)
    told(frontend, 0)
    choose = "([id, value]) => { recetest.widget([id, 'ckpt_name']).value = value }"
    frontend.page.evaluate(choose, [loader, "sdxl.safetensors"])
    assert told(frontend, 1)[0].startswith(
        "'for_sd1.safetensors' was made for SD1 (768), but 'sdxl.safetensors' is SDXL (2048). Choose an eraser that"
    )
    frontend.report(apply).get_by_text("Choose an eraser that was made on the same base").wait_for()
    frontend.page.evaluate(choose, [loader, "sd15.safetensors"])
    told(frontend, 0)


def test_the_borders_of_a_subgraph_are_no_borders(frontend: Frontend) -> None:
    loader = loaded(frontend)
    erase = erased(frontend, loader)
    lora = frontend.add("LoraLoaderModelOnly", (800, 100))
    frontend.connect(erase, 0, lora, "model")
    told(frontend, 1)
    frontend.into_subgraph(erase)
    frontend.page.locator(".rece-report-order").wait_for()
    assert "changes the model after this erasure" in told(frontend, 1)[0]
