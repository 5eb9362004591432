"""What sets the concepts of a request apart from other words, in every text stream of a MODEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ....rece_ops import gram_matrix
from ...request.erasure_request import ErasureRequest
from ...request.methods import EncodedRequest
from ..architectures.detection import TextStream
from ..progress import JobProgress
from ..session import Session
from ..text.contrasts import gather_differences


def with_differences(
    session: Session,
    request: ErasureRequest,
    streams: Sequence[TextStream],
    encoded: Mapping[str, EncodedRequest],
    progress: JobProgress,
) -> dict[str, EncodedRequest]:
    """`encoded` with the differences that the method's contexts show.

    They are measured in G of each stream, so that the weights are read first (the part 'read' of `progress`), and the
    contexts are encoded once for all streams (its part 'compare').
    """
    grams = {
        stream.name: gram_matrix(session.weights(stream), progress.part("read", turn, len(streams)))
        for turn, stream in enumerate(streams)
    }
    contexts = request.needs.contexts
    found = gather_differences(session.encoder, request.concepts, contexts, encoded, grams, progress.part("compare"))
    return {name: replace(encoded[name], differences=differences) for name, differences in found.items()}
