"""From typed concepts and a loaded MODEL and CLIP to an ERASER and its measures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...rece_ops import (
    Differences,
    EraserSet,
    Erasure,
    Measures,
    Projection,
    ProjectionSettings,
    erase,
    gram_matrix,
    iterate,
    keep_within,
    measure,
    measure_steps,
    project_differences,
    relative_changes,
    worst,
)
from ..erasure_request import ErasureRequest
from ..everyday_prompts import MEASURED
from .architectures import Architecture, TextStream, architecture_of
from .contrasts import gather_differences
from .device import Progress, compute_device
from .embedding import Embedded, embedded
from .text import TextEncoder, TextReader
from .weights import EffectiveWeights


@dataclass(frozen=True)
class StreamErasure:
    """What came of one text stream.

    Attributes:
        erasure: as `rece_ops` made it.
        measures: of every prompt erased, and of the preserved ones.
        limited: what was done to keep the limits, in plain words.
        changes: relative change of each projection.
        seconds: time of the closed form (without text encoding and measuring).
        device: where it ran.
    """

    erasure: Erasure | Projection
    measures: Measures
    limited: tuple[str, ...]
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
    """

    eraser: EraserSet
    architecture: Architecture
    streams: Mapping[str, StreamErasure]

    @property
    def measures(self) -> Measures:
        """Of all text streams: of every number the worst."""
        return worst({name: stream.measures for name, stream in self.streams.items()})

    @property
    def changes(self) -> dict[str, float]:
        """Relative change of each projection of all text streams."""
        return {key: change for stream in self.streams.values() for key, change in stream.changes.items()}

    @property
    def limited(self) -> tuple[str, ...]:
        """What was done to keep the limits, each sentence once."""
        return tuple(dict.fromkeys(sentence for stream in self.streams.values() for sentence in stream.limited))

    @property
    def seconds(self) -> float:
        """Time of the closed form in all text streams."""
        return sum(stream.seconds for stream in self.streams.values())

    @property
    def device(self) -> torch.device:
        """Where it ran."""
        return next(iter(self.streams.values())).device


def run_erasure(model: Any, clip: Any, request: ErasureRequest) -> ErasureResult:
    """Erase `request.concepts` from what MODEL reads, each text stream for itself; MODEL and CLIP are not changed.

    Raises:
        InputError: see `architecture_of`, `TextEncoder` and `rece_ops.erase`.
        NumericalError: see `rece_ops.erase`.
    """
    architecture = architecture_of(model)
    reader = TextReader(model, architecture)
    encoder = TextEncoder(clip, reader)
    progress = Progress(_steps(request, architecture))
    known = embedded(encoder, request, progress)
    present = [stream for stream in architecture.streams if stream.name in known]
    apart = _differences(model, present, encoder, request, known, progress)
    streams = {
        stream.name: _erase_stream(model, stream, request, known[stream.name], apart.get(stream.name), progress)
        for stream in present
    }
    provenance = request.provenance(
        {name: stream.erasure.settings for name, stream in streams.items()},
        architecture.name,
        {name: stream.erasure.eraser.dimension for name, stream in streams.items()},
        [stream.name for stream in architecture.streams if any(map(reader.front, stream.parts))],
    )
    erasers = {name: stream.erasure.eraser.with_metadata(provenance) for name, stream in streams.items()}
    return ErasureResult(EraserSet(erasers, provenance), architecture, streams)


def _differences(
    model: Any,
    streams: Sequence[TextStream],
    encoder: TextEncoder,
    request: ErasureRequest,
    known: Mapping[str, Embedded],
    progress: Progress,
) -> dict[str, Differences]:
    """What sets the concepts apart in each text stream, where the method asks for it."""
    if not request.contexts:
        return {}
    grams = {
        stream.name: gram_matrix(
            stream.weights(model, compute_device(stream.dimension)), lambda name: progress.step("reading projections")
        )
        for stream in streams
    }
    return gather_differences(encoder, request, known, grams, progress)


def _erase_stream(
    model: Any,
    stream: TextStream,
    request: ErasureRequest,
    known: Embedded,
    differences: Differences | None,
    progress: Progress,
) -> StreamErasure:
    device = compute_device(stream.dimension)
    weights = stream.weights(model, device)
    started = time.perf_counter()
    erasure, limited = _erased(request, weights, known, differences, progress)
    seconds = time.perf_counter() - started
    measures = measure(erasure, known.preserved, known.measured, progress.step)
    changes = relative_changes(weights, erasure.eraser, progress.step)
    return StreamErasure(erasure, measures, limited, changes, seconds, device)


def _erased(
    request: ErasureRequest,
    weights: EffectiveWeights,
    known: Embedded,
    differences: Differences | None,
    progress: Progress,
) -> tuple[Erasure | Projection, tuple[str, ...]]:
    """The erasure by the method asked for, and what was done to keep its limits."""
    settings, pairs, preserved = request.settings, known.pairs, list(known.preserved.values())
    exactly = known.preserved if request.exactly else {}
    if isinstance(settings, ProjectionSettings):
        assert differences is not None  # this method has contexts
        projection = project_differences(
            differences,
            pairs,
            preserved,
            settings,
            neutral=known.spared,
            preserve_exactly=exactly,
            done=progress.step,
        )
        return projection, ()
    erasure = erase(weights, pairs, preserved, settings, preserve_exactly=exactly, progress=progress.step)
    limited = keep_within(
        erasure,
        request.limits,
        known.measured,
        lambda other: iterate(erasure.gram, pairs, preserved, other, preserved, exactly, progress.check),
    )
    return limited.erasure, limited.sentences


def _steps(request: ErasureRequest, architecture: Architecture) -> int:
    """How often `run_erasure` will report progress, at most."""
    prompts = len(request.prompts())
    compared = len(request.contexts) * len(request.concepts)
    encoded = compared + prompts + 1 + len(request.preserved) + len(MEASURED) + len(request.spared)
    solves = 3 if request.method == "projection" else 2 + request.epochs
    return encoded + sum(
        2 * len(stream.keys)
        + solves
        + measure_steps(len(stream.parts) * (prompts + len(request.embeddings)), request.epochs)
        for stream in architecture.streams
    )
