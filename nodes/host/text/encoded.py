"""Encoded prompts: the tokens of every text stream, and where the prompt's own are among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..architectures.sources import TokenSource
from .spans import Span


@dataclass(frozen=True)
class EncodedTokens:
    """The tokens of a prompt that come from one source.

    Attributes:
        tokens: [n, d] where the key and value weights read them.
        span: where the prompt's own tokens are among them.
        source: where they come from.
        places: where in the source's slot they are, indices [n].
    """

    tokens: Tensor
    span: Span
    source: TokenSource
    places: Tensor

    @property
    def last_subject(self) -> int:
        """Index of the last subject token."""
        return self.span.last_subject

    @property
    def from_subject(self) -> Tensor:
        """The tokens [k, d] from the last subject token on."""
        return self.tokens[self.last_subject :]


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the MODEL reads it: the tokens of every source of every text stream, by the stream's name."""

    streams: Mapping[str, tuple[EncodedTokens, ...]]

    def tokens(self, stream: str) -> Tensor:
        """All tokens [n, d] of a text stream."""
        return torch.cat([encoded.tokens for encoded in self.streams[stream]])


def part_label(prompt: str, encoded: EncodedTokens, sources: int) -> str:
    """What reports call a prompt in one of a stream's sources: where there are several, with their text encoders."""
    return prompt if sources == 1 else f"{prompt} ({', '.join(encoded.source.encoders)})"
