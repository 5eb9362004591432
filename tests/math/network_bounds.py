"""How far what a whole network computes may be from exact: each sum in it off by as much as its order can explain.

A bound through every layer, softmax and norm by hand would be astronomical. So the network itself says what comes of the
roundings: it runs with each result of each operation moved by the most that `bounds` allows for it, up or down at random,
and magnified so that the moves are far above the roundings of that run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from bounds import gamma
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

# Roundings of an operation on single numbers: functions are made of a few, and good to a few units in the last place.
_OPERATIONS = 8
_MAGNIFIED = 16.0
# Attention as the products and the softmax that it is made of, whose roundings can be told.
_PLAIN_ATTENTION = SDPBackend.MATH


def network_rounding(run: Callable[[], Tensor], tries: int = 2) -> float:
    """‖error‖_F of what `run` computes, at most, whatever order its sums are made in."""
    with sdpa_kernel(_PLAIN_ATTENTION), torch.no_grad():
        exact = run().double()
        moved = 0.0
        for seed in range(tries):
            with _Rounding(seed):
                found = run()
            moved = max(moved, float((found.double() - exact).norm()))
    assert moved > 0, "nothing in this run was computed"
    return moved / _MAGNIFIED


class _Rounding(TorchDispatchMode):
    """Moves what each operation gives by its largest rounding, magnified, with signs at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._signs = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        first = result[0] if isinstance(result, tuple) else result
        if name in _EXACT or not _computed(func, first, args):
            return result
        first.add_(_MAGNIFIED * _largest(name, func, first, args) * self._random_signs(first))
        return result

    def _random_signs(self, like: Tensor) -> Tensor:
        return torch.randint(0, 2, like.shape, generator=self._signs).to(like) * 2 - 1


# Those that choose numbers, move them to other places, or make new ones.
_EXACT = {"copy_", "clone", "cat", "stack", "index", "embedding", "constant_pad_nd", "fill_", "abs", "neg", "aminmax"}
_EXACT |= {"new_empty", "new_zeros", "empty_like", "zeros_like", "_unsafe_view", "upsample_nearest2d"}


def _computed(func: Any, result: Any, args: Any) -> bool:
    """Whether the operation made numbers of numbers, and did not only show them otherwise."""
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return False
    returned = func._schema.returns[0].alias_info
    is_view = returned is not None and not returned.is_write
    return not is_view and any(isinstance(one, Tensor) and one.is_floating_point() for one in args)


def _largest(name: str, func: Any, result: Tensor, args: Any) -> Tensor:
    """The largest rounding of each number of the result."""
    if name in _PRODUCTS:
        sizes = [one.abs() if isinstance(one, Tensor) else one for one in args]
        return gamma(_PRODUCTS[name](args) + 2, result.dtype) * func(*sizes)
    given = next(one for one in args if isinstance(one, Tensor))
    if name in ("sum", "mean", "_softmax"):
        terms = args[0].shape[args[1]] if name == "_softmax" else args[0].numel() / result.numel()
        sizes = result if name == "_softmax" else func(given.abs(), *args[1:])
        return gamma(terms + _OPERATIONS, result.dtype) * sizes.abs()
    if "norm" in name:
        # A mean is taken off first, so that the sizes are those of what it is taken from. All numbers are summed at most.
        spread = given.std(correction=0).clamp(min=torch.finfo(given.dtype).tiny)
        gain = max((float(one.abs().max()) for one in args[1:] if isinstance(one, Tensor)), default=1.0)
        group = math.prod(result.shape[1:])
        return gamma(group + _OPERATIONS, result.dtype) * (result.abs() + gain * given.abs().mean() / spread)
    # Functions of one number may take it from others of its size (GELU, SiLU).
    sizes = result.abs() + (given.abs() if given.shape == result.shape and name in _ACTIVATIONS else 0)
    return gamma(_OPERATIONS, result.dtype) * sizes


_ACTIVATIONS = {"gelu", "silu", "sigmoid", "tanh"}
# The length of the sums in each kind of product.
_PRODUCTS: dict[str, Callable[[Any], int]] = {
    "mm": lambda args: args[0].shape[-1],
    "bmm": lambda args: args[0].shape[-1],
    "addmm": lambda args: args[1].shape[-1] + 1,
    "baddbmm": lambda args: args[1].shape[-1] + 1,
    "convolution": lambda args: math.prod(args[1].shape[1:]) + 1,
}
