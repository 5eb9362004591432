"""The token embeddings of everything that an erasure is told of or measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...rece_ops import ConceptPair, InputError
from ...rece_ops.texts import quoted
from ..concept_lines import ConceptLine
from ..erasure_request import EMPTY, ErasureRequest
from ..everyday_prompts import MEASURED
from .architectures import TextStream
from .conditioning import Entry
from .device import Progress
from .pairing import as_long_as, matched
from .text import FROM_CONDITIONING, EncodedPrompt, TextEncoder, TextReader, named


@dataclass(frozen=True)
class Embedded:
    """The tokens [n, d] of everything that an erasure of one text stream is told of or measured with.

    Attributes:
        pairs: what to erase, and towards what.
        preserved: of the preserved prompts and the empty one, by prompt.
        given: those of them that come from connected embeddings.
        measured: of everyday prompts, by prompt; the erasure does not know them.
        spared: of everyday prompts that it does know.
    """

    pairs: Sequence[ConceptPair]
    given: Sequence[ConceptPair]
    preserved: Mapping[str, Tensor]
    measured: Mapping[str, Tensor]
    spared: Sequence[Tensor]


def embedded(encoder: TextEncoder, request: ErasureRequest, progress: Progress) -> dict[str, Embedded]:
    """Encode what `request` names, for every text stream to erase from by its name; one step of `progress` a prompt.

    The pooled stream is left out where the request says so, or where the CLIP gives the same for everything.
    """
    lines = request.prompts()
    pairs = []
    for line, prompt in lines:
        pairs.append((encoder.encode(prompt), encoder.encode(line.target)))
        progress.step()
    preserved = _encoded(encoder, (EMPTY, *request.preserved), progress)
    measured = _encoded(encoder, MEASURED, progress)
    spared = _encoded(encoder, request.spared, progress)

    def of_stream(stream: TextStream) -> Embedded:
        typed = [
            pair
            for (line, prompt), (concept, target) in zip(lines, pairs, strict=True)
            for pair in _pairs(stream, line, prompt, concept, target)
        ]
        target = encoder.encode(request.concepts[0].target)
        given = _embedding_pairs(encoder.reader, stream, request.embeddings, target)
        return Embedded(
            pairs=[*typed, *given],
            given=given,
            preserved=_tokens(preserved, stream),
            measured=_tokens(measured, stream),
            spared=list(_tokens(spared, stream).values()),
        )

    present = encoder.encode(EMPTY).streams
    streams = [one for one in encoder.reader.architecture.streams if one.name in present]
    found = {stream.name: of_stream(stream) for stream in streams if request.pooled or not stream.pooled}
    return {name: told for name, told in found.items() if told.pairs}


def _pairs(
    stream: TextStream, line: ConceptLine, prompt: str, concept: EncodedPrompt, target: EncodedPrompt
) -> list[ConceptPair]:
    """A pair for every part of the stream in which concept and target differ."""
    parts = list(zip(concept.streams[stream.name], target.streams[stream.name], strict=True))
    found = []
    for one, other in parts:
        pair = matched(named(prompt, one, len(parts)), one, other, line.weight)
        if not torch.equal(*pair.all_rows()):
            found.append(pair)
    if not found and not stream.pooled:
        raise InputError(
            f"The concept {quoted(prompt)} and its target {quoted(line.target)} have the same embedding, so there is nothing to "
            "erase: give another target, or check that the textual inversion in it exists."
        )
    return found


def _embedding_pairs(
    reader: TextReader, stream: TextStream, embeddings: Sequence[Entry], target: EncodedPrompt
) -> list[ConceptPair]:
    """Pairs of connected embeddings; only what all prompts begin with is left out of the first edit."""
    found = []
    for number, (embedding, values) in enumerate(embeddings, start=1):
        if stream not in reader.streams_in(values):
            continue
        for source in dict.fromkeys(part.part.source for part in target.streams[stream.name]):
            parts = [part for part in target.streams[stream.name] if part.part.source == source]
            rows = reader.source(parts[0].part, embedding, values)
            tokens = reader.read(stream, parts[0].part, rows, values, FROM_CONDITIONING)
            start = min(parts[0].span.first, len(tokens) - 1)
            other = as_long_as(torch.cat([part.tokens for part in parts]), len(tokens))
            found.append(ConceptPair(f"embedding {number}", tokens, other, start, start))
    return found


def _encoded(encoder: TextEncoder, prompts: Sequence[str], progress: Progress) -> dict[str, EncodedPrompt]:
    found = {}
    for prompt in prompts:
        found[prompt] = encoder.encode(prompt)
        progress.step()
    return found


def _tokens(prompts: Mapping[str, EncodedPrompt], stream: TextStream) -> dict[str, Tensor]:
    return {name: prompt.tokens(stream.name) for name, prompt in prompts.items()}
