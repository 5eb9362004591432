"""What an ERASER does to a MODEL and to concepts, measured afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....rece_ops import (
    Contrast,
    Differences,
    EraserSet,
    ExistingErasure,
    Measures,
    concept_spectrum,
    gram_matrix,
    measure,
    relative_changes,
    worst_case,
)
from ...request.concept_lines import ConceptLine
from ...request.erasure_request import ErasureRequest
from ...request.methods import EncodedRequest, Needs, Plan
from ..architectures.detection import Architecture, TextStream
from ..progress import JobProgress
from ..session import Session
from ..text.encode_request import encode_request
from .compare import with_differences


@dataclass(frozen=True)
class Assessment:
    """All figures of a report.

    Attributes:
        architecture: of the MODEL.
        measures: of concepts and prompts.
        spectra: for each text stream, share of the differences between concepts and targets in each of their main
            directions.
        changes: relative change of each key and value weight.
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
            "neutral_drift": dict(self.measures.held_out_drift),
            "total_change": self.measures.total_change,
            "spectrum": {name: list(shares) for name, shares in self.spectra.items()},
            "changes": dict(self.changes),
        }


def assess(
    session: Session, eraser: EraserSet, concepts: Sequence[ConceptLine], preserved: Sequence[str], plan: Plan
) -> Assessment:
    """Measure `eraser` on the original MODEL.

    Args:
        session: the MODEL without the erasure, and the CLIP.
        eraser: to measure.
        concepts: to look for.
        preserved: prompts whose drift is measured.
        plan: of the method by which the concepts are judged; λ_r is read from its settings.

    Raises:
        InputError: a number is out of range, or a concept has its target's embedding.
        WrongConnectionError: the eraser has no text transform, or it or the CLIP belongs to another architecture.
    """
    streams = session.transformed_streams(eraser)
    progress = JobProgress(encode=1, read=3, compare=3, measure=1)
    request = ErasureRequest(concepts, preserved, plan)
    # What a method is fitted to and chosen by is not needed to judge it.
    needs = Needs(contexts=request.needs.contexts)
    encoded = encode_request(session.encoder, request, needs, progress.part("encode"))
    streams = [stream for stream in streams if stream.name in encoded]
    if needs.contexts:
        encoded = dict(with_differences(session, request, streams, encoded, progress).encoded)
    else:
        encoded = _with_targets(session, streams, encoded, progress)
    found: dict[str, Measures] = {}
    spectra, changes = {}, {}
    for turn, stream in enumerate(streams):
        one = encoded[stream.name]
        assert one.differences is not None  # made above
        gram = one.differences.gram
        existing = ExistingErasure(
            eraser.transforms[stream.name].to(gram.device),
            gram,
            tuple(one.pairs),
            plan.settings,
            tuple(one.differences.kept.values()),
        )
        measuring = progress.part("measure", turn, len(streams))
        found[stream.name] = measure(existing, one.preserved, one.held_out, measuring)
        spectra[stream.name] = concept_spectrum(one.differences).tolist()
        changes.update(relative_changes(session.weights(stream), existing.eraser, measuring))
    return Assessment(session.architecture, worst_case(found), spectra, changes)


def _with_targets(
    session: Session, streams: Sequence[TextStream], encoded: Mapping[str, EncodedRequest], progress: JobProgress
) -> dict[str, EncodedRequest]:
    """`encoded` with what sets concepts apart from their targets."""
    found = {}
    for turn, stream in enumerate(streams):
        gram = gram_matrix(session.weights(stream), progress.part("read", turn, len(streams)))
        differences = Differences(gram)
        for pair in encoded[stream.name].pairs:
            differences.add(Contrast.of(pair))
        found[stream.name] = replace(encoded[stream.name], differences=differences)
    return found
