"""An ERASER on CONDITIONING: which values of an entry change, how, and what is refused. See test_small_models too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bounds import Rounded, assert_within
from rece_pack.nodes.apply_eraser_to_conditioning import ApplyEraserToConditioning
from rece_pack.nodes.combine_erasers import CombineErasers
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.rece_ops import Eraser, EraserSet
from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_eraser(dimension: int, seed: int = 0) -> Eraser:
    return Eraser(*(random(*shape, seed=seed + place) for place, shape in enumerate(((dimension, 2), (2, dimension)))))


def erased(conditioning: Any, eraser: EraserSet, strength: float = 1.0) -> Any:
    return ApplyEraserToConditioning.execute(conditioning, eraser, strength)[0]


def expected(eraser: Eraser, rows: Tensor, strength: float = 1.0) -> Rounded:
    whole = Rounded(rows, dtype=torch.float32)
    return ((whole @ eraser.right.T @ eraser.left.T) * strength + whole).to(rows.dtype)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.0])
def test_tokens_of_every_entry_and_batch_are_transformed_in_copies(strength: float) -> None:
    eraser = EraserSet({"text": random_eraser(8)}, {"architecture": "SD1"})
    entries = [[random(2, 5, 8), {"area": (1, 2), "pooled_output": random(2, 6)}], [random(1, 7, 8, seed=1), {}]]
    before = [embedding.clone() for embedding, _ in entries]
    found = erased(entries, eraser, strength)
    for (embedding, values), (given, kept), original in zip(found, entries, before, strict=True):
        assert_within(embedding, expected(eraser["text"], original, strength))
        assert torch.equal(given, original)
        assert values == kept
        assert values is not kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_stays_and_the_sums_are_made_in_float32(dtype: torch.dtype) -> None:
    eraser, rows = random_eraser(64), random(1, 5, 64).to(dtype)
    ((found, _),) = erased([[rows, {}]], EraserSet({"text": eraser}))
    assert found.dtype == dtype
    assert_within(found, expected(eraser, rows))


def test_every_layer_of_llama_has_its_own_transform_and_t5_too() -> None:
    erasers = {"llama.1": random_eraser(8, 1), "llama.3": random_eraser(8, 2), "t5xxl": random_eraser(8, 3)}
    tokens, layers = random(2, 5, 8), random(2, 4, 6, 8, seed=1)
    ((found, values),) = erased(
        [[tokens, {"conditioning_llama3": layers}]], EraserSet(erasers, {"architecture": "HiDream"})
    )
    assert_within(found, expected(erasers["t5xxl"], tokens))
    changed = values["conditioning_llama3"]
    assert_within(changed[:, 1], expected(erasers["llama.1"], layers[:, 1]))
    assert_within(changed[:, 3], expected(erasers["llama.3"], layers[:, 3]))
    assert torch.equal(changed[:, [0, 2]], layers[:, [0, 2]])
    assert torch.equal(layers, random(2, 4, 6, 8, seed=1))


def test_the_pooled_output_is_transformed_where_there_is_one() -> None:
    eraser = EraserSet({"text": random_eraser(8), "pooled": random_eraser(4, 1)}, {"architecture": "SDXL"})
    pooled = random(2, 6, seed=2)
    values = [{"pooled_output": pooled}, {"pooled_output": None}, {}]
    found = [one[1] for one in erased([[random(2, 5, 8), one] for one in values], eraser)]
    assert_within(found[0]["pooled_output"][:, :4], expected(eraser["pooled"], pooled[:, :4]))
    assert torch.equal(found[0]["pooled_output"][:, 4:], pooled[:, 4:])
    assert found[1:] == values[1:]
    assert torch.equal(pooled, random(2, 6, seed=2))


def test_an_eraser_tells_whether_there_was_a_norm_before_it() -> None:
    """Flux models have one or have none; erasers from before this was recorded are judged by the table."""
    text, tokens = {"text": random_eraser(8)}, random(1, 5, 8)
    ((found, _),) = erased([[tokens, {}]], EraserSet(text, {"architecture": "Flux", "fronts": []}))
    assert_within(found, expected(text["text"], tokens))
    for metadata in ({"architecture": "Flux"}, {"architecture": "Flux", "fronts": ["text"]}):
        with pytest.raises(
            WrongConnectionError, match=r"^Flux reads the text through a norm.*'Apply Eraser' on the MODEL"
        ):
            erased([[tokens, {}]], EraserSet(text, metadata))


def test_combined_erasers_still_tell_it() -> None:
    def combined(*fronts: Any) -> Any:
        parts = [
            EraserSet({"text": random_eraser(8)}, {"architecture": "Flux", **({} if one is None else {"fronts": one})})
            for one in fronts
        ]
        return CombineErasers.execute(*parts, 1.0, 1.0)[0].metadata.get("fronts")

    assert combined([], []) == []
    assert combined([], ["text"]) == ["text"]
    assert combined([], None) is None


TOKENS = random(1, 5, 8)
HIDREAM = EraserSet({"llama.2": random_eraser(8), "t5xxl": random_eraser(8)}, {"architecture": "HiDream"})
REFUSED = {
    "no conditioning": (None, EraserSet({"text": random_eraser(8)}), "CONDITIONING is None or empty: connect"),
    "dimension": (
        [[TOKENS, {}]],
        EraserSet({"text": random_eraser(16)}, {"architecture": "SD2"}),
        r"of dimension 8, but this ERASER \(SD2\) is for 16: encode the prompt with the CLIP",
    ),
    "second entry": (
        [[TOKENS, {}], [random(1, 5, 9), {}]],
        EraserSet({"text": random_eraser(8)}, {"architecture": "SD1"}),
        "of dimension 9, but",
    ),
    "no source": ([[TOKENS, {}]], HIDREAM, "CONDITIONING has no 'conditioning_llama3', which HiDream reads"),
    "no layer": (
        [[TOKENS, {"conditioning_llama3": random(1, 2, 5, 8)}]],
        HIDREAM,
        r"is \[1, 2, 5, 8\], which has no layer 2 in",
    ),
    "pooled": (
        [[TOKENS, {"pooled_output": random(1, 3)}]],
        EraserSet({"text": random_eraser(8), "pooled": random_eraser(4)}, {"architecture": "SDXL"}),
        r"pooled output of CONDITIONING has 3 numbers, but this ERASER \(SDXL\) is for 4: encode",
    ),
    "network": (
        [[TOKENS, {}]],
        EraserSet({"text": random_eraser(8)}, {"architecture": "HunyuanDiT"}),
        "HunyuanDiT reads the text through a norm or a network",
    ),
    "streams": (
        [[TOKENS, {}]],
        EraserSet({"sound": random_eraser(8)}, {"architecture": "SD1"}),
        "has the text streams sound, but SD1 has text: use an eraser",
    ),
    "unknown": (
        [[TOKENS, {}]],
        EraserSet({"t5xxl": random_eraser(8)}),
        "made for a model that it does not name, so it is not known",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused_in_a_sentence(case: str) -> None:
    conditioning, eraser, message = REFUSED[case]
    with pytest.raises(WrongConnectionError, match=message):
        erased(conditioning, eraser)
