"""The embedding that regenerates a concept from an erased MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, EraserSet, InputError, Regenerated, WeightMoments, gram_matrix, regenerate
from ....rece_ops.progress import Progress
from ....rece_ops.settings import check_coefficient
from ..architectures.detection import Architecture, TextStream
from ..architectures.places import check_unshaped
from ..errors import WrongConnectionError
from ..patching.forwards import ErasedForward, erased_forwards
from ..patching.schedules import check_unscheduled
from ..patching.weight_patch import EraserAdapter
from ..progress import JobProgress
from ..session import Session
from ..text.alignment import pair_tokens
from ..text.conditioning import Conditioning, NewTokens, with_tokens
from ..text.encoded import EncodedTokens
from ..text.reader import TextReader
from .apply import apply_eraser


@dataclass(frozen=True)
class DerivedConditioning:
    """What came of a derivation.

    Attributes:
        conditioning: the derived embedding, to be sampled like any prompt; the pooled output is the concept's. Where
            a norm comes before the text readers, it arrives there with another length.
        found: the numbers for each text stream.
        architecture: of the MODEL.
    """

    conditioning: Conditioning
    found: Mapping[str, Regenerated]
    architecture: Architecture


def derive_conditioning(
    session: Session, concept: str, regularization: float, eraser: EraserSet | None, original: Session | None
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
    check_unscheduled(session.model, "this attack")
    architecture, encoder = session.architecture, session.encoder
    intended, empty = encoder.encode(concept.strip()), encoder.encode("")
    compare = _comparison(session, eraser, original)
    progress = JobProgress(derive=1)
    streams = architecture.streams if eraser is None or eraser.changes_weights else architecture.erased_by(eraser)
    streams = [stream for stream in streams if stream.name in intended.streams]
    found, changes = {}, []
    for turn, stream in enumerate(streams):
        parts = intended.streams[stream.name]
        pairs = [pair_tokens("", *sides, 1.0) for sides in zip(parts, empty.streams[stream.name], strict=True)]
        tokens, harmless = (torch.cat(side) for side in zip(*(_same_length(pair) for pair in pairs), strict=True))
        found[stream.name] = regenerate(
            compare(stream, progress.part("derive", turn, len(streams))), tokens, harmless, regularization
        )
        derived = torch.split(found[stream.name].tokens, [len(part.tokens) for part in parts])
        changes += [_new_tokens(session.reader, *pair) for pair in zip(parts, derived, strict=True)]
    return DerivedConditioning(with_tokens(encoder.conditioning(concept.strip()), changes), found, architecture)


def _same_length(pair: ConceptPair) -> tuple[Tensor, Tensor]:
    """Concept and target of a pair; the target's tokens beyond the concept's are left out."""
    return pair.concept, pair.target[: len(pair.concept)]


def _new_tokens(reader: TextReader, encoded: EncodedTokens, derived: Tensor) -> NewTokens:
    stage = reader.stage(encoded.source)
    return NewTokens(encoded.source.slot, encoded.places, derived if stage is None else stage.undo(derived))


def _comparison(
    session: Session, eraser: EraserSet | None, original: Session | None
) -> Callable[[TextStream, Progress], WeightMoments]:
    """How to compare the key and value weights of a text stream before and after the erasure."""
    if eraser is None:
        before, include_patch = _original(session, original)

        def two_models(stream: TextStream, progress: Progress) -> WeightMoments:
            edited = session.weights(stream)
            return WeightMoments.of_weights(before.weights(stream, include_patch), edited, progress)

        return two_models
    if original is not None:
        raise WrongConnectionError(
            "Both 'eraser' and 'original' are connected, but they are two ways to say the same: connect an ERASER "
            "that MODEL does not have yet, or the original of a MODEL that was erased."
        )
    session.architecture.check_eraser(eraser)
    check_unshaped(eraser)
    if not (eraser.transforms or eraser.changes_weights):
        raise WrongConnectionError(
            "This ERASER has only adapters after the cross-attentions, and this attack looks at what reads the text: use 'Invert "
            "Concept' on the erased MODEL instead."
        )
    if eraser.changes_weights:
        erased = Session.open(apply_eraser(session, eraser, 1.0))
        return lambda stream, progress: WeightMoments.of_weights(
            session.weights(stream), erased.weights(stream), progress
        )

    def model_and_eraser(stream: TextStream, progress: Progress) -> WeightMoments:
        return WeightMoments.of_eraser(gram_matrix(session.weights(stream), progress), eraser.transforms[stream.name])

    return model_and_eraser


def _original(session: Session, original: Session | None) -> tuple[Session, Callable[[Any], bool]]:
    """The MODEL before the erasure, and which patches in its chain count."""
    architecture, model = session.architecture, session.model
    if original is not None:
        if original.architecture != architecture:
            raise WrongConnectionError(
                f"The original is {original.architecture.name}, but MODEL is {architecture.name}: connect the model "
                "that was erased."
            )
        return original, lambda patch: True
    keys = architecture.keys
    patched = any(isinstance(patch[1], EraserAdapter) for key in keys for patch in model.patches.get(key, []))
    if not patched and not any(erased_forwards(model, key) for key in keys):
        raise WrongConnectionError(
            "MODEL has no erasure in its patch chain, so there is nothing to derive from. Connect a model that comes "
            "from 'Erase Concepts' or 'Apply Eraser'; for an erased checkpoint, connect its original too, or connect "
            "the original as MODEL and the ERASER."
        )
    return session, lambda patch: not isinstance(patch, (EraserAdapter, ErasedForward))
