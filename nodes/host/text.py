"""Tokens of a prompt where the projections of a MODEL read them, exactly as sampling will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...rece_ops import InputError
from ...rece_ops.texts import quoted
from ..typed_text import check_prompt
from .architectures import Architecture, TextStream
from .conditioning import POOLED, Conditioning
from .errors import WrongConnectionError
from .families import Part
from .fronts import LoadedFront
from .spans import Span, Spans, tokenize

_MAX_WINDOWS = 8
# Of a text encoder without windows, which has no limit of its own: as many as CLIP's windows hold.
_MAX_TOKENS = 77 * _MAX_WINDOWS

FROM_CLIP = ("This CLIP makes", "connect the CLIP that belongs to the MODEL")
FROM_CONDITIONING = ("CONDITIONING holds", "connect one that was made for this model")


@dataclass(frozen=True)
class EncodedPart:
    """The rows of one part of a text stream.

    Attributes:
        tokens: [n, d] tokens where the projections read them.
        span: where the prompt's own tokens are among them.
        part: which part it is.
        rows: where in the part's source they come from, indices [n].
    """

    tokens: Tensor
    span: Span
    part: Part
    rows: Tensor

    @property
    def last_subject(self) -> int:
        """Index of the last subject token."""
        return self.span.last_subject


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the MODEL reads it: the parts of every text stream, by the stream's name."""

    streams: Mapping[str, tuple[EncodedPart, ...]]

    def tokens(self, stream: str) -> Tensor:
        """All tokens [n, d] of a text stream."""
        return torch.cat([part.tokens for part in self.streams[stream]])


def named(prompt: str, part: EncodedPart, parts: int) -> str:
    """What reports call a part of a prompt: the prompt, and where there are several parts, their text encoders."""
    return prompt if parts == 1 else f"{prompt} ({', '.join(part.part.encoders)})"


class TextReader:
    """Says what of CONDITIONING reaches the projections of a MODEL."""

    def __init__(self, model: Any, architecture: Architecture) -> None:
        self.architecture = architecture
        fronts = {part.front for stream in architecture.streams for part in stream.parts if part.front is not None}
        self._fronts = {front: front.of(model) for front in fronts}

    def front(self, part: Part) -> LoadedFront | None:
        """What comes before the projections that read `part`; None where nothing does."""
        return None if part.front is None else self._fronts[part.front]

    def source(self, part: Part, embedding: Tensor, values: Mapping[str, Any]) -> Tensor:
        """The tokens [n, d] that a part's rows are taken from, of the first prompt in the batch.

        Raises:
            WrongConnectionError: CONDITIONING does not have them.
        """
        found = values.get(part.source) if part.source else embedding
        if not isinstance(found, Tensor):
            raise WrongConnectionError(
                f"CONDITIONING has no '{part.source}', which {self.architecture.name} reads: encode the prompt with the "
                "CLIP that belongs to the MODEL."
            )
        if part.pooled:
            return found[:1]
        return found[0] if part.layer is None else found[0, part.layer]

    def streams_in(self, values: Mapping[str, Any]) -> list[TextStream]:
        """The text streams that CONDITIONING with those values fills: all, or all but the pooled one."""
        return [stream for stream in self.architecture.streams if not stream.pooled or values.get(POOLED) is not None]

    def read(
        self,
        stream: TextStream,
        part: Part,
        rows: Tensor,
        values: Mapping[str, Any],
        origin: tuple[str, str] = FROM_CLIP,
    ) -> Tensor:
        """What the projections read for `rows` [n, d']: [n, d].

        Args:
            stream: that the rows belong to.
            part: of the stream.
            rows: of the part's source.
            values: of the CONDITIONING that they come from.
            origin: subject and remedy of the error about a wrong dimension.

        Raises:
            WrongConnectionError: the rows have another dimension than MODEL reads.
        """
        front = self.front(part)
        expected = stream.dimension if front is None else front.reads
        if rows.shape[-1] != expected:
            subject, remedy = origin
            raise WrongConnectionError(
                f"{subject} text embeddings of dimension {rows.shape[-1]}, but the MODEL ({self.architecture.name}) "
                f"reads {expected}: {remedy}."
            )
        return rows if front is None else front.apply(rows, values)


