"""An eraser that is trained: the UNet's weights, low-rank, against adversaries that look for the concept.

The scheme is kin to STEREO (arXiv:2408.16807) and AdvUnlearn (arXiv:2405.15234): an erasing loss on noised pictures of the
concept, under prompts that name it and under contexts that are learned to bring it back, and a retain loss on others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....rece_ops import EraserSet, InputError, Part, Provenance, WeightChange
from ....rece_ops.texts import quoted
from ....rece_ops.training.adversaries import AdversaryPool
from ....rece_ops.training.low_rank import TrainedFactors
from ....rece_ops.training.objectives import (
    chosen,
    erasing_target,
    error,
    errors,
    excess,
    level_weight,
    role_counts,
)
from ....rece_ops.training.record import WINDOW, TrainingRecord
from ....rece_ops.training.settings import HARDENED, STARTS, HardenedSettings
from ....rece_ops.training.state import TrainingState, load_state
from ...request.erase_inputs import plan_of
from ...request.erasure_request import ErasureRequest
from ...request.presets import DEFAULT
from ...request.training_request import TrainingRequest
from ..architectures.places import check_unshaped
from ..folders import existing_training
from ..log import tell
from ..progress import JobProgress, PictureProgress
from ..session import Session
from ..training.adapters import fixed_patches
from ..training.block_contexts import BlockContexts, reading_blocks
from ..training.denoiser import LOSS_SCALE, Denoiser, Noised, constant_weights
from ..training.layers import TrainedLayers, trained_shapes, with_changes_of
from ..training.loop import (
    moments_of,
    provenance_of,
    run_steps,
    shapes_of,
    step_generator,
    take_moments,
    told_of,
    update,
    within,
)
from ..training.material import TrainingPictures, TrainingPrompts, check_pictures, pictures_of, prompts_of
from ..training.prompts import ErasedReading, PromptRows, check_one_window
from .erase import erase_concepts
from .plain_unet import check_plain, check_unet

PART = "weights"
"""The name of the trained part in an ERASER."""

# What is minimised: a training that an earlier version of the pack began with another loss cannot be gone on with.
_LOSS = "along the concept, by noise level"
# Gradients are cut to this size, relative to the pictures of a step; AdamW takes out any constant factor.
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.0
# How many of the pictures that should stay are predicted with the empty prompt, which guidance needs.
_EMPTY = 0.1
# Below this, what the concept adds to a prediction is rounding.
_NOTHING = 1e-6


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        eraser: the ERASER, with the one that it began from.
        record: losses, step by step.
        weights: how many weights were changed.
        pictures, retained: how many were trained on.
        seconds: of the training itself.
        device: where it ran.
    """

    eraser: EraserSet
    record: TrainingRecord
    weights: int
    pictures: int
    retained: int
    seconds: float
    device: torch.device


def train_eraser(
    session: Session,
    request: TrainingRequest[HardenedSettings],
    start: str = STARTS[0],
    eraser: EraserSet | None = None,
    images: Tensor | None = None,
    retained_images: Tensor | None = None,
    resume: str = "",
) -> Trained:
    """Train an ERASER for `request` on MODEL; MODEL, CLIP and VAE are not changed, however it ends.

    Args:
        session: the MODEL without an erasure, CLIP, and with images the VAE.
        request: what to erase and how.
        start: one of `STARTS`.
        eraser: to begin from instead.
        images: [n, height, width, 3] of the concept; None lets the MODEL make some.
        retained_images: of what should stay.
        resume: the name of a cancelled training in ComfyUI's output folder; empty begins anew.

    Raises:
        InputError: something cannot be trained with; the message says what.
        UnsupportedModelError: MODEL is no UNet in plain floating point, or erased from only in part of the steps.
        WrongConnectionError: VAE or CLIP is missing, or the eraser belongs to another model.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel; where the training stands is saved.
    """
    shapes = _checked_shapes(session, request.settings)
    check_pictures(request, images, retained_images)
    if eraser is not None:
        session.streams_of(eraser)
        check_unshaped(eraser)
    prompts = prompts_of(request, images, retained_images)
    check_one_window(session, prompts.every())
    progress = JobProgress(start=1, concept=2, other=2, train=20)
    begun = eraser if eraser is not None else _closed_form(session, request, start)
    progress.part("start")(1, 1, "erasing in closed form")
    pictures = pictures_of(session, request, prompts, images, retained_images, progress)
    with torch.inference_mode(False), torch.enable_grad():
        training = _Training(session, request.settings, prompts, begun, shapes, pictures)
        told = told_of(
            session,
            request,
            start=start if eraser is None else eraser.provenance.as_json(),
            images=_digest(images),
            retained_images=_digest(retained_images),
            loss=_LOSS,
        )
        if resume:
            training.go_on(load_state(existing_training(resume), told, shapes_of(training), TrainingRecord))
        started = time.perf_counter()
        training.run(progress.part("train"), told)
        change = training.factors.change()
    began = "an eraser" if eraser is not None else start
    provenance = provenance_of(session, request, HARDENED, eraser, begun, start=began)
    return Trained(
        _with_change(begun, change, provenance),
        training.record,
        len(shapes),
        len(pictures.concept),
        len(pictures.retained),
        time.perf_counter() - started,
        session.model.load_device,
    )


