"""Numbers that say what an erasure did, all in the metric of the model's own outputs.

For tokens x the norm is ‖x‖_G = √(Σ_t x_tᵀ G x_t) = √(Σ_l Σ_t ‖W_l x_t‖²), with G of the original key and value
weights: how far the outputs of all of them together are apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..attacks.derivation import Derivations
from ..eraser import Eraser
from ..linear.gram import check_projection
from ..linear.solves import to_float64
from ..pairs import ConceptPair
from ..progress import Progress, Steps
from .records import Erased

_PAIRS_AT_ONCE = 16


def passes(pairs: Sequence[ConceptPair]) -> int:
    """How often a function here calls `step` in one pass over `pairs`."""
    return -(-len(pairs) // _PAIRS_AT_ONCE)


def residuals(
    gram: Tensor, eraser: Eraser, pairs: Sequence[ConceptPair], step: Callable[[], None] = lambda: None
) -> list[float]:
    """‖T c − c*‖_G / ‖c − c*‖_G over the subject tokens, per concept; 0 where concept and target are the same."""
    eraser = eraser.to(gram.device, gram.dtype)
    left = energies(gram, pairs, ConceptPair.subject_tokens, lambda c, t: eraser.apply_to_context(c) - t, step)
    whole = energies(gram, pairs, ConceptPair.subject_tokens, lambda c, t: c - t, step)
    return ratios(left, whole)


def concept_regenerations(
    erasure: Erased,
    eraser: Eraser,
    derivations: Derivations,
    gap: Tensor | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[float]:
    """max(0, 1 − ‖T c' − c‖_G / ‖c* − c‖_G) over all tokens, per concept, c' derived from W·T.

    Args:
        erasure: gives G and the concepts.
        eraser: T, one of `erasure.erasers()`.
        derivations: of the erasure, see `derivations_of`.
        gap: ‖c* − c‖²_G of each pair, which is the same for every T; computed where it is not given.
        step: called between the parts; may raise to cancel.
    """
    gram, pairs = erasure.gram, erasure.pairs
    derivation = derivations.of_eraser(eraser)
    transform = eraser.to(gram.device, gram.dtype)
    missed = energies(
        gram, pairs, ConceptPair.all_tokens, lambda c, t: transform.apply_to_context(derivation.of_tokens(c)) - c, step
    )
    return [max(0.0, 1.0 - ratio) for ratio in ratios(missed, gaps(gram, pairs, step) if gap is None else gap)]


def derivations_of(erasure: Erased) -> Derivations:
    """Derivations with the erasure's own G and λ_r."""
    return Derivations(erasure.gram, erasure.settings.regularization)


def gaps(gram: Tensor, pairs: Sequence[ConceptPair], step: Callable[[], None]) -> Tensor:
    """‖c − c*‖²_G of each pair over all tokens: [pairs]."""
    return energies(gram, pairs, ConceptPair.all_tokens, lambda c, t: c - t, step)


def drift(gram: Tensor, eraser: Eraser, tokens: Tensor) -> float:
    """‖(T − I) p‖_G / ‖p‖_G of a prompt's token embeddings [n, d]."""
    rows = to_float64(tokens, gram.device)
    moved = eraser.to(gram.device, gram.dtype).apply_to_context(rows) - rows
    energies = [float(((x @ gram) * x).sum().clamp(min=0)) for x in (moved, rows)]
    return _ratio(energies[0] ** 0.5, energies[1] ** 0.5)


def total_change(gram: Tensor, eraser: Eraser) -> float:
    """√(tr((T−I)ᵀ G (T−I)) / tr G) = √(Σ_l ‖W_l' − W_l‖² / Σ_l ‖W_l‖²)."""
    left, right = eraser.to(gram.device, gram.dtype).factors()
    inner = left.T @ gram @ left
    energy = inner.diagonal().sum() if right is None else (inner * (right @ right.T)).sum()
    return float((energy.clamp(min=0) / gram.diagonal().sum()).sqrt())


def relative_changes(
    weights: Mapping[str, Tensor], eraser: Eraser, progress: Progress | None = None
) -> dict[str, float]:
    """‖W' − W‖ / ‖W‖ (Frobenius) of every weight, read one at a time."""
    changes = {}
    steps = Steps(progress, len(weights))
    for name in weights:
        weight = weights[name]
        check_projection(name, weight, eraser.dimension)
        weight = _of_size_one(weight.to(torch.promote_types(weight.dtype, torch.float32)))
        left, right = eraser.to(weight.device, weight.dtype).factors()
        moved = weight @ left if right is None else (weight @ left) @ right
        changes[name] = _ratio(float(torch.linalg.matrix_norm(moved)), float(torch.linalg.matrix_norm(weight)))
        steps.done("measuring changes")
    return changes


def _of_size_one(weight: Tensor) -> Tensor:
    """`weight` divided by its largest entry, so that no square of it leaves its dtype; relative changes stay."""
    largest = weight.abs().max()
    return weight / largest if largest > 0 else weight


def energies(
    gram: Tensor,
    pairs: Sequence[ConceptPair],
    rows_of: Callable[[ConceptPair], tuple[Tensor, Tensor]],
    vector: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[], None],
) -> Tensor:
    """‖vector(c, c*)‖²_G summed over the tokens of each pair: [pairs], many pairs to a product."""
    found = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        rows = [rows_of(pair) for pair in pairs[start : start + _PAIRS_AT_ONCE]]
        vectors = vector(*(to_float64(torch.cat(side), gram.device) for side in zip(*rows, strict=True)))
        energy = ((vectors @ gram) * vectors).sum(dim=1)
        found += [part.sum() for part in torch.split(energy, [concept.shape[0] for concept, _ in rows])]
        step()
    return torch.stack(found).clamp(min=0)


def ratios(part: Tensor, whole: Tensor) -> list[float]:
    """√(part/whole), 0 where the whole is 0."""
    return torch.where(whole > 0, (part / whole).sqrt(), 0.0).tolist()


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
