"""What an ERASER does to a MODEL and to concepts, measured afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...rece_ops import (
    EraserSet,
    GivenErasure,
    Measures,
    ProjectionSettings,
    RECESettings,
    concept_spectrum,
    gram_matrix,
    measure,
    measure_steps,
    relative_changes,
)
from ..concept_lines import ConceptLine
from ..erasure_request import ErasureRequest
from ..everyday_prompts import MEASURED
from .architectures import Architecture, architecture_of
from .contrasts import contrast_steps
from .device import Progress, compute_device
from .embedding import embedded
from .text import TextEncoder
from .weights import EffectiveWeights


@dataclass(frozen=True)
class Assessment:
    """All figures of a report.

    Attributes:
        architecture: of the MODEL.
        measures: of concepts and prompts.
        spectrum: share of the differences between concepts and targets in each of their main directions.
        changes: relative change of each projection.
    """

    architecture: Architecture
    measures: Measures
    spectrum: Sequence[float]
    changes: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "architecture": self.architecture.name,
            "concepts": [
                {
                    "name": concept.name,
                    "residual": concept.residual,
                    "regeneration": concept.regeneration[-1],
                    "distance": concept.distance,
                }
                for concept in self.measures.concepts
            ],
            "drift": dict(self.measures.drift),
            "neutral_drift": dict(self.measures.neutral_drift),
            "total_change": self.measures.total_change,
            "spectrum": list(self.spectrum),
            "changes": dict(self.changes),
            "warnings": list(self.measures.warnings),
        }


def assess(
    model: Any,
    clip: Any,
    eraser: EraserSet,
    concepts: Sequence[ConceptLine],
    preserved: Sequence[str],
    regularization: float,
) -> Assessment:
    """Measure `eraser` on the original MODEL.

    Raises:
        InputError: a number is out of range, or a concept has its target's embedding.
        WrongConnectionError: the eraser or the CLIP belongs to another architecture.
    """
    architecture = architecture_of(model)
    architecture.check_eraser(eraser)
    settings = _settings(eraser, regularization)
    encoder = TextEncoder(clip, architecture)
    request = ErasureRequest(concepts, preserved, settings, "none")
    (stream,) = architecture.streams
    prompts = contrast_steps(request) + len(concepts) + 1 + len(preserved) + len(MEASURED)
    progress = Progress(prompts + 2 * len(stream.keys) + measure_steps(len(concepts), 0))
    known = embedded(encoder, request, progress)
    device = compute_device(stream.dimension)
    weights = EffectiveWeights(model, stream.keys, device)
    gram = gram_matrix(weights, progress.step)
    given = GivenErasure(
        eraser[stream.name].to(gram.device), gram, tuple(known.pairs), settings, tuple(known.contrasts)
    )
    measures = measure(given, known.preserved, known.measured, progress.step)
    changes = relative_changes(weights, given.eraser, progress.step)
    return Assessment(architecture, measures, concept_spectrum(gram, known.pairs).tolist(), changes)


def _settings(eraser: EraserSet, regularization: float) -> RECESettings | ProjectionSettings:
    """λ_r, in the settings of the method by which the eraser's concepts are to be judged."""
    if eraser.metadata.get("method") == "projection":
        return ProjectionSettings(regularization=regularization)
    return RECESettings(epochs=0, regularization=regularization)
