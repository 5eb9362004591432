"""The Gram matrix of the key and value weights: all that a derivation needs to know of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor

from ..errors import InputError, NumericalError
from ..progress import Progress, Steps
from ..texts import quoted
from .finite import is_finite
from .gram_sum import GramSum
from .solves import float64_device

_STAGE = "reading weights"
# One or two weights (Flux's) have hardly more rows than columns: G in float64 is less work than the solves, and needed by them.
_FEW_WEIGHTS = 2
GRAM_EFFECT = 1e-4
"""How far the error of G may take what an erasure makes of it, as a share of its size; float16 rounds weights by five times as much."""

T = TypeVar("T")


class GramTooRough(Exception):
    """G in float32 blocks is not precise enough for what is made of it: read the weights again, in float64."""


def gram_matrix(weights: Mapping[str, Tensor], progress: Progress | None = None) -> Tensor:
    """G = Σ_l W_lᵀ W_l over all key and value weights W_l [out_l, d], as a float64 tensor [d, d].

    The mapping is read once, one weight at a time, so it may compute each weight when asked. Every product is computed in
    float64, so that G can be solved with or factored however close to singular it is; `measured_gram` is quicker.
    The result is on the device of the key and value weights, or on the CPU where that has no float64.

    Args:
        weights: weight by name; all read token embeddings of the same dimension d.
        progress: called as progress(done, total, stage) after each was added; may raise to cancel.

    Raises:
        InputError: there is no weight, one is no matrix [out, d], or holds NaN or infinity, or all are zero or so
            large or small that their squares leave float64.
    """
    return measured_gram(weights, Steps(progress, len(weights)).done, exact=True)[0]


def measured_gram(
    weights: Mapping[str, Tensor], done: Callable[[str], None], exact: bool = False
) -> tuple[Tensor, float]:
    """G in one pass over the weights, and about how far it is from the exact sum in the spectral norm.

    Products of weights in float64 are computed in float64, and those of one or two weights; those of all others in float32
    (see `GramSum`).

    Args:
        weights: see `gram_matrix`.
        done: called with the name of the stage after each weight was added.
        exact: compute every product in float64, whatever the weights.

    Raises:
        InputError: see `gram_matrix`.
    """
    gram: GramSum | None = None
    for name in weights:
        weight = weights[name]
        if gram is None:
            dimension = weight.shape[-1]
            gram = GramSum(dimension, float64_device(weight.device), exact or len(weights) <= _FEW_WEIGHTS)
        check_projection(name, weight, dimension)
        gram.add(weight)
        done(_STAGE)
    if gram is None:
        raise InputError("There is no weight: give the key and value weights of the cross-attention layers.")
    total = gram.total()
    energy = float(total.diagonal().sum())
    if not 0 < energy < float("inf"):
        raise InputError(
            f"The squares of all {len(weights)} key and value weights sum up to {energy:g}: they are all zero, or far "
            "beyond any model's. The checkpoint or a LoRA on it is damaged: load another."
        )
    return total, gram.error


def with_gram(weights: Mapping[str, Tensor], steps: Steps, use: Callable[[Tensor, float], T]) -> T:
    """What `use` makes of G and of its error in the spectral norm, G being as precise as that needs.

    The weights are read once, or a second time, in float64, where `use` raises GramTooRough or cannot solve with what
    float32 left of G.

    Args:
        weights: see `gram_matrix`.
        steps: told after each weight.
        use: called with G [d, d] and its error.

    Raises:
        InputError: see `gram_matrix`.
        NumericalError: `use` raised it with G in float64.
    """
    gram, error = measured_gram(weights, steps.done)
    try:
        return use(gram, error)
    except (GramTooRough, NumericalError):
        if not error:
            raise
    del gram
    steps.restart()
    return use(*measured_gram(weights, steps.done, exact=True))


def check_projection(name: str, weight: Tensor, dimension: int) -> None:
    """Raise InputError unless `weight` is a finite matrix [out ≥ 1, dimension]."""
    if weight.ndim != 2 or weight.shape[1] != dimension:
        raise InputError(
            f"Weight {quoted(name)} has shape {list(weight.shape)}, but the text embeddings have dimension "
            f"{dimension}: give weights [out, {dimension}] that read the same text stream."
        )
    if weight.numel() == 0:
        raise InputError(f"Weight '{name}' is empty ({list(weight.shape)}): the checkpoint is damaged, load another.")
    if not is_finite(weight):
        raise InputError(
            f"Weight {quoted(name)} holds NaN or infinite values: the checkpoint or a LoRA on it is damaged."
        )


def check_reads(gram: Tensor, dimension: int) -> None:
    """Raise InputError unless key and value weights with the Gram matrix `gram` read token embeddings of that dimension."""
    if len(gram) != dimension:
        raise InputError(
            f"The key and value weights read token embeddings of dimension {len(gram)}, but the concepts have dimension "
            f"{dimension}: the text encoder belongs to another model."
        )
