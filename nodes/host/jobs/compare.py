"""What sets the concepts of a request apart from other words, in every text stream of a MODEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ....rece_ops import Differences, InputError
from ....rece_ops.linear.gram import measured_gram
from ....rece_ops.progress import Progress, Steps
from ....rece_ops.texts import quoted
from ...request.erasure_request import ErasureRequest
from ...request.methods import EncodedRequest
from ..architectures.detection import TextStream
from ..progress import JobProgress
from ..session import Session
from ..text.contrasts import gather_differences, gather_examples
from .encode_words import main_stream
from .examples import pair_examples


@dataclass(frozen=True)
class Compared:
    """What sets concepts apart.

    Attributes:
        encoded: the request of every text stream with its differences.
        notes: how examples were read, as sentences.
    """

    encoded: Mapping[str, EncodedRequest]
    notes: tuple[str, ...] = ()


def with_differences(
    session: Session,
    request: ErasureRequest,
    streams: Sequence[TextStream],
    encoded: Mapping[str, EncodedRequest],
    progress: JobProgress,
    exact: bool = True,
) -> Compared:
    """`encoded` with the differences that the method's contexts show, or examples where there are some of the first concept.

    They are measured in G of each stream, so that the weights are read first (the part 'read' of `progress`), and the
    contexts are encoded once for all streams (its part 'compare').

    Args:
        session: the MODEL and CLIP.
        request: what to erase.
        streams: to look at.
        encoded: the request of each, by its name.
        progress: of the job.
        exact: compute G in float64, whatever the weights; otherwise the differences know how far it is off.

    Raises:
        GramTooRough: that is too far; never where it is exact.
        InputError: see `pair_examples`, or a text stream reads all examples as the same prompts without the concept.
    """
    found = {
        stream.name: _nothing_yet(
            session, stream, encoded[stream.name], progress.part("read", turn, len(streams)), exact
        )
        for turn, stream in enumerate(streams)
    }
    contexts = request.needs.contexts
    if not request.examples:
        gather_differences(session.encoder, request.concepts, contexts, encoded, found, progress.part("compare"))
        return Compared({name: replace(encoded[name], differences=one) for name, one in found.items()})
    line, *others = request.concepts
    gram = found[main_stream(session).name].gram
    paired = pair_examples(session, line, request.examples, gram, progress.part("compare", 0, 3))
    gather_differences(session.encoder, others, contexts, encoded, found, progress.part("compare", 1, 3))
    # As much as the concept would count in all contexts.
    scale = line.weight * len(contexts)
    without = gather_examples(session.encoder, paired.pairs, found, scale, progress.part("compare", 2, 3))
    for name in found:
        if name not in without:
            raise InputError(
                f"The text stream {quoted(name)} reads every prompt of 'examples' as it reads the same without the concept, as in "
                f"{quoted(paired.pairs[0].prompt)}: give other pairs."
            )
    return Compared(
        {name: replace(encoded[name], differences=one, without=without[name]) for name, one in found.items()},
        (paired.note,),
    )


def _nothing_yet(
    session: Session, stream: TextStream, encoded: EncodedRequest, progress: Progress, exact: bool
) -> Differences:
    """The differences of a text stream before any is added: its weights are read."""
    weights = session.weights(stream)
    gram, error = measured_gram(weights, Steps(progress, len(weights)).done, exact)
    return Differences(gram, [pair.name for pair in encoded.pairs], error)
