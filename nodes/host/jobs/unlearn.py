"""Few-shot unlearning in the text encoder (Fuchi and Takagi, BMVC 2024, arXiv:2405.07288).

The error of the MODEL on pictures of the concept, under prompts that name it, is made to rise by changing the text encoder:
the feed-forward layers and the last self-attention. As published it rises without a bound, for 8 to 10 steps. Bounded, each
picture's error stops where it is that of a prompt with the target in the concept's place, and predictions on other pictures are
held. (The published weight decay of 1e-8 is left out: it is nothing in ten steps of 1e-5.)
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace

import comfy.model_management
import torch
from torch import Tensor

from ....rece_ops import InputError
from ....rece_ops.texts import quoted
from ....rece_ops.training.objectives import bounded_ascent, chosen, error, errors
from ....rece_ops.training.settings import UnlearningSettings
from ...request.training_request import TrainingRequest
from ..errors import UnsupportedModelError, WrongConnectionError
from ..patching.weights import quantised_as
from ..progress import JobProgress, PictureProgress
from ..protocols import Clip
from ..session import Session
from ..training.denoiser import LOSS_SCALE, Denoiser, Noised, constant_weights
from ..training.material import TrainingPictures, TrainingPrompts, check_pictures, pictures_of, prompts_of
from ..training.prompts import PromptRows, check_one_window
from ..training.text import TrainedText, drop_unread_attention, unlearned_keys
from .plain_unet import check_plain, check_unet

_BETAS, _EPSILON = (0.9, 0.98), 1e-6
_WAY = "training"


@dataclass
class UnlearningRecord:
    """What happened, step by step; all are mean squared differences of predicted noises.

    Attributes:
        concept: from the true noise of the concept's pictures, with prompts that name it.
        unedited: what the MODEL had in its place before.
        anchored: what it has with the target in the concept's place.
        retaining: from the MODEL's own predictions of other pictures; empty where nothing is held.
        stopped: why it ended before its last step, as the rest of a sentence; empty where it did not.
    """

    concept: list[float] = field(default_factory=list)
    unedited: list[float] = field(default_factory=list)
    anchored: list[float] = field(default_factory=list)
    retaining: list[float] = field(default_factory=list)
    stopped: str = ""


@dataclass(frozen=True)
class Unlearned:
    """What came of an unlearning.

    Attributes:
        clip: a clone of CLIP with the patches.
        record: the errors.
        feed_forward, attention: how many weights were changed.
        pictures, retained: how many were trained on.
        seconds: of the training itself.
        device: where it ran.
    """

    clip: Clip
    record: UnlearningRecord
    feed_forward: int
    attention: int
    pictures: int
    retained: int
    seconds: float
    device: torch.device


def unlearn_in_text_encoder(
    session: Session,
    request: TrainingRequest[UnlearningSettings],
    images: Tensor | None = None,
    retained_images: Tensor | None = None,
    strength: float = 1.0,
) -> Unlearned:
    """A CLIP without the concepts; MODEL, CLIP and VAE are not changed, however it ends.

    Args:
        session: MODEL, CLIP, and with images the VAE.
        request: what to unlearn and how.
        images: [n, height, width, 3] of the concept; None lets the MODEL make some.
        retained_images: of what should stay.
        strength: of the patches.

    Raises:
        InputError: something cannot be trained with; the message says what.
        UnsupportedModelError: MODEL is no UNet in plain floating point, or CLIP is quantised or no CLIP.
        WrongConnectionError: VAE or CLIP is missing.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    check_unet(session, _WAY)
    check_plain(session, session.architecture.keys, _WAY)
    keys = _checked_keys(session.clip)
    if not request.settings.bounded:
        # Nothing is retained: what is made all the same would be thrown away.
        request, retained_images = replace(request, pictures=replace(request.pictures, other=1)), None
    check_pictures(request, images, retained_images)
    prompts = prompts_of(request, images, retained_images)
    check_one_window(session, prompts.every())
    progress = JobProgress(concept=4, other=4, train=4)
    pictures = pictures_of(session, request, prompts, images, retained_images, progress)
    with torch.inference_mode(False), torch.enable_grad():
        unlearning = _Unlearning(session, request.settings, prompts, pictures, keys)
        started = time.perf_counter()
        unlearning.run(progress.part("train"))
        counts = unlearning.text.counts()
        return Unlearned(
            unlearning.text.patched(strength),
            unlearning.record,
            counts["feed-forward"],
            counts["self-attention"],
            len(pictures.concept),
            len(pictures.retained) if request.settings.bounded else 0,
            time.perf_counter() - started,
            session.model.load_device,
        )


