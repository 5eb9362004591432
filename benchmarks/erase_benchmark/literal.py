"""RECE written down as the paper states it, layer by layer: the yardstick for exactness and for speed.

Two forms. `published_form=True` also keeps the loop structure of the published code, which computes the
values of all layers anew inside every layer and sums token-wise outer products; otherwise the same
equations use one matrix product per sum. Both give the same weights. Nothing here is used by the pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from rece_pack.rece_ops import ConceptPair, RECESettings
from torch import Tensor

Weights = dict[str, Tensor]
Rows = tuple[Tensor, Tensor, float]


def literal_erase(
    projections: Mapping[str, Tensor],
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: RECESettings,
    published_form: bool = False,
) -> tuple[list[Weights], list[list[Tensor]]]:
    """Weights after the first edit and after every epoch, and the derived embeddings of every epoch."""
    dtype = pairs[0].concept.dtype
    original = {name: weight.to(dtype) for name, weight in projections.items()}
    first = [(*pair.subject_tokens(), settings.erase_scale * pair.scale) for pair in pairs]
    kept = [(tokens, tokens, settings.preserve_scale) for tokens in preserve]
    history = [_edit(original, first + kept, settings.edit_regularization, published_form)]
    embeddings = []
    for _ in range(settings.epochs):
        derived = [_derive(original, history[-1], pair.concept, settings.regularization) for pair in pairs]
        rows = [
            (embedding[: target.shape[0]], target, settings.erase_scale * pair.scale)
            for embedding, pair in zip(derived, pairs, strict=True)
            for target in [pair.all_tokens()[1]]
        ]
        history.append(_edit(history[-1], rows + kept, settings.edit_regularization, published_form))
        embeddings.append(derived)
    return history, embeddings


def _edit(weights: Weights, rows: Sequence[Rows], regularization: float, published_form: bool) -> Weights:
    """Eq. 3: W' = (λW + Σ η (W c*) cᵀ)(λI + Σ η c cᵀ)⁻¹, for every layer by itself."""
    edited = {}
    for name, weight in weights.items():
        numerator = regularization * weight
        denominator = regularization * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        for concept, target, scale in rows:
            if published_form:
                values = {layer: target @ other.T for layer, other in weights.items()}[name]
                numerator += scale * (values[:, :, None] @ concept[:, None, :]).sum(dim=0)
                denominator += scale * (concept[:, :, None] @ concept[:, None, :]).sum(dim=0)
            else:
                numerator += scale * ((target @ weight.T).T @ concept)
                denominator += scale * (concept.T @ concept)
        edited[name] = numerator @ torch.linalg.inv(denominator)
    return edited


def _derive(original: Weights, edited: Weights, concept: Tensor, regularization: float) -> Tensor:
    """Eq. 7: c' = (λ_r I + Σ W'ᵀW')⁻¹ (Σ W'ᵀW) c, for every token c of the concept."""
    dimension = concept.shape[1]
    quadratic = regularization * torch.eye(dimension, dtype=concept.dtype, device=concept.device)
    mixed = torch.zeros_like(quadratic)
    for name, weight in edited.items():
        quadratic += weight.T @ weight
        mixed += weight.T @ original[name]
    linear: Tensor = torch.linalg.inv(quadratic) @ mixed
    return concept @ linear.T
