"""Prompts as rows of a batch: token embeddings, and whatever else the MODEL reads of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import POOLED_STREAM, EraserSet, InputError
from ....rece_ops.texts import quoted
from ...request.training_request import PLACE, TrainingRequest
from ..session import Session
from ..text.spans import Span
from .denoiser import Denoiser

# What SDXL reads of the pooled embedding begins with it; sizes follow.
_POOLED_CONDITION = "y"


class PromptRows:
    """Every prompt once, encoded.

    Args:
        session: encodes them.
        prompts: without repetitions.
        denoiser: says what else the MODEL reads.
        device: where they live, in float32.

    Raises:
        InputError: a prompt fills more than one window of the text encoder.
    """

    def __init__(self, session: Session, prompts: Sequence[str], denoiser: Denoiser, device: torch.device) -> None:
        self._places = {prompt: place for place, prompt in enumerate(prompts)}
        check_one_window(session, prompts)
        contexts, conditions = [], []
        for prompt in prompts:
            ((embedding, values),) = session.encoder.conditioning(prompt)
            contexts.append(embedding.clone())
            conditions.append(denoiser.conditions(values))
        self.contexts = torch.cat(contexts).to(device, torch.float32)
        self._conditions = {name: torch.cat([one[name] for one in conditions]).clone() for name in conditions[0]}

    def places(self, prompts: Sequence[str]) -> Tensor:
        """Where those prompts are, [n], on the CPU."""
        return torch.tensor([self._places[prompt] for prompt in prompts], dtype=torch.long)

    def conditions(self, places: Tensor) -> dict[str, Tensor]:
        """What else the MODEL reads of the prompts at `places`, one row each."""
        return {name: value[places.to(value.device)] for name, value in self._conditions.items()}

    def rows(self, places: Tensor) -> Tensor:
        """Token embeddings [n, tokens, d] of the prompts at `places`."""
        return self.contexts[places.to(self.contexts.device)]


def check_one_window(session: Session, prompts: Sequence[str]) -> None:
    """Raise InputError where a prompt is longer than what is trained with."""
    shortest = min(session.encoder.conditioning(prompt)[0][0].shape[1] for prompt in prompts)
    for prompt in prompts:
        if session.encoder.conditioning(prompt)[0][0].shape[1] != shortest:
            raise InputError(
                f"The prompt {quoted(prompt)} fills more than one window of the text encoder: shorten it in 'contexts' or "
                "'preserve'."
            )


@dataclass(frozen=True)
class PlacedPhrase:
    """A prompt with a concept, and where it is there.

    Attributes:
        concept, anchor: the prompt, and the same with the anchor in the concept's place.
        number: of the concept.
        first, end: of the concept's tokens, the end not among them.
        behind: the first token after the prompt's own.
    """

    concept: str
    anchor: str
    number: int
    first: int
    end: int
    behind: int


def placed_phrases(session: Session, request: TrainingRequest[Any]) -> list[PlacedPhrase]:
    """Every concept in every context, concepts in turn; where a context has several places, the first counts.

    Raises:
        InputError, WrongConnectionError: see `TextEncoder.encode`.
    """
    found = []
    for number, phrase in enumerate(request.phrases()):
        line = request.concepts[number % len(request.concepts)]
        context = request.contexts[number // len(request.concepts)]
        before = " ".join(context.partition(PLACE)[0].split())
        whole, own = (_span(session, text) for text in (phrase.concept, f"{before} {line.concept}".strip()))
        first = _span(session, before).end if before else whole.first
        # Where a context writes the concept and its neighbour as one word, all of the prompt counts as the concept.
        first, end = (first, own.end) if first < own.end <= whole.end else (whole.first, whole.end)
        found.append(PlacedPhrase(phrase.concept, phrase.anchor, number % len(request.concepts), first, end, whole.end))
    return found


def _span(session: Session, text: str) -> Span:
    """Where the tokens of `text` are, in the text encoders that are read side by side."""
    return next(iter(session.encoder.encode(text).streams.values()))[0].span


class ErasedReading:
    """What the text readers of an erased MODEL make of a batch: W·T·c = W·(T·c).

    Args:
        eraser: whose text transforms count.
        device: where they are applied, in float32.
    """

    def __init__(self, eraser: EraserSet | None, device: torch.device) -> None:
        transforms = {} if eraser is None else eraser.transforms
        self._differences = {
            name: one.difference().to(device, torch.float32, copy=True) for name, one in transforms.items()
        }

    def contexts(self, contexts: Tensor) -> Tensor:
        """T·c of token embeddings [n, tokens, d]; autograd goes through it."""
        difference = self._differences.get("text")
        return contexts if difference is None else contexts + contexts @ difference.T

    def conditions(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same of the pooled embedding, where the MODEL reads one."""
        found, difference = dict(conditions), self._differences.get(POOLED_STREAM)
        if difference is not None and _POOLED_CONDITION in found:
            whole = found[_POOLED_CONDITION].to(difference)
            pooled = whole[:, : len(difference)]
            found[_POOLED_CONDITION] = torch.cat([pooled + pooled @ difference.T, whole[:, len(difference) :]], dim=1)
        return found
