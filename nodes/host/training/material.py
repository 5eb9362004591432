"""What is trained on: prompts, and pictures that a person connects or that the MODEL makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import InputError
from ....rece_ops.training.objectives import chosen
from ...request.training_request import Phrase, TrainingRequest
from ..progress import JobProgress
from ..session import Session
from .images import checked_images
from .pictures import make_pictures

# Seeds of the pictures of what should stay begin so far behind those of the concepts.
_OTHERS = 1_000_000


@dataclass(frozen=True)
class TrainingPrompts:
    """What each picture is a picture of.

    Attributes:
        phrases: those that are used.
        shown: of each picture of a concept the place of its phrase.
        others: the prompt of each picture of something else.
    """

    phrases: tuple[Phrase, ...]
    shown: Tensor
    others: tuple[str, ...]

    def every(self) -> list[str]:
        """All prompts that are trained with, once."""
        sides = [prompt for phrase in self.phrases for prompt in (phrase.concept, phrase.anchor)]
        return list(dict.fromkeys(["", *sides, *self.others]))


@dataclass(frozen=True)
class TrainingPictures:
    """Latents [n, …] as a VAE or a sampler gives them, of the concepts and of what should stay."""

    concept: Tensor
    retained: Tensor


def check_pictures(request: TrainingRequest[Any], images: Tensor | None, retained_images: Tensor | None) -> None:
    """Raise InputError where there would be no pictures, or nobody could tell what they show."""
    if images is not None and len(request.concepts) > 1:
        raise InputError(
            f"There are images and {len(request.concepts)} concepts: which image shows which cannot be told. Give one concept a "
            "node, or leave 'images' open."
        )
    for given, name, own in (
        (images, "images", request.pictures.concept),
        (retained_images, "retained_images", request.pictures.other),
    ):
        if given is None and own == 0:
            wanted = "pictures" if name == "images" else "retained_pictures"
            raise InputError(f"'{wanted}' is 0 and nothing is connected to '{name}': give one of the two.")


def prompts_of(request: TrainingRequest[Any], images: Tensor | None, retained_images: Tensor | None) -> TrainingPrompts:
    """Phrases in turn, and of what should stay as many different prompts as there are pictures."""
    count = request.pictures.concept if images is None else len(images)
    phrases = tuple(request.phrases()[:count])
    retained = request.retained()
    generator = torch.Generator().manual_seed(request.settings.seed)
    others = chosen(
        generator, len(retained), request.pictures.other if retained_images is None else len(retained_images)
    )
    return TrainingPrompts(phrases, torch.arange(count) % len(phrases), tuple(retained[place] for place in others))


def pictures_of(
    session: Session,
    request: TrainingRequest[Any],
    prompts: TrainingPrompts,
    images: Tensor | None,
    retained_images: Tensor | None,
    progress: JobProgress,
) -> TrainingPictures:
    """Latents of the images, or of what the MODEL makes; the progress has the parts 'concept' and 'other'.

    Raises:
        InputError: images are of a wrong size, or of two sizes.
        WrongConnectionError: there are images and no VAE.
    """
    asked, seed = request.pictures, request.settings.seed
    if images is None:
        shown = [prompts.phrases[place].concept for place in prompts.shown]
        concept = make_pictures(session, shown, asked, seed, progress.part("concept"))
    else:
        concept = session.vae.encode(checked_images(images)[..., :3])
    if retained_images is None:
        others = make_pictures(session, prompts.others, asked, seed + _OTHERS, progress.part("other"))
    else:
        others = session.vae.encode(checked_images(retained_images)[..., :3])
    if concept.shape[1:] != others.shape[1:]:
        raise InputError(
            f"The pictures of the concept give latents {list(concept.shape[1:])}, those of what should stay "
            f"{list(others.shape[1:])}: make all of one size, and set 'size' to it."
        )
    return TrainingPictures(concept, others)
