"""What is to be erased, and towards what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .settings import check_coefficient
from .texts import quoted


@dataclass(frozen=True, eq=False)
class ConceptPair:
    """Token embeddings of one concept and of what it is mapped to.

    The first edit pairs the tokens of both from their last subject token to the end, the longer cut
    at the end; every later epoch pairs all tokens (the published code's pairing).

    Attributes:
        name: the concept as a person wrote it, for reports.
        concept: [n, d] token embeddings of the concept.
        target: [m, d] token embeddings of the target.
        concept_start: index of the concept's last subject token (the one before end-of-text).
        target_start: the same for the target.
        scale: weight of this pair relative to the others (multiplies η).

    Raises:
        InputError: a shape, an index or the scale is out of range, or a value is not finite.
    """

    name: str
    concept: Tensor
    target: Tensor
    concept_start: int = 0
    target_start: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_tokens(self.concept, f"concept {quoted(self.name)}")
        check_tokens(self.target, f"the target of concept {quoted(self.name)}", dimension=self.dimension)
        check_coefficient(f"the weight of concept {quoted(self.name)}", self.scale)
        self._check_start("concept_start", self.concept_start, self.concept.shape[0])
        self._check_start("target_start", self.target_start, self.target.shape[0])

    @property
    def dimension(self) -> int:
        """d, the size of a token embedding."""
        return self.concept.shape[1]

    def subject_tokens(self) -> tuple[Tensor, Tensor]:
        """Concept and target tokens as the first edit pairs them: two tensors [k, d]."""
        count = min(self.concept.shape[0] - self.concept_start, self.target.shape[0] - self.target_start)
        return (
            self.concept[self.concept_start : self.concept_start + count],
            self.target[self.target_start : self.target_start + count],
        )

    def all_tokens(self) -> tuple[Tensor, Tensor]:
        """Concept and target tokens as every epoch pairs them: two tensors [min(n, m), d]."""
        count = min(self.concept.shape[0], self.target.shape[0])
        return self.concept[:count], self.target[:count]

    def _check_start(self, field: str, start: int, tokens: int) -> None:
        if not 0 <= start < tokens:
            raise InputError(
                f"{field} of concept {quoted(self.name)} is {start}: give the index of a token, 0 to {tokens - 1}."
            )


@dataclass(frozen=True, eq=False)
class Contrast:
    """A concept and other words in its place: a projection removes what sets the concept apart from them.

    All token embeddings begin with the last subject token; what one has more of is left out.

    Attributes:
        name: the prompt with the concept.
        concept: [n, d].
        others: [m, d], what other words have in its place.
        replacement: [k, d], what its target has there; None: the concept is to come out as the others do.
        scale: weight relative to the other contrasts.

    Raises:
        InputError: a shape or the scale is out of range, or a value is not finite.
    """

    name: str
    concept: Tensor
    others: Tensor
    replacement: Tensor | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_tokens(self.concept, f"concept {quoted(self.name)}")
        check_tokens(self.others, f"what {quoted(self.name)} is compared with", self.dimension)
        if self.replacement is not None:
            check_tokens(self.replacement, f"the target of {quoted(self.name)}", self.dimension)
        check_coefficient(f"the weight of concept {quoted(self.name)}", self.scale)

    @classmethod
    def of(cls, pair: ConceptPair) -> Contrast:
        """A concept compared with its target."""
        return cls(pair.name, *pair.subject_tokens(), scale=pair.scale)

    @property
    def dimension(self) -> int:
        """d, the size of a token embedding."""
        return self.concept.shape[1]

    @property
    def intended(self) -> ConceptPair:
        """The concept and what it should come out as."""
        return ConceptPair(self.name, self.concept, self.others if self.replacement is None else self.replacement)


def intended_outputs(pairs: Sequence[ConceptPair], contrasts: Sequence[Contrast]) -> tuple[ConceptPair, ...]:
    """What a projection makes of each of `pairs`: as its contrast says, which has the same name, or else itself."""
    by_name = {contrast.name: contrast.intended for contrast in contrasts}
    return tuple(by_name.get(pair.name, pair) for pair in pairs)


def check_tokens(tokens: Tensor, what: str, dimension: int | None = None) -> None:
    """Raise InputError unless `tokens` is a finite floating-point tensor [n ≥ 1, d]."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] == 0:
        shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(f"The token embeddings of {what} are {shape}: give a tensor [tokens, dimension].")
    if not tokens.is_floating_point():
        raise InputError(f"The token embeddings of {what} are {tokens.dtype}: give floating-point numbers.")
    if dimension is not None and tokens.shape[1] != dimension:
        raise InputError(
            f"The token embeddings of {what} have dimension {tokens.shape[1]}, the others {dimension}: "
            "encode all prompts with the same text encoder."
        )
    if not bool(torch.isfinite(tokens).all()):
        raise InputError(
            f"The token embeddings of {what} hold NaN or infinite values: check the text encoder "
            "(a half-precision overflow is the usual cause)."
        )


def check_same_dimension(pairs: Sequence[ConceptPair | Contrast], preserved: Sequence[Tensor]) -> int:
    """The common dimension of all token embeddings; raises InputError where they differ or none is given."""
    if not pairs:
        raise InputError("No concept is given: give at least one ConceptPair.")
    dimension = pairs[0].dimension
    for pair in pairs:
        if pair.dimension != dimension:
            raise InputError(
                f"Concept {quoted(pair.name)} has token embeddings of dimension {pair.dimension}, the others "
                f"{dimension}: encode all prompts with the same text encoder."
            )
    for index, tokens in enumerate(preserved):
        check_tokens(tokens, f"preserved prompt {index + 1}", dimension)
    return dimension
