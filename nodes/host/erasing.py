"""From typed concepts and a loaded MODEL and CLIP to an ERASER and its measures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...rece_ops import (
    ConceptPair,
    EraserSet,
    InputError,
    Measures,
    RECESettings,
    __version__,
    erase,
    measure,
    measure_steps,
    relative_changes,
)
from ..concept_lines import ConceptLine
from ..templates import widened
from .architectures import Architecture, architecture_of
from .device import Progress, compute_device
from .text import TextEncoder
from .weights import EffectiveWeights

EMPTY = ""

# Everyday prompts that no concept should touch: how much they drift is how much collateral there is.
NEUTRAL_PROMPTS = (
    "a photo of a dog in a park",
    "a landscape with mountains and a lake",
    "a street in a city at night",
    "a bowl of fruit on a wooden table",
    "a portrait of an old man with a beard",
)


@dataclass(frozen=True)
class ErasureRequest:
    """What a person asked for.

    Attributes:
        concepts: what to erase.
        preserved: prompts whose outputs shall stay; the empty prompt is always among them.
        settings: coefficients.
        templates: name of the templates that widen each concept.
    """

    concepts: Sequence[ConceptLine]
    preserved: Sequence[str]
    settings: RECESettings
    templates: str

    def prompts(self) -> list[tuple[ConceptLine, str]]:
        """Every prompt to erase, with the line it stands for."""
        return [(line, prompt) for line in self.concepts for prompt in widened(line.concept, self.templates)]


@dataclass(frozen=True)
class ErasureResult:
    """What came of it.

    Attributes:
        eraser: the ERASER, with provenance.
        architecture: of the MODEL.
        measures: of every prompt erased, and of the preserved ones.
        changes: relative change of each projection.
        seconds: time of the closed form (without text encoding and measuring).
        device: where it ran.
    """

    eraser: EraserSet
    architecture: Architecture
    measures: Measures
    changes: Mapping[str, float]
    seconds: float
    device: torch.device


def run_erasure(model: Any, clip: Any, request: ErasureRequest) -> ErasureResult:
    """Erase `request.concepts` from what MODEL reads; neither MODEL nor CLIP is changed.

    Raises:
        InputError: see `architecture_of`, `TextEncoder` and `rece_ops.erase`.
        NumericalError: see `rece_ops.erase`.
    """
    architecture = architecture_of(model)
    encoder = TextEncoder(clip, architecture)
    prompts = request.prompts()
    (stream,) = architecture.streams
    progress = Progress(_steps(request, len(stream.keys)))

    pairs = [_pair(encoder, line, prompt, progress) for line, prompt in prompts]
    preserved = _tokens(encoder, (EMPTY, *request.preserved), progress)
    neutral = _tokens(encoder, NEUTRAL_PROMPTS, progress)
    device = compute_device(stream.dimension)
    weights = EffectiveWeights(model, stream.keys, device)
    started = time.perf_counter()
    erasure = erase(weights, pairs, list(preserved.values()), request.settings, progress=progress.step)
    seconds = time.perf_counter() - started
    measures = measure(erasure, preserved, neutral, progress.step)
    changes = relative_changes(weights, erasure.eraser, progress.step)
    provenance = _provenance(request, architecture, stream.dimension)
    eraser = EraserSet({stream.name: erasure.eraser.with_metadata(provenance)}, provenance)
    return ErasureResult(eraser, architecture, measures, changes, seconds, device)


def _steps(request: ErasureRequest, projections: int) -> int:
    """How often `run_erasure` will report progress."""
    prompts = len(request.prompts())
    encoded = prompts + 1 + len(request.preserved) + len(NEUTRAL_PROMPTS)
    erased = projections + 2 + request.settings.epochs
    measured = measure_steps(prompts, request.settings.epochs)
    return encoded + erased + measured + projections


def _pair(encoder: TextEncoder, line: ConceptLine, prompt: str, progress: Progress) -> ConceptPair:
    concept, target = encoder.encode(prompt), encoder.encode(line.target)
    progress.step()
    target_tokens = _as_long_as(target.tokens, concept.tokens)
    if torch.equal(concept.tokens, target_tokens):
        raise InputError(
            f"The concept '{prompt}' and its target '{line.target}' have the same embedding, so there is nothing to "
            "erase: give another target, or check that the textual inversion in it exists."
        )
    return ConceptPair(prompt, concept.tokens, target_tokens, concept.last_subject, target.last_subject, line.weight)


def _as_long_as(target: Tensor, concept: Tensor) -> Tensor:
    """The target's windows repeated to the concept's length, as sampling does when prompts differ in length."""
    repeats = -(-concept.shape[0] // target.shape[0])
    return target if repeats == 1 else target.repeat(repeats, 1)[: concept.shape[0]]


def _tokens(encoder: TextEncoder, prompts: Sequence[str], progress: Progress) -> dict[str, Tensor]:
    found = {}
    for prompt in prompts:
        found[prompt] = encoder.encode(prompt).tokens
        progress.step()
    return found


def _provenance(request: ErasureRequest, architecture: Architecture, dimension: int) -> dict[str, Any]:
    """What an eraser file tells of its making: no paths, no names of people or machines."""
    return {
        "method": "RECE" if request.settings.epochs else "UCE",
        "concepts": [line.concept for line in request.concepts],
        "targets": [line.target for line in request.concepts],
        "weights": [line.weight for line in request.concepts],
        "preserve": list(request.preserved),
        "templates": request.templates,
        "settings": request.settings.as_dict(),
        "architecture": architecture.name,
        "dimension": dimension,
        "pack_version": __version__,
    }