class _Unlearning:
    """The loop: what it holds on the device, and one step after the other."""

    def __init__(
        self,
        session: Session,
        settings: UnlearningSettings,
        prompts: TrainingPrompts,
        pictures: TrainingPictures,
        keys: list[str],
    ) -> None:
        self._model, self._clip, self._settings, self._asked = session.model, session.clip, settings, prompts
        device = session.model.load_device
        size = (settings.batch + settings.retained_batch, *pictures.concept.shape[1:])
        self._denoiser = Denoiser(self._model, size, device)
        self._prompts = PromptRows(session, prompts.every(), self._denoiser, device)
        comfy.model_management.load_models_gpu(
            [self._model, self._clip.patcher], memory_required=8 * self._model.memory_required(size)
        )
        # Copies that autograd may keep: what was made in inference mode it refuses.
        self._concept, self._retained = (
            self._denoiser.latents(latents.clone()) for latents in (pictures.concept, pictures.retained)
        )
        self.text = TrainedText(self._clip, keys, self._clip.patcher.load_device)
        self._optimizer = torch.optim.Adam(
            self.text.parameters(), lr=settings.learning_rate, betas=_BETAS, eps=_EPSILON
        )
        self.record = UnlearningRecord()

    def run(self, progress: PictureProgress) -> None:
        """All steps."""
        with ExitStack() as stack:
            stack.enter_context(constant_weights(self._model.model))
            stack.enter_context(self.text.trainable())
            try:
                for step in range(self._settings.steps):
                    progress(step, self._settings.steps, "unlearning")
                    self._step(step)
                    if self.record.stopped:
                        return
                progress(self._settings.steps, self._settings.steps, "unlearning")
            except comfy.model_management.OOM_EXCEPTION:
                raise InputError(
                    "There is not enough memory to train with these numbers: lower 'batch', 'retained_batch' or 'size', or turn "
                    "'low_memory' on. MODEL and CLIP are as they were."
                ) from None

    def _step(self, step: int) -> None:
        settings = self._settings
        generator = torch.Generator().manual_seed((settings.seed + 1 + step) % 2**63)
        places = chosen(generator, len(self._concept), settings.batch)
        shown = self._denoiser.noised(self._concept[places.to(self._concept.device)], generator)
        phrases = [self._asked.phrases[int(place)] for place in self._asked.shown[places]]
        own, anchored = (
            self._taught(shown, [getattr(phrase, side) for phrase in phrases]) for side in ("concept", "anchor")
        )
        bound = settings.limit * errors(anchored, shown.noise)
        found = errors(self._learned(shown, [phrase.concept for phrase in phrases]), shown.noise)
        if not step and not error(own, anchored) > 0:
            raise InputError(
                f"This MODEL makes the same of {quoted(phrases[0].concept)} as of {quoted(phrases[0].anchor)}: there is nothing "
                "to unlearn. Connect the MODEL before any erasure, and a CLIP that belongs to it."
            )
        loss, retaining = (
            (bounded_ascent(found, bound), self._retain(generator)) if settings.bounded else (-found.mean(), None)
        )
        whole = loss if retaining is None else loss + settings.retain_weight * retaining
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(whole * LOSS_SCALE)
        if not step:
            drop_unread_attention(self.text)
        self._update(float(whole.detach()), found, own, anchored, shown, retaining)

    def _update(
        self, whole: float, found: Tensor, own: Tensor, anchored: Tensor, shown: Noised, retaining: Tensor | None
    ) -> None:
        """One step of Adam, unless there is nothing finite to go by."""
        gradients = [one.grad for one in self.text.parameters() if one.grad is not None]
        finite = math.isfinite(whole) and all(bool(torch.isfinite(one).all()) for one in gradients)
        if not finite:
            self.record.stopped = "the loss or its gradient was no finite number; what was learned before is kept"
            return
        for gradient in gradients:
            gradient /= LOSS_SCALE
        self._optimizer.step()
        record = self.record
        record.concept.append(float(found.detach().mean()))
        record.unedited.append(float(error(own, shown.noise)))
        record.anchored.append(float(error(anchored, shown.noise)))
        if retaining is not None:
            record.retaining.append(float(retaining.detach()))

    def _retain(self, generator: torch.Generator) -> Tensor:
        """How far predictions of other pictures have moved."""
        places = chosen(generator, len(self._retained), self._settings.retained_batch)
        shown = self._denoiser.noised(self._retained[places.to(self._retained.device)], generator)
        prompts = [self._asked.others[int(place)] for place in places]
        return error(self._learned(shown, prompts), self._taught(shown, prompts))

    @torch.no_grad()
    def _taught(self, shown: Noised, prompts: list[str]) -> Tensor:
        """What MODEL predicts with the CLIP as it was connected."""
        places = self._prompts.places(prompts)
        denoised = self._denoiser.denoised(shown, self._prompts.rows(places), self._prompts.conditions(places))
        return shown.predicted_noise(denoised)

    def _learned(self, shown: Noised, prompts: list[str]) -> Tensor:
        """What it predicts with the CLIP as it stands."""
        with torch.autograd.graph.save_on_cpu() if self._settings.low_memory else nullcontext():
            encoded = {prompt: self.text.encoded(prompt) for prompt in dict.fromkeys(prompts)}
            contexts = torch.cat([encoded[prompt][0] for prompt in prompts]).to(shown.noise)
            conditions = [self._denoiser.conditions(encoded[prompt][1]) for prompt in prompts]
            joined = {name: torch.cat([one[name] for one in conditions]) for name in conditions[0]}
            denoised = self._denoiser.denoised(shown, contexts, joined)
        return shown.predicted_noise(denoised)


def _checked_keys(clip: Clip) -> list[str]:
    keys = unlearned_keys(clip)
    if not keys:
        raise WrongConnectionError(
            "This CLIP has no layers of the kind that are changed: connect the CLIP of a Stable Diffusion checkpoint."
        )
    quantised = quantised_as(clip.patcher, keys)
    if quantised:
        raise UnsupportedModelError(
            f"The text encoder is quantised ({quantised}): connect the same in float16, bfloat16 or float32."
        )
    return keys
