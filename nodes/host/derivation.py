"""The embedding that regenerates a concept from an erased MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...rece_ops import EraserSet, InputError, Regenerated, WeightMoments, gram_matrix, regenerate
from .adapter import EraserAdapter
from .architectures import Architecture, architecture_of
from .conditioning import Conditioning, with_tokens
from .device import Progress, compute_device
from .errors import WrongConnectionError
from .text import TextEncoder
from .weights import EffectiveWeights


@dataclass(frozen=True)
class DerivedConditioning:
    """What came of a derivation.

    Attributes:
        conditioning: the derived embedding, to be sampled like any prompt; the pooled output is the concept's.
        found: the numbers.
        architecture: of the MODEL.
    """

    conditioning: Conditioning
    found: Regenerated
    architecture: Architecture


def derive_conditioning(
    model: Any, clip: Any, concept: str, regularization: float, eraser: EraserSet | None, original: Any
) -> DerivedConditioning:
    """Derive from one of three: MODEL and an ERASER for it, MODEL and its original, or MODEL with our patch in it.

    Raises:
        InputError: the concept is empty.
        WrongConnectionError: none of the three is given, or two are.
        NumericalError: see `rece_ops.regenerate`.
    """
    if not concept.strip():
        raise InputError("The concept is empty: type what was erased, such as 'nudity'.")
    architecture = architecture_of(model)
    encoder = TextEncoder(clip, architecture)
    wanted, empty = encoder.encode(concept.strip()), encoder.encode("")
    moments = _moments(model, architecture, eraser, original)
    repeats = -(-wanted.tokens.shape[0] // empty.tokens.shape[0])
    harmless = empty.tokens.repeat(repeats, 1)[: wanted.tokens.shape[0]]
    found = regenerate(moments, wanted.tokens, harmless, regularization)
    conditioning = with_tokens(encoder.conditioning(concept.strip()), found.tokens)
    return DerivedConditioning(conditioning, found, architecture)


def _moments(model: Any, architecture: Architecture, eraser: EraserSet | None, original: Any) -> WeightMoments:
    (stream,) = architecture.streams
    device = compute_device(stream.dimension)
    progress = Progress(len(stream.keys))
    if eraser is not None:
        if original is not None:
            raise WrongConnectionError(
                "Both 'eraser' and 'original' are connected, but they are two ways to say the same: connect an ERASER "
                "that MODEL does not have yet, or the original of a MODEL that was erased."
            )
        architecture.check_eraser(eraser)
        gram = gram_matrix(EffectiveWeights(model, stream.keys, device), progress.step)
        return WeightMoments.of_eraser(gram, eraser[stream.name])
    edited = EffectiveWeights(model, stream.keys, device)
    return WeightMoments.of_weights(_original(model, original, architecture, edited), edited, progress.step)


def _original(model: Any, original: Any, architecture: Architecture, edited: EffectiveWeights) -> EffectiveWeights:
    """The projections before the erasure."""
    (stream,) = architecture.streams
    if original is not None:
        if architecture_of(original) != architecture:
            raise WrongConnectionError(
                f"The original is {architecture_of(original).name}, but MODEL is {architecture.name}: connect the model "
                "that was erased."
            )
        return EffectiveWeights(original, stream.keys, edited.device)
    if not any(isinstance(patch[1], EraserAdapter) for key in stream.keys for patch in model.patches.get(key, [])):
        raise WrongConnectionError(
            "MODEL has no erasure in its patch chain, so there is nothing to derive from. Connect a model that comes "
            "from 'Erase Concepts' or 'Apply Eraser'; for an erased checkpoint, connect its original too, or connect "
            "the original as MODEL and the ERASER."
        )
    return EffectiveWeights(model, stream.keys, edited.device, lambda patch: not isinstance(patch, EraserAdapter))
