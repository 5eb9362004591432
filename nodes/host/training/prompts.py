"""Prompts as rows of a batch: token embeddings, and whatever else the MODEL reads of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ....rece_ops import POOLED_STREAM, EraserSet, InputError
from ....rece_ops.texts import quoted
from ..session import Session
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