class TextEncoder:
    """Encodes prompts with a CLIP for a MODEL; what is kept is encoded once.

    Raises:
        WrongConnectionError: the CLIP is None.
    """

    def __init__(self, clip: Any, reader: TextReader) -> None:
        if clip is None:
            raise WrongConnectionError(
                "CLIP is None: the checkpoint holds no text encoder. Connect the CLIP of a 'Load CLIP' node that "
                f"belongs to {reader.architecture.name}."
            )
        self._clip, self.reader = clip, reader
        self._spans = Spans(clip)
        self._encoded: dict[str, EncodedPrompt] = {}
        self._conditionings: dict[str, Conditioning] = {}

    def encode(self, text: str, keep: bool = True) -> EncodedPrompt:
        """The embeddings of `text`, with clip skip, textual inversions and LoRAs of the CLIP, but no weights.

        What is needed once, of many, is not worth to `keep`.

        Raises:
            InputError: the text is too long for a concept.
            WrongConnectionError: the CLIP makes embeddings that the MODEL does not read.
        """
        if text in self._encoded:
            return self._encoded[text]
        found = self._read(text, self._scheduled(text))
        if keep:
            self._encoded[text] = found
        return found

    def conditioning(self, text: str) -> Conditioning:
        """`text` as CONDITIONING, with everything that the CLIP gives besides token embeddings (pooled output, …).

        Raises:
            InputError, WrongConnectionError: see `encode`.
        """
        if text not in self._conditionings:
            self._conditionings[text] = self._scheduled(text)
            self._encoded[text] = self._read(text, self._conditionings[text])
        return self._conditionings[text]

    def _scheduled(self, text: str) -> Conditioning:
        comfy.model_management.throw_exception_if_processing_interrupted()
        check_prompt(text)
        tokens = tokenize(self._clip, text)
        _check_length(text, tokens, self._spans.of(text))
        scheduled = self._clip.encode_from_tokens_scheduled(tokens)
        if len(scheduled) != 1:
            raise WrongConnectionError(
                "This CLIP carries scheduled hooks, under which a prompt has several embeddings: connect the CLIP from "
                "before the schedule."
            )
        return scheduled

    def _read(self, text: str, conditioning: Conditioning) -> EncodedPrompt:
        spans = self._spans.of(text)
        ((embedding, values),) = conditioning
        return EncodedPrompt(
            {stream.name: self._parts(stream, embedding, values, spans) for stream in self.reader.streams_in(values)}
        )

    def _parts(
        self, stream: TextStream, embedding: Tensor, values: Mapping[str, Any], spans: Mapping[str, Span]
    ) -> tuple[EncodedPart, ...]:
        present = [part for part in stream.parts if self._is_loaded(part)]
        if not present:
            raise WrongConnectionError(
                f"This CLIP lacks the text encoder that {self.reader.architecture.name} reads as '{stream.name}': load "
                "all text encoders that belong to the MODEL."
            )
        found, taken = [], 0
        for place, part in enumerate(present):
            source = self.reader.source(part, embedding, values)
            span = self._span(part, spans)
            # Parts that share a source lie in it one after the other; the last has what is left.
            shares = [other for other in present[place + 1 :] if other.source == part.source]
            end = min(taken + span.count, len(source)) if shares else len(source)
            rows = torch.arange(taken if not part.source else 0, end, device=source.device)
            taken = end if not part.source else taken
            found.append(self._part(stream, part, source, rows, span.shifted(len(rows)), values))
        return tuple(found)

    def _part(
        self, stream: TextStream, part: Part, source: Tensor, rows: Tensor, span: Span, values: Mapping[str, Any]
    ) -> EncodedPart:
        tokens = self.reader.read(stream, part, source[rows], values)
        there = _are_there(part, tokens, rows, values)
        if there.all():
            return EncodedPart(tokens, span, part, rows)
        first, end = (int(there[:place].sum()) for place in (span.first, span.end))
        return EncodedPart(tokens[there], Span(first, end, int(there.sum())), part, rows[there])

    def _span(self, part: Part, spans: Mapping[str, Span]) -> Span:
        if part.pooled:
            return Span(0, 1, 1)
        chosen = [span for name, span in spans.items() if not part.encoders or name in part.encoders]
        if not chosen:
            raise WrongConnectionError(
                f"This CLIP has the text encoders {', '.join(spans)}, but {self.reader.architecture.name} reads "
                f"{' or '.join(part.encoders)}: connect the CLIP that belongs to the MODEL."
            )
        return Span.around(chosen)

    def _is_loaded(self, part: Part) -> bool:
        """Whether the CLIP has what the part comes from; some text encoders can be left out when loading."""
        encoder = getattr(self._clip, "cond_stage_model", None)
        return not part.modules or any(getattr(encoder, module, None) is not None for module in part.modules)


def _are_there(part: Part, tokens: Tensor, rows: Tensor, values: Mapping[str, Any]) -> Tensor:
    """Which of the tokens [n, d] say anything, [n]: those of the mask, or all but the zeros that UMT5 pads with.

    No projection makes anything of zeros, whatever is erased, and there can be hundreds of them. One token always stays.
    """
    mask = values.get(part.mask) if part.mask else None
    there = tokens.any(dim=1) if mask is None else mask[0].bool().to(rows.device)[rows]
    there[0] |= not there.any()
    return there


def _check_length(text: str, tokens: Mapping[str, Sequence[Sequence[Any]]], spans: Mapping[str, Span]) -> None:
    windows = max(len(chunks) for chunks in tokens.values())
    if windows > _MAX_WINDOWS:
        raise InputError(
            f"The prompt {quoted(text)} fills {windows} windows of the text encoder; {_MAX_WINDOWS} are the limit. "
            "A concept is a word or a phrase: shorten it."
        )
    length = max(span.end - span.first for span in spans.values())
    if length > _MAX_TOKENS:
        raise InputError(
            f"The prompt {quoted(text)} has {length} tokens; {_MAX_TOKENS} are the limit. A concept is a word or a "
            "phrase: shorten it."
        )
