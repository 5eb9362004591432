"""What a text encoder adds to a prompt when a concept is in it (Ring-A-Bell, arXiv:2310.10012)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....rece_ops import InputError
from ...request.typed_text import check_prompt
from ..architectures.sources import POOLED
from ..errors import WrongConnectionError
from ..progress import JobProgress, check_cancelled
from ..protocols import Clip
from ..text.conditioning import Conditioning, with_added
from ..text.spans import check_inversions


@dataclass(frozen=True)
class ConceptVector:
    """mean(E(with) − E(without)) over pairs of prompts.

    Attributes:
        tokens: [n, d], one window of the text encoder.
        pooled: [1, p], or None where the encoder gives no pooled output.
        size: norm of `tokens` relative to that of the prompts without the concept.
    """

    tokens: Tensor
    pooled: Tensor | None
    size: float

    def added_to(self, conditioning: Conditioning, scale: float) -> Conditioning:
        """CONDITIONING + scale·vector, in every window."""
        pooled = None if self.pooled is None else scale * self.pooled
        return with_added(conditioning, scale * self.tokens, pooled)


def concept_vector(clip: Clip | None, pairs: Sequence[tuple[str, str]]) -> ConceptVector:
    """The vector of `pairs` (with the concept, without it); only the first window of a prompt counts.

    Raises:
        InputError: there is no pair.
        WrongConnectionError: the CLIP is None.
    """
    if clip is None:
        raise WrongConnectionError("CLIP is None: connect the text encoder that the prompts are encoded with.")
    if not pairs:
        raise InputError(
            "There is no pair of prompts: type some, as in 'a nude woman -> a woman in a dress', or choose a CSV file."
        )
    progress = JobProgress(encode=1).part("encode")
    total: list[Tensor] | None = None
    harmless = 0.0
    for done, pair in enumerate(pairs, start=1):
        with_it, without = (_encoded(clip, text) for text in pair)
        parts = _combined(torch.sub, with_it, without)
        total = parts if total is None else _combined(torch.add, total, parts)
        harmless += float(torch.linalg.vector_norm(without[0]))
        progress(done, len(pairs), "encoding prompts")
    assert total is not None  # there is at least one pair
    mean = [part / len(pairs) for part in total]
    size = float(torch.linalg.vector_norm(mean[0])) / (harmless / len(pairs))
    return ConceptVector(mean[0], mean[1] if len(mean) > 1 else None, size)


def _encoded(clip: Clip, text: str) -> list[Tensor]:
    """Token embeddings [n, d] of the first window, and the pooled output [1, p] if there is one, in float32."""
    check_cancelled()
    check_prompt(text)
    check_inversions(clip, text)
    tokens = clip.tokenize(text)
    first = {encoder: windows[:1] for encoder, windows in tokens.items()}
    ((embedding, values),) = clip.encode_from_tokens_scheduled(first)[:1]
    pooled = values.get(POOLED)
    return [embedding[0].float(), *([] if pooled is None else [pooled.float()])]


def _combined(
    operation: Callable[[Tensor, Tensor], Tensor], ones: Sequence[Tensor], others: Sequence[Tensor]
) -> list[Tensor]:
    """What `operation` makes of every two tensors, over the tokens that both have."""
    return [operation(one[: len(other)], other[: len(one)]) for one, other in zip(ones, others, strict=True)]
