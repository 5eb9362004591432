"""Where the tokens of a text stream come from: a place in CONDITIONING, and the text encoder that fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .token_stages import TokenStage

POOLED = "pooled_output"
"""The value of CONDITIONING that holds the pooled embedding."""


@dataclass(frozen=True)
class TokenSlot:
    """A place in an entry of CONDITIONING that holds tokens.

    Attributes:
        key: the value that holds them; empty for the token embeddings themselves.
        layer: which of the text encoder's layers, where the value holds several [batch, layers, n, d].
    """

    key: str = ""
    layer: int | None = None

    @property
    def pooled(self) -> bool:
        """Whether it is the pooled embedding: one token for the whole prompt."""
        return self.key == POOLED

    def held_in(self, embedding: Tensor, values: Mapping[str, Any]) -> Any:
        """The whole value that holds the tokens; None where CONDITIONING does not have it."""
        return values.get(self.key) if self.key else embedding

    def of_first_prompt(self, held: Tensor) -> Tensor:
        """The tokens [n, d] of the first prompt in the batch: a view of the value that holds them."""
        if self.pooled:
            return held[:1]
        return held[0] if self.layer is None else held[0, self.layer]

    def of_batch(self, held: Tensor) -> Tensor:
        """The tokens [batch, …, d] of all prompts: a view of the value that holds them."""
        return held if self.layer is None else held[:, self.layer]


@dataclass(frozen=True)
class TokenSource:
    """Tokens that come from one text encoder, or from two side by side.

    Attributes:
        encoders: names in what the CLIP's tokenizer returns; none stands for all that there are.
        slot: where CONDITIONING holds the tokens.
        mask: the value of CONDITIONING that says which tokens are read (1) and which are padding (0); empty: all are.
        windows: whether the encoders pad every prompt to windows of the same length, as CLIP does to 77.
        modules: attributes of the text encoder, of which at least one must be loaded for these tokens to be there.
        stage: what comes before the key and value weights, token by token.
    """

    encoders: tuple[str, ...] = ()
    slot: TokenSlot = TokenSlot()
    mask: str = ""
    windows: bool = False
    modules: tuple[str, ...] = ()
    stage: TokenStage | None = None

    @property
    def pooled(self) -> bool:
        """Whether it is the pooled embedding: one token for the whole prompt."""
        return self.slot.pooled