@dataclass(frozen=True)
class _Batch:
    """The pictures of one step: first an adversary's each, then others of the concept, then those that should stay.

    Attributes:
        noised: all of them, n.
        prompts: places [n] of their prompts; an adversary replaces the token embeddings of its picture's.
        wanted: what predictions are pulled to.
        away: [attacked, …], from what the MODEL predicts of the anchor to what it predicts of the concept.
        weights: [n] of their errors in the loss.
        attacked, erased: how many are adversaries', and how many show the concept.
    """

    noised: Noised
    prompts: Tensor
    wanted: Tensor
    away: Tensor
    weights: Tensor
    attacked: int
    erased: int


class _Training:
    """The loop: what it holds on the device, and one step after the other."""

    def __init__(
        self,
        session: Session,
        settings: HardenedSettings,
        prompts: TrainingPrompts,
        begun: EraserSet | None,
        shapes: Mapping[str, tuple[int, ...]],
        pictures: TrainingPictures,
    ) -> None:
        self._model, self._settings, self._asked = session.model, settings, prompts
        self._at_once = settings.pictures_at_once
        device = session.model.load_device
        size = (
            min(settings.pictures_at_once, 2 * settings.batch + settings.retained_batch),
            *pictures.concept.shape[1:],
        )
        comfy.model_management.load_models_gpu([self._model], memory_required=8 * self._model.memory_required(size))
        self._denoiser = Denoiser(self._model, size, device)
        self._usual_weight = level_weight(self._denoiser.levels).mean()
        # Copies that autograd may keep: what was made in inference mode it refuses.
        self._concept, self._retained = (
            self._denoiser.latents(latents.clone()) for latents in (pictures.concept, pictures.retained)
        )
        self._prompts = PromptRows(session, prompts.every(), self._denoiser, device)
        self._reading = ErasedReading(begun, device)
        self._adapters = fixed_patches(self._model, begun)
        self._shown = prompts.shown.clone()
        self._named, self._anchors = (
            self._prompts.places([getattr(phrase, side) for phrase in prompts.phrases])
            for side in ("concept", "anchor")
        )
        self._own, self._empty = self._prompts.places(prompts.others), self._prompts.places([""])
        self.factors = TrainedFactors(shapes, settings.rank, self._generator(0), device)
        self._layers = TrainedLayers(self._model, with_changes_of(self._model, self.factors.pairs, begun, device))
        self._optimizer = torch.optim.AdamW(
            list(self.factors.parameters()), lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        starts = self._prompts.rows(torch.unique(torch.cat([self._empty, self._own])))
        self._blocks = reading_blocks(self._model)
        self._pool = AdversaryPool(
            starts, settings.adversaries, len(self._blocks), settings.adversary_rate, self._generator(0)
        )
        self.record = TrainingRecord()

    def run(self, progress: PictureProgress, told: Mapping[str, Any]) -> None:
        """All steps that are left."""
        with constant_weights(self._model.model), self._layers.attached():
            run_steps(self, self._settings.steps, told, progress)

    def go_on(self, state: TrainingState[TrainingRecord]) -> None:
        """Take up a training that was cancelled."""
        self.factors.load(within("factors/", state.tensors))
        self._pool.load(within("adversaries/", state.tensors))
        take_moments(self._optimizer, self._parameters(), state.tensors, state.record.steps - state.record.skipped)
        self.record = state.record

    def step(self) -> None:
        """See `loop.Training`; where memory does not suffice, again with fewer pictures at once."""
        while True:
            try:
                return self._whole_step()
            except comfy.model_management.OOM_EXCEPTION:
                if self._at_once == 1:
                    raise
                self._at_once //= 2
            comfy.model_management.soft_empty_cache()
            tell(f"There is not enough memory for so many pictures at once: the training goes on with {self._at_once}.")

    def _whole_step(self) -> None:
        settings, generator = self._settings, self._generator(1 + self.record.steps)
        batch, unedited = self._batch(generator)
        with self._pool.kept_on_error():
            adversaries = torch.randperm(len(self._pool), generator=generator)[: batch.attacked]
            for _ in range(settings.adversary_updates - 1 if batch.attacked else 0):
                self._strengthen(adversaries, generator)
            self._optimizer.zero_grad(set_to_none=True)
            found, attacks, slopes = self._learn(batch, self._contexts(adversaries))
            self._pool.update(adversaries, slopes, generator)
        erasing, retaining = (part.mean() for part in (found[: batch.erased], found[batch.erased :]))
        attack = attacks.mean() if batch.attacked else found.new_zeros(())
        losses = torch.stack([erasing, retaining, attack, *unedited])
        update(self._optimizer, losses, self.record, settings.rate_at(self.record.steps), _LARGEST_GRADIENT)
        self._look_at_limit()

    def _batch(self, generator: torch.Generator) -> tuple[_Batch, tuple[Tensor, Tensor]]:
        """The pictures of a step, and the MODEL's own errors on those of the concept and on the others."""
        settings = self._settings
        attacked, named, empty = role_counts(settings.batch, len(self._pool) > 0)
        attacked = min(attacked, len(self._pool)) if attacked else 0
        count = attacked + named + empty
        places = chosen(generator, len(self._concept), count)
        erased = self._denoiser.noised(self._concept[places.to(self._concept.device)], generator)
        phrases = self._shown[places]
        others = chosen(generator, len(self._retained), settings.retained_batch)
        retained = self._denoiser.noised(self._retained[others.to(self._retained.device)], generator)
        staying = self._own[others]
        staying[torch.rand(len(staying), generator=generator) < _EMPTY] = self._empty
        concept, anchor, kept = self._taught(erased, retained, phrases, staying)
        prompts = torch.cat([self._named[phrases[: attacked + named]], self._empty.expand(empty), staying])
        weights = kept.new_full((len(prompts),), 1 / count)
        weights[count:] = settings.retain_weight / len(staying)
        wanted = torch.cat([erasing_target(concept, anchor, settings.push), kept])
        away = (concept - anchor)[:attacked]
        batch = _Batch(Noised.joined([erased, retained]), prompts, wanted, away, weights, attacked, count)
        return batch, (self._errors(concept, erased).mean(), self._errors(kept, retained).mean())

    def _learn(self, batch: _Batch, contexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the gradients of all factors, in pieces of the batch.

        Returns: the error of each picture, of each adversary, and each adversary's gradient.
        """
        found, attacks, slopes = [], [], []
        for rows in self._pieces(len(batch.prompts)):
            part, own = batch.noised[rows], contexts[rows].clone().requires_grad_()
            predicted = self._learned(part, own, batch.prompts[rows])
            attack = self._errors(predicted[: len(own)], part[: len(own)])
            # Where there is none, nothing depends on it.
            slopes.append(_slope(attack, own, retain_graph=True) if len(own) else own.detach())
            one = self._pull(predicted, batch, rows)
            torch.autograd.backward((one @ batch.weights[rows]) * LOSS_SCALE)
            found.append(one.detach())
            attacks.append(attack.detach())
        return torch.cat(found), torch.cat(attacks), torch.cat(slopes)

    def _pull(self, predicted: Tensor, batch: _Batch, rows: slice) -> Tensor:
        """How far those rows are from what is wanted, [n], weighted by noise level; adversaries' only towards the concept."""
        wanted, away = batch.wanted[rows], batch.away[rows]
        along, whole = slice(len(away)), slice(len(away), None)
        found = [excess(predicted[along], wanted[along], away), errors(predicted[whole], wanted[whole])]
        return torch.cat(found) * self._level_weights(batch.noised[rows])

    def _strengthen(self, adversaries: Tensor, generator: torch.Generator) -> None:
        """One update of those adversaries against the weights as they stand, on pictures of its own."""
        places = chosen(generator, len(self._concept), len(adversaries))
        noised = self._denoiser.noised(self._concept[places.to(self._concept.device)], generator)
        contexts, prompts = self._contexts(adversaries), self._named[self._shown[places]]
        slopes = []
        for rows in self._pieces(len(adversaries)):
            part, own = noised[rows], contexts[rows].clone().requires_grad_()
            slopes.append(_slope(self._errors(self._learned(part, own, prompts[rows]), part), own))
        self._pool.update(adversaries, torch.cat(slopes), generator)

    def _errors(self, predicted: Tensor, noised: Noised) -> Tensor:
        """Of predicted noises, [n], weighted by noise level."""
        return errors(predicted, noised.noise) * self._level_weights(noised)

    def _level_weights(self, noised: Noised) -> Tensor:
        """Of the noise levels, [n], relative to those of all that pictures are noised to."""
        return level_weight(noised.levels) / self._usual_weight

    def _contexts(self, adversaries: Tensor) -> Tensor:
        return self._pool.contexts[adversaries.to(self._pool.contexts.device)]

    def _pieces(self, count: int) -> Iterator[slice]:
        """Of so many pictures, as many as go through the MODEL together."""
        return (slice(first, first + self._at_once) for first in range(0, count, self._at_once))

    def _look_at_limit(self) -> None:
        record, limit = self.record, self._settings.retain_limit
        if limit and not record.stopped and record.steps >= WINDOW and record.retain_share > limit:
            record.stopped = (
                f"the retain loss was {record.retain_share:.0%} of the model's own error, above retain_limit"
            )

    @torch.no_grad()
    def _taught(self, erased: Noised, retained: Noised, phrases: Tensor, prompts: Tensor) -> tuple[Tensor, ...]:
        """What MODEL itself predicts: of the concept's pictures with concept and with anchor, and of the others."""
        whole = Noised.joined([erased, erased, retained])
        places = torch.cat([self._named[phrases], self._anchors[phrases], prompts])
        predicted = []
        for rows in self._pieces(len(places)):
            read, conditions = self._prompts.rows(places[rows]), self._prompts.conditions(places[rows])
            predicted.append(whole[rows].predicted_noise(self._denoiser.denoised(whole[rows], read, conditions)))
        return torch.split(torch.cat(predicted), [len(erased.noise), len(erased.noise), len(retained.noise)])

    def _learned(self, noised: Noised, contexts: Tensor, places: Tensor) -> Tensor:
        """What the MODEL with the eraser as it stands predicts: first with `contexts`, then with the prompts at `places`.

        `places` has an entry for each picture: an adversary replaces the token embeddings of a prompt in every block, and what else
        the prompt says (SDXL's pooled embedding) stays.
        """
        rows = self._reading.contexts(self._prompts.rows(places))
        conditions = self._reading.conditions(self._prompts.conditions(places))
        own = BlockContexts(self._reading.contexts(contexts), self._blocks).patches()
        with self._layers.on(), torch.autograd.graph.save_on_cpu() if self._settings.low_memory else nullcontext():
            denoised = self._denoiser.denoised(noised, rows, conditions, {**self._adapters, **own})
        return noised.predicted_noise(denoised)

    @torch.no_grad()
    def check(self) -> None:
        """Raise InputError where MODEL makes nothing of the concept that it does not make of the anchor."""
        generator = self._generator(0)
        count = min(len(self._concept), self._settings.batch)
        erased = self._denoiser.noised(self._concept[:count], generator)
        phrases = self._shown[:count]
        concept, anchor, _ = self._taught(erased, erased[:1], phrases, self._empty)
        if not error(concept, anchor) > _NOTHING * concept.square().mean():
            phrase = self._asked.phrases[int(phrases[0])]
            raise InputError(
                f"On {len(self._concept)} pictures this MODEL makes the same of {quoted(phrase.concept)} as of "
                f"{quoted(phrase.anchor)}: there is nothing to train away. Connect the MODEL before any erasure, and a CLIP "
                "that belongs to it."
            )

    def tensors(self) -> dict[str, Tensor]:
        """See `loop.Training`."""
        found = {f"factors/{name}": tensor for name, tensor in self.factors.tensors().items()}
        found |= {f"adversaries/{name}": tensor for name, tensor in self._pool.tensors().items()}
        return found | moments_of(self._optimizer, self._parameters())

    def _parameters(self) -> dict[str, Tensor]:
        return {
            f"{key}/{name}": factor
            for key, pair in self.factors.pairs.items()
            for name, factor in pair._asdict().items()
        }

    def _generator(self, turn: int) -> torch.Generator:
        return step_generator(self._settings.seed, turn)


def _slope(attacks: Tensor, contexts: Tensor, retain_graph: bool = False) -> Tensor:
    """Of the error of each adversary, which has a loss of its own: they are summed, not averaged."""
    (found,) = torch.autograd.grad(attacks.sum() * LOSS_SCALE, contexts, retain_graph=retain_graph)
    return found


def _checked_shapes(session: Session, settings: HardenedSettings) -> dict[str, tuple[int, ...]]:
    check_unet(session, "training")
    shapes = trained_shapes(session.model, settings.layers)
    check_plain(session, shapes, "training")
    return shapes


def _closed_form(session: Session, request: TrainingRequest[HardenedSettings], start: str) -> EraserSet | None:
    if start == "nothing":
        return None
    plan = plan_of({"preset": DEFAULT, "method": start})
    return erase_concepts(session, ErasureRequest(request.concepts, request.preserved, plan)).eraser


def _with_change(begun: EraserSet | None, change: WeightChange, provenance: Provenance) -> EraserSet:
    parts: dict[str, Part] = dict(begun) if begun is not None else {}
    before = parts.get(PART)
    parts[PART] = before @ change if isinstance(before, WeightChange) else change
    return EraserSet(parts, provenance)


def _digest(images: Tensor | None) -> str | None:
    """What pictures are recognised by."""
    return None if images is None else hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()
