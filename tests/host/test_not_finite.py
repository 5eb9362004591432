"""What is not finite never gets into a MODEL, a CONDITIONING or a file: strengths, products and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import pytest
import torch
from rece_pack.nodes.apply_eraser import ApplyEraser
from rece_pack.nodes.apply_eraser_to_conditioning import ApplyEraserToConditioning
from rece_pack.nodes.attacks.concept_vector import ConceptVector
from rece_pack.nodes.attacks.derive_embedding import DeriveEmbedding
from rece_pack.nodes.combine_erasers import CombineErasers
from rece_pack.nodes.erase_concepts import EraseConcepts
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.errors import NotFiniteError
from rece_pack.nodes.host.jobs.export_lora import lora_tensors
from rece_pack.nodes.host.patching.forwards import Transform, add_forwards
from rece_pack.nodes.host.patching.weight_patch import EraserAdapter, HalfEraserAdapter, add_weight_patches
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.save_eraser_as_lora import SaveEraserAsLoRA
from rece_pack.rece_ops import Eraser, EraserSet, InputError
from small_models import CPU, SMALL, denoised
from torch import Tensor

from tools.client import ExecutionError, PromptRejected
from tools.graph import Graph
from tools.server import ComfyServer

CASE = SMALL["SD1"]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    """Nodes run without gradients."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> Any:
    return CASE.model()


def random_eraser(dimension: int = 40, rank: int = 3, size: float = 1.0) -> Eraser:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(dimension, rank, generator=generator) / dimension**0.5 for _ in range(2))
    return Eraser(left * size, right.T.contiguous())


def erasers(size: float = 1.0) -> EraserSet:
    return EraserSet({"text": random_eraser(size=size)}, {"architecture": "SD1"})


TOKENS = torch.ones(1, 5, 40)
CALLS: dict[str, Callable[[Any, float], Any]] = {
    "strength of 'Apply Eraser'": lambda model, bad: ApplyEraser.execute(model, erasers(), bad),
    "strength of 'Apply to Conditioning'": lambda model, bad: ApplyEraserToConditioning.execute(
        [[TOKENS, {}]], erasers(), bad
    ),
    "strength of 'Erase Concepts'": lambda model, bad: EraseConcepts.execute(
        model, None, "nude", "UCE only", strength=bad
    ),
    "strength of 'Save Eraser as LoRA'": lambda model, bad: SaveEraserAsLoRA.execute(
        model, erasers(), "not_finite", "replace", bad, 0, "float32"
    ),
    "strength_first of 'Combine Erasers'": lambda model, bad: CombineErasers.execute(erasers(), erasers(), bad, 1.0),
    "strength_second of 'Combine Erasers'": lambda model, bad: CombineErasers.execute(erasers(), erasers(), 1.0, bad),
    "scale of 'Concept Vector'": lambda model, bad: ConceptVector.execute([[TOKENS, {}]], None, "a -> b", bad),
    "regularization of 'Derive Embedding'": lambda model, bad: DeriveEmbedding.execute(
        model, None, "nude", bad, erasers()
    ),
}


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("call", CALLS)
def test_a_number_that_is_not_finite_is_named_before_any_work(model: Any, call: str, bad: float) -> None:
    """The CLIP is None: that an encoder is missing would be said next."""
    name = call.split(" of ")[0]
    with pytest.raises(InputError, match=f"^{name} is {bad}: give a number"):
        CALLS[call](model, bad)


def test_a_strength_at_which_the_erasure_overflows_is_named(model: Any) -> None:
    with pytest.raises(InputError, match=r"The eraser at strength 1e\+38 "):
        ApplyEraser.execute(model, erasers(1e3), 1e38)
    with pytest.raises(InputError, match=r"The eraser at strength 1e\+38 "):
        ApplyEraserToConditioning.execute([[TOKENS, {}]], erasers(1e3), 1e38)


def test_combining_with_itself_at_strength_two_ends_in_a_sentence() -> None:
    def combined(eraser: EraserSet, times: int) -> EraserSet:
        for _ in range(times):
            eraser = CombineErasers.execute(eraser, eraser, 2.0, 2.0)[0]
        return eraser

    assert combined(erasers(1e3), 2)["text"].matrix().isfinite().all()
    with pytest.raises(InputError, match="lower the strength, or make the eraser again"):
        combined(erasers(1e3), 40)


def patched(adapter: EraserAdapter, weight: Tensor, strength: float = 1.0) -> Tensor:
    return comfy.lora.calculate_weight([(strength, adapter, 1.0, None, None)], weight.clone(), "blocks.0.to_k.weight")


# Large numbers of one sign, that add up.
ONES = Eraser(torch.full((40, 1), 1.0), torch.full((1, 40), 1.0))
DENSE = Eraser(torch.ones(40, 40))


