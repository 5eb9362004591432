"""The embedding that regenerates a concept from an erased MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...rece_ops import ConceptPair, EraserSet, InputError, Regenerated, WeightMoments, gram_matrix, regenerate
from ...rece_ops.settings import check_coefficient
from .adapter import EraserAdapter
from .architectures import Architecture, TextStream, architecture_of
from .conditioning import Change, Conditioning, with_rows
from .device import Progress, compute_device
from .errors import WrongConnectionError
from .forwards import ErasedForward, erased_forwards
from .pairing import matched
from .text import EncodedPart, TextEncoder, TextReader


@dataclass(frozen=True)
class DerivedConditioning:
    """What came of a derivation.

    Attributes:
        conditioning: the derived embedding, to be sampled like any prompt; the pooled output is the concept's. Where
            a norm comes before the projections, it arrives there with another length.
        found: the numbers for each text stream.
        architecture: of the MODEL.
    """

    conditioning: Conditioning
    found: Mapping[str, Regenerated]
    architecture: Architecture


def derive_conditioning(
    model: Any, clip: Any, concept: str, regularization: float, eraser: EraserSet | None, original: Any
) -> DerivedConditioning:
    """Derive from one of three: MODEL and an ERASER for it, MODEL and its original, or MODEL with our patch in it.

    Raises:
        InputError: the concept is empty, or λ_r is no finite number above zero.
        WrongConnectionError: none of the three is given, or two are.
        NumericalError: see `rece_ops.regenerate`.
    """
    if not concept.strip():
        raise InputError("The concept is empty: type what was erased, such as 'nudity'.")
    check_coefficient("regularization", regularization)
    architecture = architecture_of(model)
    reader = TextReader(model, architecture)
    encoder = TextEncoder(clip, reader)
    wanted, empty = encoder.encode(concept.strip()), encoder.encode("")
    compare = _comparison(model, architecture, eraser, original)
    progress = Progress(architecture.projections)
    found, changes = {}, []
    for stream in architecture.streams if eraser is None else architecture.erased_by(eraser):
        if stream.name not in wanted.streams:
            continue
        parts = wanted.streams[stream.name]
        pairs = [matched("", *sides, 1.0) for sides in zip(parts, empty.streams[stream.name], strict=True)]
        tokens, harmless = (torch.cat(side) for side in zip(*(_same_length(pair) for pair in pairs), strict=True))
        found[stream.name] = regenerate(compare(stream, progress), tokens, harmless, regularization)
        rows = torch.split(found[stream.name].tokens, [len(part.tokens) for part in parts])
        changes += [_change(reader, part, derived) for part, derived in zip(parts, rows, strict=True)]
    return DerivedConditioning(with_rows(encoder.conditioning(concept.strip()), changes), found, architecture)


def _same_length(pair: ConceptPair) -> tuple[Tensor, Tensor]:
    """Concept and target of a pair; the target's tokens beyond the concept's are left out."""
    return pair.concept, pair.target[: len(pair.concept)]


def _change(reader: TextReader, part: EncodedPart, tokens: Tensor) -> Change:
    front = reader.front(part.part)
    return Change(part.part.source, part.part.layer, part.rows, tokens if front is None else front.undo(tokens))


def _comparison(
    model: Any, architecture: Architecture, eraser: EraserSet | None, original: Any
) -> Callable[[TextStream, Progress], WeightMoments]:
    """How to compare the projections of a text stream before and after the erasure."""
    if eraser is None:
        before, counts = _original(model, original, architecture)

        def two_models(stream: TextStream, progress: Progress) -> WeightMoments:
            device = compute_device(stream.dimension)
            edited = stream.weights(model, device)
            return WeightMoments.of_weights(stream.weights(before, device, counts), edited, progress.step)

        return two_models
    if original is not None:
        raise WrongConnectionError(
            "Both 'eraser' and 'original' are connected, but they are two ways to say the same: connect an ERASER "
            "that MODEL does not have yet, or the original of a MODEL that was erased."
        )
    architecture.check_eraser(eraser)

    def model_and_eraser(stream: TextStream, progress: Progress) -> WeightMoments:
        weights = stream.weights(model, compute_device(stream.dimension))
        return WeightMoments.of_eraser(gram_matrix(weights, progress.step), eraser[stream.name])

    return model_and_eraser


def _original(model: Any, original: Any, architecture: Architecture) -> tuple[Any, Callable[[Any], bool]]:
    """The MODEL before the erasure, and which patches in its chain count."""
    if original is not None:
        if architecture_of(original) != architecture:
            raise WrongConnectionError(
                f"The original is {architecture_of(original).name}, but MODEL is {architecture.name}: connect the model "
                "that was erased."
            )
        return original, lambda patch: True
    keys = [key for stream in architecture.streams for key in stream.keys]
    patched = any(isinstance(patch[1], EraserAdapter) for key in keys for patch in model.patches.get(key, []))
    if not patched and not any(erased_forwards(model, key) for key in keys):
        raise WrongConnectionError(
            "MODEL has no erasure in its patch chain, so there is nothing to derive from. Connect a model that comes "
            "from 'Erase Concepts' or 'Apply Eraser'; for an erased checkpoint, connect its original too, or connect "
            "the original as MODEL and the ERASER."
        )
    return model, lambda patch: not isinstance(patch, (EraserAdapter, ErasedForward))
