"""What an ERASER does to a MODEL and to concepts, measured afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...rece_ops import (
    ConceptPair,
    Contrast,
    Differences,
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
    worst,
)
from ..concept_lines import ConceptLine
from ..erasure_request import ErasureRequest
from ..everyday_prompts import MEASURED
from .architectures import Architecture, architecture_of
from .contrasts import gather_differences
from .device import Progress, compute_device
from .embedding import embedded
from .text import TextEncoder, TextReader


@dataclass(frozen=True)
class Assessment:
    """All figures of a report.

    Attributes:
        architecture: of the MODEL.
        measures: of concepts and prompts.
        spectra: for each text stream, share of the differences between concepts and targets in each of their main
            directions.
        changes: relative change of each projection.
    """

    architecture: Architecture
    measures: Measures
    spectra: Mapping[str, Sequence[float]]
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
            "spectrum": {name: list(shares) for name, shares in self.spectra.items()},
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
    encoder = TextEncoder(clip, TextReader(model, architecture))
    request = ErasureRequest(concepts, preserved, settings, "none")
    progress = Progress(_steps(request, architecture))
    known = embedded(encoder, request, progress)
    found: dict[str, Measures] = {}
    spectra, changes = {}, {}
    streams = [stream for stream in architecture.erased_by(eraser) if stream.name in known]
    weights_of = {stream.name: stream.weights(model, compute_device(stream.dimension)) for stream in streams}
    grams = {name: gram_matrix(weights, progress.step) for name, weights in weights_of.items()}
    apart = gather_differences(encoder, request, known, grams, progress) if request.contexts else {}
    for name, weights in weights_of.items():
        gram, told = grams[name], known[name]
        differences = apart[name] if apart else _from_targets(gram, told.pairs)
        given = GivenErasure(
            eraser[name].to(gram.device), gram, tuple(told.pairs), settings, tuple(differences.kept.values())
        )
        found[name] = measure(given, told.preserved, told.measured, progress.step)
        spectra[name] = concept_spectrum(differences).tolist()
        changes.update(relative_changes(weights, given.eraser, progress.step))
    return Assessment(architecture, worst(found), spectra, changes)


def _from_targets(gram: Tensor, pairs: Sequence[ConceptPair]) -> Differences:
    """What sets concepts apart from their targets."""
    differences = Differences(gram)
    for pair in pairs:
        differences.add(Contrast.of(pair))
    return differences


def _steps(request: ErasureRequest, architecture: Architecture) -> int:
    """How often `assess` will report progress, at most."""
    compared = len(request.contexts) * len(request.concepts)
    encoded = compared + len(request.prompts()) + 1 + len(request.preserved) + len(MEASURED)
    return encoded + sum(
        2 * len(stream.keys) + measure_steps(len(stream.parts) * len(request.concepts), 0)
        for stream in architecture.streams
    )


def _settings(eraser: EraserSet, regularization: float) -> RECESettings | ProjectionSettings:
    """λ_r, in the settings of the method by which the eraser's concepts are to be judged."""
    if eraser.provenance.method == "projection":
        return ProjectionSettings(regularization=regularization)
    return RECESettings(epochs=0, regularization=regularization)