@pytest.mark.parametrize("eraser", [ONES, DENSE], ids=["thin", "dense"])
@pytest.mark.parametrize(
    ("kind", "stored", "computed"),
    [
        (HalfEraserAdapter, torch.float16, torch.float32),
        (HalfEraserAdapter, torch.float16, torch.float16),
        (EraserAdapter, torch.bfloat16, torch.float32),
        (EraserAdapter, torch.bfloat16, torch.bfloat16),
        (EraserAdapter, torch.float32, torch.float32),
    ],
)
def test_a_weight_that_its_dtype_cannot_hold_is_not_written(
    eraser: Eraser, kind: type[EraserAdapter], stored: torch.dtype, computed: torch.dtype
) -> None:
    """Computed in float32 and rounded by the host, or computed as it is stored (the low-VRAM path)."""
    adapter = kind(set(), tuple(factor for factor in eraser.factors() if factor is not None))
    largest = torch.finfo(stored).max
    weight = torch.full((3, 40), largest / 50, dtype=computed)
    assert patched(adapter, weight).to(stored).isfinite().all()
    weight = torch.full((3, 40), largest / 30, dtype=computed)
    with pytest.raises(
        NotFiniteError, match=r"strength 1, the erasure makes the weight 'blocks.0.to_k.weight'.* too large"
    ):
        patched(adapter, weight)
    if stored == torch.float16:  # the others have no room in float32 for what the strength would make smaller
        assert patched(adapter, weight, 0.5).to(stored).isfinite().all()


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("eraser", [ONES, DENSE], ids=["thin", "dense"])
def test_a_weight_that_was_not_finite_is_told_from_one_that_the_erasure_made_so(eraser: Eraser, bad: float) -> None:
    weight = torch.ones(3, 40)
    weight[1, 2] = bad
    adapter = EraserAdapter(set(), tuple(factor for factor in eraser.factors() if factor is not None))
    with pytest.raises(NotFiniteError, match="holds NaN or infinite values before the erasure"):
        patched(adapter, weight)


def test_weights_stored_in_half_precision_get_the_adapter_that_knows_its_end(model: Any) -> None:
    keys = architecture_of(model).streams[0].keys
    for dtype, kind in ((torch.float32, EraserAdapter), (torch.float16, HalfEraserAdapter)):
        other = CASE.model()
        other.model.to(dtype)
        add_weight_patches(other, [keys[0], (keys[1], (1, 0, 40))], random_eraser(), 1.0)
        assert {type(other.patches[key][0][1]) for key in keys[:2]} == {kind}


def test_a_model_in_half_precision_near_its_end_is_not_loaded_with_infinite_weights() -> None:
    other = CASE.model()
    keys = architecture_of(other).streams[0].keys
    other.model.to(torch.float16)
    other.model.get_submodule(keys[0].removesuffix(".weight")).weight.fill_(60000)
    add_weight_patches(other, keys, ONES, 1.0)
    with pytest.raises(NotFiniteError, match=r"float16, which ends at 6\.55e"):
        other.patch_model(device_to=CPU)
    other.unpatch_model(device_to=CPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_that_become_infinite_inside_the_model_are_refused(dtype: torch.dtype) -> None:
    transform, rows = Transform(ONES), torch.full((2, 48), torch.finfo(dtype).max / 30, dtype=dtype)
    with pytest.raises(NotFiniteError, match=r"token embeddings of up to .* too large for float"):
        transform.of_tokens(rows)
    with pytest.raises(NotFiniteError, match=r"weights of up to .* too large for float"):
        transform.of_weight(rows)
    rows[0, 0] = NAN
    with pytest.raises(NotFiniteError, match="token embeddings hold NaN or infinite values before the erasure"):
        transform.of_tokens(rows)


def test_the_same_rows_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("rece_pack.nodes.host.patching.forwards._check", lambda before, after, what: seen.append(what))
    transform, rows = Transform(ONES), torch.ones(2, 40)
    for _ in range(3):
        transform.of_tokens(rows)
    assert len(seen) == 1
    transform.of_tokens(torch.ones(2, 40))
    assert len(seen) == 2


def test_a_model_with_an_erasure_inside_refuses_what_overflows() -> None:
    other = CASE.model()
    patched = other.clone()
    add_forwards(patched, architecture_of(other).streams[0].keys, ONES)
    tokens, values = CASE.prompt(seed=1)
    comfy.model_management.load_models_gpu([patched])
    try:
        with pytest.raises(NotFiniteError, match="token embeddings of up to"):
            denoised(patched.model, (torch.full_like(tokens, 1e37), values), CASE.latent)
    finally:
        comfy.model_management.unload_all_models()


@pytest.mark.parametrize("place", ["", "pooled_output"])
def test_conditioning_that_would_be_infinite_is_not_handed_on(place: str) -> None:
    large = torch.full((1, 40), 60000.0).half()
    entry = [large[None], {}] if not place else [TOKENS, {place: large}]
    both = EraserSet({"text": ONES, "pooled": ONES}, {"architecture": "SDXL"})
    with pytest.raises(NotFiniteError, match="up to 6e"):
        ApplyEraserToConditioning.execute([entry], both, 1.0)


def test_a_lora_that_its_dtype_cannot_hold_is_not_written(model: Any) -> None:
    keys = architecture_of(model).streams[0].keys
    other = model.clone()
    other.add_patches({key: (torch.full_like(model.model.state_dict()[key], 1e10),) for key in keys})
    with pytest.raises(NotFiniteError, match=r"dtype is float16, which ends at .* choose float32"):
        lora_tensors(Session.open(other), erasers(1e5), 1.0, 0, torch.float16)
    whole = lora_tensors(Session.open(other), erasers(1e5), 1.0, 0, torch.float32)
    assert all(factor.isfinite().all() for factor in whole.values())


@pytest.fixture(scope="module")
def load(server: ComfyServer, checkpoint: Callable[[str], Path]) -> Callable[[str], str]:
    return lambda kind: server.link_model(checkpoint(kind))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_server_refuses_such_strengths(server: ComfyServer, load: Callable[[str], str], bad: float) -> None:
    """JSON as Python writes it holds NaN and Infinity; the host's own limits let NaN through."""
    graph = Graph()
    loaded = graph.load(load("sd15"))
    erased = graph.node(
        "RECE_EraseConcepts", model=loaded.out(0), clip=loaded.out(1), concepts="nude", preset="UCE only", strength=bad
    )
    graph.node("PreviewAny", source=erased.out(2))
    with pytest.raises((ExecutionError, PromptRejected)) as caught:
        server.run(graph.prompt)
    if bad != bad:
        assert "strength is nan: give a number" in str(caught.value)
