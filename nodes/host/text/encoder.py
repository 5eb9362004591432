"""Tokens of a prompt where the key and value weights of a MODEL read them, exactly as sampling will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import InputError
from ....rece_ops.texts import quoted
from ...request.typed_text import check_prompt
from ..architectures.detection import TextStream
from ..architectures.sources import TokenSource
from ..errors import WrongConnectionError
from ..progress import check_cancelled
from ..protocols import Clip
from .conditioning import Conditioning
from .encoded import EncodedPrompt, EncodedTokens
from .encoded_cache import EncodedCache, cache_of
from .reader import TextReader
from .spans import Span, Spans, Tokenized, check_inversions, tokenize

_MAX_WINDOWS = 8
# Of a text encoder without windows, which has no limit of its own: as many as CLIP's windows hold.
_MAX_TOKENS = 77 * _MAX_WINDOWS
TOGETHER = 16
"""Prompts to a pass of the text encoder: enough to keep a device busy, few enough to cancel soon."""


class TextEncoder:
    """Encodes prompts with a CLIP for a MODEL, each once.

    Raises:
        WrongConnectionError: the CLIP is None.
    """

    def __init__(self, clip: Clip | None, reader: TextReader) -> None:
        if clip is None:
            raise WrongConnectionError(
                "CLIP is None: the checkpoint holds no text encoder. Connect the CLIP of a 'Load CLIP' node that "
                f"belongs to {reader.architecture.name}."
            )
        self._clip, self.reader = clip, reader
        self._spans = Spans(clip)
        self._encoded: dict[str, EncodedPrompt] = {}
        self._conditionings: dict[str, Conditioning] = {}

    def encode(self, text: str) -> EncodedPrompt:
        """The embeddings of `text`, with clip skip, textual inversions and LoRAs of the CLIP, but no weights.

        Raises:
            InputError: the text is too long for a concept, or names a textual inversion that is not there.
            WrongConnectionError: the CLIP makes embeddings that the MODEL does not read.
        """
        if text not in self._encoded:
            known = self._known.get(text)
            self._encoded[text] = known or self._encode_alone(text)
            self._known.put(text, self._encoded[text])
        return self._encoded[text]

    def encode_together(self, texts: Sequence[str]) -> dict[str, EncodedPrompt]:
        """What `encode` gives, up to rounding, for many texts that are needed once: each is encoded once.

        Several go through the text encoder in one pass, where it reads every prompt in windows of one length that do not
        know of each other, and the MODEL reads nothing else of it.

        Raises:
            InputError, WrongConnectionError: see `encode`.
        """
        known = {text: self._encoded.get(text) or self._known.get(text, together=True) for text in texts}
        found = {text: prompt for text, prompt in known.items() if prompt is not None}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        together = TOGETHER if self._reads_windows_only() else 1
        for start in range(0, len(new), together):
            passed = self._pass(new[start : start + together])
            for text, prompt in passed.items():
                self._known.put(text, prompt, together=True)
            found.update(passed)
        return found

    def conditioning(self, text: str) -> Conditioning:
        """`text` as CONDITIONING, with everything else that the CLIP gives (pooled output, …).

        Raises:
            InputError, WrongConnectionError: see `encode`.
        """
        if text not in self._conditionings:
            self._conditionings[text] = self._encode(self._tokenized(text))
            self._encoded[text] = self._read(text, self._conditionings[text])
        return self._conditionings[text]

    @cached_property
    def _known(self) -> EncodedCache:
        """What earlier runs with this CLIP have encoded."""
        return cache_of(self._clip, self.reader, self._encode_alone)

    def _encode_alone(self, text: str) -> EncodedPrompt:
        return self._read(text, self._encode(self._tokenized(text)))

    def _pass(self, texts: Sequence[str]) -> dict[str, EncodedPrompt]:
        """The embeddings of `texts`, the windows of all of them given to the text encoder as those of one prompt."""
        tokenized = [self._tokenized(text) for text in texts]
        joined = {name: [window for tokens in tokenized for window in tokens[name]] for name in tokenized[0]}
        ((embedding, values),) = self._encode(joined)
        windows = [max(map(len, tokens.values())) for tokens in tokenized]
        length = embedding.shape[1] // sum(windows)
        shares = torch.split(embedding, [count * length for count in windows], dim=1) if len(texts) > 1 else [embedding]
        return {text: self._read(text, [[share, values]]) for text, share in zip(texts, shares, strict=True)}

    def _reads_windows_only(self) -> bool:
        sources = [source for stream in self.reader.architecture.streams for source in stream.sources]
        return all(source.windows and not source.slot.key for source in sources)

    def _tokenized(self, text: str) -> Tokenized:
        check_cancelled()
        check_prompt(text)
        check_inversions(self._clip, text)
        tokens = tokenize(self._clip, text)
        _check_length(text, tokens, self._spans.of(text))
        return tokens

    def _encode(self, tokens: Tokenized) -> Conditioning:
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
            {stream.name: self._tokens(stream, embedding, values, spans) for stream in self.reader.streams_in(values)}
        )

    def _tokens(
        self, stream: TextStream, embedding: Tensor, values: Mapping[str, Any], spans: Mapping[str, Span]
    ) -> tuple[EncodedTokens, ...]:
        present = [source for source in stream.sources if self._is_loaded(source)]
        if not present:
            raise WrongConnectionError(
                f"This CLIP lacks the text encoder that {self.reader.architecture.name} reads as '{stream.name}': load "
                "all text encoders that belong to the MODEL."
            )
        found, taken = [], 0
        for index, source in enumerate(present):
            held = self.reader.held(source, embedding, values)
            span = self._span(source, spans)
            # Sources that share a slot lie in it one after the other; the last has what is left.
            shares = [other for other in present[index + 1 :] if other.slot.key == source.slot.key]
            end = min(taken + span.count, len(held)) if shares else len(held)
            places = torch.arange(taken if not source.slot.key else 0, end, device=held.device)
            taken = end if not source.slot.key else taken
            tokens = self.reader.read(stream, source, held[places], values)
            found.append(_present_tokens(source, tokens, places, span.shifted(len(places)), values))
        return tuple(found)

    def _span(self, source: TokenSource, spans: Mapping[str, Span]) -> Span:
        if source.pooled:
            return Span(0, 1, 1)
        chosen = [span for name, span in spans.items() if not source.encoders or name in source.encoders]
        if not chosen:
            raise WrongConnectionError(
                f"This CLIP has the text encoders {', '.join(spans)}, but {self.reader.architecture.name} reads "
                f"{' or '.join(source.encoders)}: connect the CLIP that belongs to the MODEL."
            )
        return Span.around(chosen)

    def _is_loaded(self, source: TokenSource) -> bool:
        """Whether the CLIP has what the tokens come from; some text encoders can be left out when loading."""
        encoder = getattr(self._clip, "cond_stage_model", None)
        return not source.modules or any(getattr(encoder, module, None) is not None for module in source.modules)


def _present_tokens(
    source: TokenSource, tokens: Tensor, places: Tensor, span: Span, values: Mapping[str, Any]
) -> EncodedTokens:
    """Those of the tokens [n, d] that say anything: those of the mask, or all but the zeros that UMT5 pads with.

    No weight makes anything of zeros, whatever is erased, and there can be hundreds of them. One token always stays.
    """
    mask = values.get(source.mask) if source.mask else None
    there = tokens.any(dim=1) if mask is None else mask[0].bool().to(places.device)[places]
    there[0] |= not there.any()
    if there.all():
        return EncodedTokens(tokens, span, source, places)
    first, end = (int(there[:place].sum()) for place in (span.first, span.end))
    return EncodedTokens(tokens[there], Span(first, end, int(there.sum())), source, places[there])


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
