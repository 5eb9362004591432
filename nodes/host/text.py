"""Token embeddings of a prompt, exactly as sampling will see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
from torch import Tensor

from ...rece_ops import InputError
from .architectures import Architecture
from .conditioning import Conditioning
from .errors import WrongConnectionError

_END_OF_TEXT = 49407
_MAX_WINDOWS = 8

Tokens = Mapping[str, Sequence[Sequence[tuple[Any, ...]]]]


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the MODEL reads it.

    Attributes:
        tokens: [n, d] token embeddings, n a multiple of the text encoder's window (77 for CLIP).
        last_subject: index of the last subject token, the one before end-of-text.
    """

    tokens: Tensor
    last_subject: int


class TextEncoder:
    """Encodes prompts with a CLIP for an architecture; a text asked for twice is encoded once.

    Raises:
        WrongConnectionError: the CLIP is None.
    """

    def __init__(self, clip: Any, architecture: Architecture) -> None:
        if clip is None:
            raise WrongConnectionError(
                "CLIP is None: the checkpoint holds no text encoder. Connect the CLIP of a 'Load CLIP' node that "
                f"belongs to {architecture.name}."
            )
        self._clip, self._architecture = clip, architecture
        self._encoded: dict[str, EncodedPrompt] = {}
        self._conditionings: dict[str, Conditioning] = {}

    def encode(self, text: str) -> EncodedPrompt:
        """The embeddings of `text`, with clip skip, textual inversions and LoRAs of the CLIP, but no weights.

        Raises:
            InputError: the text is too long for a concept.
            WrongConnectionError: the CLIP makes embeddings that the MODEL does not read.
        """
        if text not in self._encoded:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._encoded[text] = self._encode(text)
        return self._encoded[text]

    def conditioning(self, text: str) -> Conditioning:
        """`text` as CONDITIONING, with everything that the CLIP gives besides token embeddings (pooled output, …).

        Raises:
            InputError, WrongConnectionError: see `encode`.
        """
        self.encode(text)
        return self._conditionings[text]

    def _encode(self, text: str) -> EncodedPrompt:
        tokens = self._clip.tokenize(text, disable_weights=True)
        windows = max(len(chunks) for chunks in tokens.values())
        if windows > _MAX_WINDOWS:
            raise InputError(
                f"The prompt '{text[:60]}…' fills {windows} windows of the text encoder; {_MAX_WINDOWS} are the limit. "
                "A concept is a word or a phrase: shorten it."
            )
        scheduled = self._clip.encode_from_tokens_scheduled(tokens)
        if len(scheduled) != 1:
            raise WrongConnectionError(
                "This CLIP carries scheduled hooks, under which a prompt has several embeddings: connect the CLIP from "
                "before the schedule."
            )
        self._conditionings[text] = scheduled
        embedding = scheduled[0][0][0]
        self._check_dimension(embedding.shape[-1])
        return EncodedPrompt(embedding, min(last_subject_token(tokens), embedding.shape[0] - 1))

    def _check_dimension(self, dimension: int) -> None:
        (stream,) = self._architecture.streams
        if dimension != stream.dimension:
            raise WrongConnectionError(
                f"This CLIP makes text embeddings of dimension {dimension}, but the MODEL ({self._architecture.name}) "
                f"reads {stream.dimension}: connect the CLIP that belongs to the MODEL."
            )


def last_subject_token(tokens: Tokens) -> int:
    """Index, in the concatenated windows, of the token before end-of-text; the furthest of all encoders.

    `tokens` is what CLIP.tokenize returns: per encoder a list of windows of (token, weight).
    """
    return max(_last_in_windows(windows) for windows in tokens.values())


def _last_in_windows(windows: Sequence[Sequence[tuple[Any, ...]]]) -> int:
    before = sum(len(window) for window in windows[:-1])
    last = windows[-1]
    for index, (token, *_) in enumerate(last):
        # A textual inversion is a tensor here, never the end-of-text id.
        if index > 0 and isinstance(token, int) and token == _END_OF_TEXT:
            return before + index - 1
    return before + len(last) - 1
