"""From a request and a session to an ERASER and its measures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ....rece_ops import (
    EraserSet,
    Erasure,
    KeptLimits,
    Measures,
    NumericalError,
    Projection,
    Provenance,
    measure,
    relative_changes,
    worst_case,
)
from ....rece_ops.linear.gram import GramTooRough
from ...request.erasure_request import ErasureRequest
from ...request.methods import EncodedRequest
from ..architectures.detection import Architecture, TextStream
from ..progress import JobProgress
from ..session import Session
from ..text.encode_request import encode_request
from .apply import upstream_erasures
from .compare import with_differences


@dataclass(frozen=True)
class StreamErasure:
    """What came of one text stream.

    Attributes:
        erasure: as `rece_ops` made it.
        measures: of every prompt erased, and of the preserved ones.
        kept: what was done to keep the limits; None for a method without any.
        changes: relative change of each key and value weight.
        seconds: time of the closed form (without text encoding and measuring).
        device: where it ran.
    """

    erasure: Erasure | Projection
    measures: Measures
    kept: KeptLimits | None
    changes: Mapping[str, float]
    seconds: float
    device: torch.device


@dataclass(frozen=True)
class ErasureResult:
    """What came of it.

    Attributes:
        eraser: the ERASER, with provenance.
        architecture: of the MODEL.
        streams: what came of each text stream, by its name.
        upstream: of the erasures that were in the MODEL before.
        notes: how examples were read, as sentences.
    """

    eraser: EraserSet
    architecture: Architecture
    streams: Mapping[str, StreamErasure]
    upstream: tuple[Provenance, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> Measures:
        """Of all text streams: of every number the worst."""
        return worst_case({name: stream.measures for name, stream in self.streams.items()})

    @property
    def changes(self) -> dict[str, float]:
        """Relative change of each key and value weight of all text streams."""
        return {key: change for stream in self.streams.values() for key, change in stream.changes.items()}

    @property
    def seconds(self) -> float:
        """Time of the closed form in all text streams."""
        return sum(stream.seconds for stream in self.streams.values())

    @property
    def device(self) -> torch.device:
        """Where it ran."""
        return next(iter(self.streams.values())).device


def erase_concepts(session: Session, request: ErasureRequest, progress: JobProgress | None = None) -> ErasureResult:
    """Erase `request.concepts` from what MODEL reads, each text stream for itself; MODEL and CLIP are not changed.

    Args:
        session: the MODEL and CLIP.
        request: what to erase, and how.
        progress: of a job that this is a part of; None makes a bar of its own.

    Raises:
        InputError: see `encode_request` and the method.
        NumericalError: see the method.
    """
    compares = bool(request.needs.contexts)
    if progress is None:
        progress = JobProgress(
            encode=2, read=3 * compares, compare=4 * compares, erase=3 if not compares else 1, measure=1
        )
    encoded = encode_request(session.encoder, request, request.needs, progress.part("encode"))
    present = [stream for stream in session.architecture.streams if stream.name in encoded]
    try:
        streams, notes = _erase_streams(session, request, present, encoded, progress, exact=False)
    except GramTooRough:
        streams, notes = _erase_streams(session, request, present, encoded, progress, exact=True)
    provenance = request.provenance(
        {name: stream.erasure.settings for name, stream in streams.items()},
        session.architecture.name,
        {name: stream.erasure.eraser.dimension for name, stream in streams.items()},
        [stream.name for stream in session.architecture.streams if session.reader.staged(stream)],
    )
    erasers = {name: stream.erasure.eraser.with_metadata(provenance) for name, stream in streams.items()}
    # Of what was erased only in part, something is left to measure.
    upstream = tuple(told for told in upstream_erasures(session.model) if told.shape is None)
    return ErasureResult(EraserSet(erasers, provenance), session.architecture, streams, upstream, notes)


def _erase_streams(
    session: Session,
    request: ErasureRequest,
    streams: Sequence[TextStream],
    encoded: Mapping[str, EncodedRequest],
    progress: JobProgress,
    exact: bool,
) -> tuple[dict[str, StreamErasure], tuple[str, ...]]:
    """What came of each text stream by its name, and how examples were read; `exact` is about the G that differences know.

    Raises:
        GramTooRough: that is not precise enough, or what float32 left of it cannot be solved with; never where it is exact. A
            method without comparisons reads its weights again by itself.
    """
    notes: tuple[str, ...] = ()
    if request.needs.contexts:
        compared = with_differences(session, request, streams, encoded, progress, exact)
        encoded, notes = compared.encoded, compared.notes
    try:
        found = {
            stream.name: _erase_stream(session, stream, request, encoded[stream.name], progress, turn, len(streams))
            for turn, stream in enumerate(streams)
        }
    except NumericalError:
        if any(one.differences is not None and one.differences.gram_error for one in encoded.values()):
            raise GramTooRough from None
        raise
    return found, notes


def _erase_stream(
    session: Session,
    stream: TextStream,
    request: ErasureRequest,
    encoded: EncodedRequest,
    progress: JobProgress,
    turn: int,
    turns: int,
) -> StreamErasure:
    weights = session.weights(stream)
    started = time.perf_counter()
    outcome = request.plan.run(weights, encoded, progress.part("erase", turn, turns))
    seconds = time.perf_counter() - started
    measuring = progress.part("measure", turn, turns)
    measures = measure(outcome.erasure, encoded.preserved, encoded.held_out, measuring)
    changes = relative_changes(weights, outcome.erasure.eraser, measuring)
    return StreamErasure(outcome.erasure, measures, outcome.kept, changes, seconds, weights.device)
