"""From typed concepts and a loaded MODEL and CLIP to an ERASER and its measures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...rece_ops import (
    EraserSet,
    Erasure,
    Measures,
    Projection,
    ProjectionSettings,
    erase,
    iterate,
    keep_within,
    measure,
    measure_steps,
    project,
    relative_changes,
)
from ..erasure_request import ErasureRequest
from ..everyday_prompts import MEASURED
from .architectures import Architecture, architecture_of
from .conditioning import Conditioning, tokens_of
from .contrasts import contrast_steps
from .device import Progress, compute_device
from .embedding import Embedded, embedded
from .text import TextEncoder
from .weights import EffectiveWeights


@dataclass(frozen=True)
class ErasureResult:
    """What came of it.

    Attributes:
        eraser: the ERASER, with provenance.
        architecture: of the MODEL.
        erasure: as `rece_ops` made it.
        measures: of every prompt erased, and of the preserved ones.
        limited: what was done to keep the limits, in plain words.
        changes: relative change of each projection.
        seconds: time of the closed form (without text encoding and measuring).
        device: where it ran.
    """

    eraser: EraserSet
    architecture: Architecture
    erasure: Erasure | Projection
    measures: Measures
    limited: tuple[str, ...]
    changes: Mapping[str, float]
    seconds: float
    device: torch.device


def embeddings_for(model: Any, conditioning: Conditioning) -> list[Tensor]:
    """The token embeddings of CONDITIONING, checked against what MODEL reads.

    Raises:
        WrongConnectionError: see `tokens_of`.
    """
    (stream,) = architecture_of(model).streams
    return tokens_of(conditioning, stream.dimension)


def run_erasure(model: Any, clip: Any, request: ErasureRequest) -> ErasureResult:
    """Erase `request.concepts` from what MODEL reads; neither MODEL nor CLIP is changed.

    Raises:
        InputError: see `architecture_of`, `TextEncoder` and `rece_ops.erase`.
        NumericalError: see `rece_ops.erase`.
    """
    architecture = architecture_of(model)
    encoder = TextEncoder(clip, architecture)
    (stream,) = architecture.streams
    progress = Progress(_steps(request, len(stream.keys)))

    known = embedded(encoder, request, progress)
    device = compute_device(stream.dimension)
    weights = EffectiveWeights(model, stream.keys, device)
    started = time.perf_counter()
    erasure, limited = _erased(request, weights, known, progress)
    seconds = time.perf_counter() - started
    measures = measure(erasure, known.preserved, known.measured, progress.step)
    changes = relative_changes(weights, erasure.eraser, progress.step)
    provenance = request.provenance(erasure.settings, architecture.name, stream.dimension)
    eraser = EraserSet({stream.name: erasure.eraser.with_metadata(provenance)}, provenance)
    return ErasureResult(eraser, architecture, erasure, measures, limited, changes, seconds, device)


def _erased(
    request: ErasureRequest, weights: EffectiveWeights, known: Embedded, progress: Progress
) -> tuple[Erasure | Projection, tuple[str, ...]]:
    """The erasure by the method asked for, and what was done to keep its limits."""
    settings, pairs, preserved = request.settings, known.pairs, list(known.preserved.values())
    exactly = known.preserved if request.exactly else {}
    if isinstance(settings, ProjectionSettings):
        projection = project(
            weights,
            pairs,
            preserved,
            settings,
            contrasts=known.contrasts,
            neutral=known.spared,
            preserve_exactly=exactly,
            progress=progress.step,
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


def _steps(request: ErasureRequest, projections: int) -> int:
    """How often `run_erasure` will report progress."""
    prompts = len(request.prompts())
    pairs = prompts + len(request.embeddings)
    encoded = contrast_steps(request) + prompts + 1 + len(request.preserved) + len(MEASURED) + len(request.spared)
    erased = projections + (3 if request.method == "projection" else 2 + request.epochs)
    measured = measure_steps(pairs, request.epochs)
    return encoded + erased + measured + projections
