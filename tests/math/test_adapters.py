"""Adapters after cross-attentions as a part of an eraser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bounds import gamma, unit
from rece_pack.rece_ops import Adapter, Adapters, Eraser, EraserFileError, EraserSet, InputError, Provenance
from rece_pack.rece_ops.formats.eraser_file import write_eraser_file
from rece_pack.rece_ops.formats.parts import StoredPart
from torch import Tensor

LAYER, OTHER = (f"diffusion_model.{block}.1.transformer_blocks.0.attn2" for block in ("middle_block", "input_blocks.4"))


def random_adapter(dimension: int = 6, width: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((width, dimension), (width,), (dimension, width), (dimension,))
    return Adapter(*(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes))


def tokens(dimension: int = 6) -> Tensor:
    return torch.randn(3, 5, dimension, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def rounding(adapter: Adapter, written: Tensor) -> Tensor:
    """How far an adapter's outputs may be from exact ones, in float64.

    The slope of GELU is at most 1.13, and its own evaluation (erf, a sum and two products) takes less than 16 roundings of
    |h|, of which it is at most.
    """
    down, down_bias, up, up_bias = adapter
    sizes = written.abs() @ down.abs().T + down_bias.abs()
    inner = 1.13 * gamma(down.shape[1] + 1) * sizes + 16 * unit(torch.float64) * sizes
    return inner @ up.abs().T + gamma(up.shape[1] + 1) * (sizes @ up.abs().T + up_bias.abs())


def assert_near(found: Tensor, exact: Tensor, bound: Tensor) -> None:
    assert ((found - exact).abs() <= bound).all()
    # So small a bound would find any mistake.
    assert bound.max() < 1e-11 < exact.abs().max()


def test_it_is_two_layers_with_a_gelu_between_them() -> None:
    adapter, written = random_adapter(), tokens()
    down, down_bias, up, up_bias = adapter
    inner = written @ down.T + down_bias
    inner = inner / 2 * (1 + torch.erf(inner / 2**0.5))
    assert_near(adapter.of(written), inner @ up.T + up_bias, 2 * rounding(adapter, written))


def test_strength_scales_what_it_adds() -> None:
    adapter, written = random_adapter(), tokens()
    # A power of two rounds nothing.
    assert torch.equal(Adapters({LAYER: adapter}).scaled(0.5).adapters[LAYER].of(written), adapter.of(written) / 2)
    assert not Adapters({LAYER: adapter}).scaled(0.0).adapters[LAYER].of(written).any()


def test_two_are_combined_side_by_side_in_any_order() -> None:
    one, other, written = random_adapter(), random_adapter(width=3, seed=1), tokens()
    bound = 2 * (rounding(one, written) + rounding(other, written))
    bound += gamma(2) * (one.of(written).abs() + other.of(written).abs())
    expected = one.of(written) + other.of(written)
    for first, second in ((one, other), (other, one)):
        joined = (Adapters({LAYER: first}) @ Adapters({LAYER: second, OTHER: second})).adapters
        assert list(joined) == [LAYER, OTHER]
        assert joined[LAYER].width == 7
        assert_near(joined[LAYER].of(written), expected, bound)
        assert all(map(torch.equal, joined[OTHER], second))


def test_erasers_with_them_are_scaled_and_combined() -> None:
    one = EraserSet({"adapters": Adapters({LAYER: random_adapter()})})
    (both,) = one.scaled(0.5).combined(one.scaled(0.25), {}).adapters.values()
    assert both.adapters[LAYER].width == 8
    assert torch.equal(both.adapters[LAYER].up_bias, 0.75 * random_adapter().up_bias)
    smaller = EraserSet({"adapters": Adapters({LAYER: random_adapter(5)})})
    with pytest.raises(InputError, match="tokens of 6 numbers in one ERASER and of 5 in the other"):
        one.combined(smaller, {})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_they_are_saved_and_loaded_beside_a_transform(tmp_path: Path, dtype: torch.dtype) -> None:
    adapters = Adapters({LAYER: random_adapter(dtype=dtype), OTHER: random_adapter(3, 2, 1, dtype)})
    whole = EraserSet({"text": Eraser.identity(5), "adapters": adapters}, {"method": "Receler"})
    loaded = EraserSet.load(whole.save(tmp_path / "e.safetensors"))
    assert list(loaded) == ["text", "adapters"]
    assert loaded.has_other_parts
    assert not loaded.changes_weights
    (found,) = loaded.adapters.values()
    assert list(found.adapters) == [LAYER, OTHER]
    for layer, adapter in adapters.adapters.items():
        assert all(map(torch.equal, found.adapters[layer], adapter))
    assert found.describe() == "after 2 cross-attentions, width 4 at most"
    assert found.count == 6 * 4 * 2 + 4 + 6 + 3 * 2 * 2 + 2 + 3


def test_a_transform_alone_has_no_other_parts() -> None:
    assert not EraserSet({"text": Eraser.identity(5)}).has_other_parts


WRONG: dict[str, Any] = {
    "another width": random_adapter()._replace(down_bias=torch.zeros(5, dtype=torch.float64)),
    "another dimension": random_adapter()._replace(up_bias=torch.zeros(5, dtype=torch.float64)),
    "turned round": random_adapter()._replace(down=torch.zeros(6, 4, dtype=torch.float64)),
    "two dtypes": random_adapter()._replace(up=torch.zeros(6, 4)),
    "whole numbers": Adapter(*(tensor.long() for tensor in random_adapter())),
    "no width": Adapter(torch.zeros(0, 6), torch.zeros(0), torch.zeros(6, 0), torch.zeros(6)),
    "no matrix": random_adapter()._replace(up=torch.zeros(6, dtype=torch.float64)),
    "NaN": random_adapter()._replace(down=torch.full((4, 6), float("nan"), dtype=torch.float64)),
    "infinite": random_adapter()._replace(up_bias=torch.full((6,), float("inf"), dtype=torch.float64)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_adapter_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="The adapter after 'diffusion_model"):
        Adapters({LAYER: WRONG[name]})


def test_none_at_all_and_a_strength_beyond_all_numbers_are_refused() -> None:
    with pytest.raises(InputError):
        Adapters({})
    large = random_adapter(dtype=torch.float32)._replace(up_bias=torch.full((6,), 1e38))
    with pytest.raises(InputError, match="lower the strength"):
        Adapters({LAYER: large}).scaled(10.0)


def stored(**changed: Tensor | None) -> dict[str, Tensor]:
    tensors = {**Adapters({LAYER: random_adapter()}).stored().tensors}
    tensors |= {name if "/" in name else f"{LAYER}/{name}": tensor for name, tensor in changed.items()}  # type: ignore[dict-item]
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "."),
        (stored(up_bias=None), "lacks one of its four tensors"),
        (stored(more=zeros(6)), "holds a tensor that no adapter has"),
        (stored(up=zeros(6)), "do not fit together"),
        (stored(up=zeros(6, 5)), "do not fit together"),
        (stored(down=zeros(6, 4)), "do not fit together"),
        (stored(up_bias=zeros(6, 1)), "do not fit together"),
        (stored(down_bias=torch.zeros(4)), "do not fit together"),
        (stored(down_bias=torch.zeros(4, dtype=torch.int32)), "not floats"),
        (stored(down_bias=zeros(4) / 0), "NaN"),
    ],
)
def test_a_file_with_a_spoiled_one_is_refused(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    path = write_eraser_file(tmp_path / "e.safetensors", {"p": StoredPart("adapters", tensors)}, Provenance())
    with pytest.raises(EraserFileError, match=message):
        EraserSet.load(path)
