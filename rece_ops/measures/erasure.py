"""All measures of one erasure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from ..pairs import ConceptPair
from ..progress import Progress, Steps
from .outputs import (
    concept_regenerations,
    derivations_of,
    drift,
    energies,
    gaps,
    passes,
    ratios,
    residuals,
    total_change,
)
from .records import ConceptMeasures, Erased, Measures

_STAGE = "measuring"


def measure(
    erasure: Erased,
    preserved: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor] = MappingProxyType({}),
    progress: Progress | None = None,
) -> Measures:
    """All measures of `erasure`.

    Args:
        erasure: what to measure.
        preserved: token embeddings [n, d] of the preserved prompts, by name.
        held_out: of prompts that were not preserved and have nothing to do with the concepts.
        progress: called as progress(done, total, stage) between the parts; may raise to cancel.
    """
    gram, pairs, erasers = erasure.gram, erasure.pairs, erasure.erasers()
    steps = Steps(progress, (len(erasers) + 4) * passes(pairs))

    def step() -> None:
        steps.done(_STAGE)

    gap = gaps(gram, pairs, step)
    derivations = derivations_of(erasure)
    regeneration = [concept_regenerations(erasure, eraser, derivations, gap, step) for eraser in erasers]
    residual = residuals(gram, erasure.eraser, erasure.intended, step)
    distance = ratios(gap, energies(gram, pairs, ConceptPair.all_tokens, lambda c, t: c, step))
    concepts = tuple(
        ConceptMeasures(pair.name, residual[i], tuple(values[i] for values in regeneration), distance[i])
        for i, pair in enumerate(pairs)
    )
    drifts, held_out_drifts = (
        {name: drift(gram, erasure.eraser, tokens) for name, tokens in prompts.items()}
        for prompts in (preserved, held_out)
    )
    change = total_change(gram, erasure.eraser)
    return Measures(concepts, drifts, held_out_drifts, change, erasure.conditions)
