"""The token embeddings of everything that an erasure is given or measured with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ....rece_ops import ConceptPair, InputError
from ....rece_ops.progress import Progress, Steps
from ....rece_ops.texts import quoted
from ...request.concept_lines import ConceptLine
from ...request.erasure_request import EMPTY, ErasureRequest
from ...request.everyday_prompts import HELD_OUT
from ...request.methods import EncodedRequest, Needs
from ...request.target_mixtures import mixture_of
from ..architectures.detection import TextStream
from .alignment import mix_targets, pair_tokens, repeat_to_length
from .conditioning import Entry
from .encoded import EncodedPrompt, part_label
from .encoder import TOGETHER, TextEncoder
from .reader import FROM_CONDITIONING, TextReader

T = TypeVar("T")
_STAGE = "encoding prompts"


def encode_request(
    encoder: TextEncoder, request: ErasureRequest, needs: Needs, progress: Progress
) -> dict[str, EncodedRequest]:
    """Encode what `request` names, for every text stream to erase from by its name.

    The pooled stream is left out where the request says so, or where the CLIP gives the same for everything.

    Args:
        encoder: of the prompts.
        request: names concepts, targets and what is preserved.
        needs: what else to encode.
        progress: called for every prompt; may raise to cancel.

    Raises:
        InputError: a concept has its target's embedding, or a prompt is too long.
        WrongConnectionError: the CLIP does not belong to the MODEL.
    """
    lines = request.prompts()
    groups = (needs.calibration, (EMPTY, *request.preserved), needs.tuning, HELD_OUT)
    steps = Steps(progress, len(lines) + sum(map(len, groups)))

    def counted(items: Iterable[T]) -> list[T]:
        found = []
        for item in items:
            found.append(item)
            steps.done(_STAGE)
        return found

    def together(texts: Sequence[str]) -> dict[str, EncodedPrompt]:
        found: dict[str, EncodedPrompt] = {}
        for start in range(0, len(texts), TOGETHER):
            found.update(counted(encoder.encode_together(texts[start : start + TOGETHER]).items()))
        return found

    pairs = counted((encoder.encode(prompt), _encoded_targets(encoder, line)) for line, prompt in lines)
    calibration, preserved, tuning, held_out = map(together, groups)

    def of_stream(stream: TextStream) -> EncodedRequest:
        typed = [
            pair
            for (line, prompt), (concept, targets) in zip(lines, pairs, strict=True)
            for pair in _pairs(stream, line, prompt, concept, targets)
        ]
        target = encoder.encode(request.concepts[0].target)
        given = _embedding_pairs(encoder.reader, stream, request.embeddings, target)
        return EncodedRequest(
            pairs=[*typed, *given],
            preserved=_tokens(preserved, stream),
            given=given,
            calibration=list(_tokens(calibration, stream).values()),
            tuning=_tokens(tuning, stream),
            held_out=_tokens(held_out, stream),
        )

    present = encoder.encode(EMPTY).streams
    streams = [one for one in encoder.reader.architecture.streams if one.name in present]
    found = {stream.name: of_stream(stream) for stream in streams if request.pooled or not stream.pooled}
    return {name: encoded for name, encoded in found.items() if encoded.pairs}


def _encoded_targets(encoder: TextEncoder, line: ConceptLine) -> list[tuple[EncodedPrompt, float]]:
    """What the concept is mapped to, with shares that sum to 1."""
    shares = mixture_of(line.target) or {line.target: 1.0}
    return [(encoder.encode(target), share) for target, share in shares.items()]


def _pairs(
    stream: TextStream,
    line: ConceptLine,
    prompt: str,
    concept: EncodedPrompt,
    targets: Sequence[tuple[EncodedPrompt, float]],
) -> list[ConceptPair]:
    """A pair for every source of the stream in which concept and target differ."""
    sources = concept.streams[stream.name]
    found = []
    for place, one in enumerate(sources):
        label = part_label(prompt, one, len(sources))
        pairs = {
            pair_tokens(label, one, target.streams[stream.name][place], line.weight): share for target, share in targets
        }
        pair = mix_targets(pairs) if len(pairs) > 1 else next(iter(pairs))
        if not torch.equal(*pair.all_tokens()):
            found.append(pair)
    if not found and not stream.pooled:
        raise InputError(
            f"The concept {quoted(prompt)} and its target {quoted(line.target)} have the same embedding, so there is nothing to "
            "erase: give another target, or check that the textual inversion in it was made for this text encoder."
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
        for key in dict.fromkeys(one.source.slot.key for one in target.streams[stream.name]):
            targets = [one for one in target.streams[stream.name] if one.source.slot.key == key]
            source = targets[0].source
            held = reader.held(source, embedding, values)
            tokens = reader.read(stream, source, held, values, FROM_CONDITIONING)
            start = min(targets[0].span.first, len(tokens) - 1)
            other = repeat_to_length(torch.cat([one.tokens for one in targets]), len(tokens))
            found.append(ConceptPair(f"embedding {number}", tokens, other, start, start))
    return found


def _tokens(prompts: Mapping[str, EncodedPrompt], stream: TextStream) -> dict[str, Tensor]:
    return {name: prompt.tokens(stream.name) for name, prompt in prompts.items()}
