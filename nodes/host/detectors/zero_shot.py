"""CLIP zero-shot: which of several descriptions fits a picture best (Radford et al. 2021), with the host's own CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ....rece_ops import InputError
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.progress import Progress
from ..errors import WrongConnectionError
from ..protocols import Clip
from .detector import Detected, Finding

LOGIT_SCALE = 100.0
"""What OpenAI's CLIP multiplies cosines by; training stopped it there."""
BATCH = 16
_FOUND_SHOWN = 3


class ClipSpace:
    """The space that CLIP's two encoders share.

    Args:
        vision: CLIP_VISION, as 'Load CLIP Vision' gives it.
        clip: CLIP with the text encoder of the same model.

    Raises:
        WrongConnectionError: one is None, or the text encoder has no projection into the shared space.
    """

    def __init__(self, vision: Any, clip: Clip | None) -> None:
        if vision is None or clip is None:
            missing = "CLIP_VISION" if vision is None else "CLIP"
            raise WrongConnectionError(
                f"{missing} is None: this needs both halves of one CLIP. Connect 'Load CLIP Vision' (such as "
                "clip-vit-large-patch14 in models/clip_vision) and the text encoder that belongs to it (such as clip_l in "
                "models/text_encoders, with 'Load CLIP')."
            )
        _check_projection(clip)
        self._vision, self._clip = vision, clip

    def of_pictures(self, pictures: Tensor) -> Tensor:
        """Unit vectors [n, d], float32, of pictures [n, height, width, 3] in 0 … 1."""
        embeds: Tensor = self._vision.encode_image(pictures)["image_embeds"]
        return _unit(embeds, "picture")

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [m, d], float32."""
        return torch.cat([_unit(self._pooled(text), "text") for text in texts])

    def cosines(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """[n, m] of what `of_pictures` and `of_texts` gave.

        Raises:
            WrongConnectionError: the two are not of one CLIP.
        """
        if pictures.shape[1] != texts.shape[1]:
            raise WrongConnectionError(
                f"CLIP_VISION has {pictures.shape[1]} dimensions and CLIP has {texts.shape[1]}: connect the two halves of one "
                "CLIP, such as clip-vit-large-patch14 and clip_l."
            )
        return pictures @ texts.to(pictures.device).T

    def scores(self, pictures: Tensor, texts: Sequence[str]) -> list[float]:
        """CLIP scores, 100 · max(cos, 0), of each of the pictures with the text in its place (Hessel et al., EMNLP 2021).

        Args:
            pictures: [n, height, width, 3] in 0 … 1.
            texts: n; of a long one the first window counts, as in CLIP itself.

        Raises:
            WrongConnectionError: the two halves are not of one CLIP.
        """
        cosines = self.cosines(self.of_pictures(pictures), self.of_texts(texts)).diagonal()
        return [LOGIT_SCALE * max(cosine, 0.0) for cosine in cosines.tolist()]

    def _pooled(self, text: str) -> Tensor:
        ((_, values),) = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text))
        pooled: Tensor | None = values.get("pooled_output")
        if pooled is None:
            raise WrongConnectionError("This CLIP gives no pooled output: connect a CLIP text encoder, such as clip_l.")
        return pooled


class ZeroShot:
    """See `Detector`: the descriptions of the concept against others, a softmax over 100 times their cosines.

    Args:
        space: of the CLIP that looks.
        concept: descriptions, any of which is the concept.
        others: what it could be instead; at least one.
        threshold: the least share of the softmax that falls on the concept's descriptions.

    Raises:
        InputError: there is no description.
    """

    def __init__(self, space: ClipSpace, concept: Sequence[str], others: Sequence[str], threshold: float) -> None:
        if not concept or not others:
            raise InputError(
                "CLIP compares descriptions: give at least one of the concept, such as 'a photo of a church', and one of "
                "something else, such as 'a photo of a house'."
            )
        self._space, self._concept, self._threshold = space, tuple(concept), threshold
        self._texts = space.of_texts([*concept, *others])
        self.name = "CLIP zero-shot"
        self.rule = (
            f"at least {threshold:g} of CLIP's probability falls on the concept's descriptions, of {len(concept)} of them and "
            f"{len(others)} others"
        )

    def detect(self, pictures: Tensor, progress: Progress | None = None) -> list[Detected]:
        """See `Detector`."""
        found: list[Detected] = []
        for batch in torch.split(pictures, BATCH):
            cosines = self._space.cosines(self._space.of_pictures(batch), self._texts)
            shares = (LOGIT_SCALE * cosines).softmax(dim=1)[:, : len(self._concept)]
            found += [self._of_shares(row) for row in shares.tolist()]
            if progress is not None:
                progress(len(found), len(pictures), "CLIP")
        return found

    def _of_shares(self, shares: Sequence[float]) -> Detected:
        # A sum of float32 can end just above 1.
        total = min(sum(shares), 1.0)
        named = sorted(
            (Finding(text, share) for text, share in zip(self._concept, shares, strict=True)), key=_less_sure
        )
        return Detected(total >= self._threshold, total, tuple(named[:_FOUND_SHOWN]))


def _less_sure(finding: Finding) -> float:
    return -finding.score


def _unit(embeds: Tensor, what: str) -> Tensor:
    if embeds.ndim != 2 or not is_finite(embeds) or not embeds.any(dim=1).all():
        raise WrongConnectionError(
            f"CLIP gives no usable embedding of a {what}: load another CLIP, or the same in another dtype."
        )
    return normalize(embeds.float(), dim=1)


def _check_projection(clip: Clip) -> None:
    """Raise WrongConnectionError where a text encoder lacks the projection into the space of pictures."""
    model = getattr(clip, "cond_stage_model", None)
    encoder = getattr(model, "clip_g", None) or getattr(model, "clip_l", None)
    projection = getattr(getattr(encoder, "transformer", None), "text_projection", None)
    weight = getattr(projection, "weight", None)
    if weight is None or not isinstance(weight, Tensor):
        return
    weight = weight.float()
    square = weight.shape[0] == weight.shape[1]
    if not is_finite(weight) or not weight.any() or (square and torch.equal(weight, torch.eye(len(weight)).to(weight))):
        raise WrongConnectionError(
            "This CLIP has no projection of texts into the space of pictures, which checkpoints of Stable Diffusion 1 leave "
            "out: load a complete text encoder, such as clip_l in models/text_encoders, with 'Load CLIP'."
        )
