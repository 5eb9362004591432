"""An eraser that is trained: the UNet's weights, low-rank, against adversaries that look for the concept.

The scheme is kin to STEREO (arXiv:2408.16807) and AdvUnlearn (arXiv:2405.15234): an erasing loss on noised pictures of the
concept, under prompts that name it and under contexts that are learned to bring it back, and a retain loss on others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....rece_ops import EraserSet, InputError, Part, Provenance, WeightChange, __version__
from ....rece_ops.provenance import cleaned
from ....rece_ops.texts import quoted
from ....rece_ops.training.adversaries import AdversaryPool
from ....rece_ops.training.low_rank import TrainedFactors
from ....rece_ops.training.objectives import chosen, erasing_target, error, role_counts
from ....rece_ops.training.record import WINDOW, TrainingRecord
from ....rece_ops.training.settings import HardenedSettings
from ....rece_ops.training.state import TrainingState, load_state
from ...request.erase_inputs import plan_of
from ...request.erasure_request import ErasureRequest
from ...request.presets import DEFAULT
from ...request.training_request import TrainingRequest
from ..architectures.places import check_unshaped
from ..folders import default_name, existing_training, training_to_save
from ..log import tell
from ..progress import JobProgress, PictureProgress
from ..protocols import Model
from ..session import Session
from ..training.denoiser import LOSS_SCALE, Denoiser, Noised, constant_weights
from ..training.layers import Added, TrainedLayers, fixed_factors, sparse_differences, trained_shapes
from ..training.material import TrainingPictures, TrainingPrompts, check_pictures, pictures_of, prompts_of
from ..training.prompts import ErasedReading, PromptRows, check_one_window
from .erase import erase_concepts
from .plain_unet import check_plain, check_unet

HARDENED = "hardened"
PART = "weights"
"""The name of the trained part in an ERASER."""

STARTS = ("projection", "RECE", "nothing")
"""The closed-form eraser that a training begins from, where none is connected."""

# Gradients are cut to this size, relative to the pictures of a step; AdamW takes out any constant factor.
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.0
# So many steps in a row without finite gradients, and nothing will come of it.
_MOST_SKIPPED = 20
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
        told = _told(session, request, begun if eraser is not None else None, start, (images, retained_images))
        if resume:
            training.go_on(load_state(existing_training(resume), told, training.shapes()))
        started = time.perf_counter()
        training.run(progress.part("train"), told)
        change = training.factors.change()
    provenance = _provenance(session, request, eraser, begun, start)
    return Trained(
        _with_change(begun, change, provenance),
        training.record,
        len(shapes),
        len(pictures.concept),
        len(pictures.retained),
        time.perf_counter() - started,
        session.model.load_device,
    )


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
        device = session.model.load_device
        size = (2 * settings.batch + settings.retained_batch, *pictures.concept.shape[1:])
        comfy.model_management.load_models_gpu([self._model], memory_required=8 * self._model.memory_required(size))
        self._denoiser = Denoiser(self._model, size, device)
        # Copies that autograd may keep: what was made in inference mode it refuses.
        self._concept, self._retained = (
            self._denoiser.latents(latents.clone()) for latents in (pictures.concept, pictures.retained)
        )
        self._prompts = PromptRows(session, prompts.every(), self._denoiser, device)
        self._reading = ErasedReading(begun, device)
        self._shown = prompts.shown.clone()
        self._named, self._anchors = (
            self._prompts.places([getattr(phrase, side) for phrase in prompts.phrases])
            for side in ("concept", "anchor")
        )
        self._own, self._empty = self._prompts.places(prompts.others), self._prompts.places([""])
        self.factors = TrainedFactors(shapes, settings.rank, self._generator(0), device)
        self._layers = TrainedLayers(self._model, _all_changes(self._model, self.factors, begun, device))
        self._optimizer = torch.optim.AdamW(
            list(self.factors.parameters()), lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        starts = self._prompts.rows(torch.unique(torch.cat([self._empty, self._own])))
        self._pool = AdversaryPool(starts, settings.adversaries, settings.adversary_rate, self._generator(0))
        self.record = TrainingRecord()

    def run(self, progress: PictureProgress, told: Mapping[str, Any]) -> None:
        """All steps that are left."""
        with ExitStack() as stack:
            stack.enter_context(constant_weights(self._model.model))
            stack.enter_context(self._layers.attached())
            try:
                self._check_concept()
                while self.record.steps < self._settings.steps and not self.record.stopped:
                    progress(self.record.steps, self._settings.steps, "training")
                    self._step()
            except comfy.model_management.InterruptProcessingException:
                _save(told, self.record, self._tensors())
                raise
            except comfy.model_management.OOM_EXCEPTION:
                raise InputError(
                    "There is not enough memory to train with these numbers: lower 'batch', 'retained_batch' or 'size', or turn "
                    "'low_memory' on. MODEL and CLIP are as they were."
                ) from None

    def shapes(self) -> dict[str, torch.Size]:
        """Of all tensors of a state."""
        return {name: tensor.shape for name, tensor in self._tensors().items()}

    def go_on(self, state: TrainingState) -> None:
        """Take up a training that was cancelled."""
        self.factors.load(_of("factors/", state.tensors))
        self._pool.load(_of("adversaries/", state.tensors))
        for name, parameter in self._parameters().items():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(state.record.steps - state.record.skipped)),
                "exp_avg": state.tensors[f"first/{name}"].to(parameter),
                "exp_avg_sq": state.tensors[f"second/{name}"].to(parameter),
            }
        self.record = state.record

    def _step(self) -> None:
        settings, generator = self._settings, self._generator(1 + self.record.steps)
        attacked, named, empty = role_counts(settings.batch, len(self._pool) > 0)
        attacked = min(attacked, len(self._pool)) if attacked else 0
        places = chosen(generator, len(self._concept), attacked + named + empty)
        erased = self._denoiser.noised(self._concept[places.to(self._concept.device)], generator)
        phrases = self._shown[places]
        others = chosen(generator, len(self._retained), settings.retained_batch)
        retained = self._denoiser.noised(self._retained[others.to(self._retained.device)], generator)
        prompts = self._own[others]
        prompts[torch.rand(len(prompts), generator=generator) < _EMPTY] = self._empty
        concept, anchor, kept = self._taught(erased, retained, phrases, prompts)
        target = erasing_target(concept, anchor, settings.push)

        adversaries = torch.randperm(len(self._pool), generator=generator)[:attacked]
        contexts = self._pool.contexts[adversaries.to(self._pool.contexts.device)].clone().requires_grad_()
        own = torch.cat([self._named[phrases[: attacked + named]], self._empty.expand(empty)])
        predicted = self._learned(erased, retained, contexts, own, prompts)
        attack = error(predicted[:attacked], erased.noise[:attacked]) if attacked else predicted.new_zeros(())
        erasing = error(predicted[: len(places)], target)
        retaining = error(predicted[len(places) :], kept)
        if attacked:
            # Summed, not averaged: each adversary has a loss of its own.
            (slopes,) = torch.autograd.grad(attack * (attacked * LOSS_SCALE), contexts, retain_graph=True)
            self._pool.update(adversaries, slopes, generator)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((erasing + settings.retain_weight * retaining) * LOSS_SCALE)
        unedited = error(concept, erased.noise), error(kept, retained.noise)
        self._update(torch.stack([erasing, retaining, attack, *unedited]).detach())

    def _update(self, losses: Tensor) -> None:
        """One step of AdamW, unless there is nothing finite to go by."""
        parameters = list(self.factors.parameters())
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= LOSS_SCALE
        norm = torch.nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        *found, size = torch.cat([losses, norm[None].to(losses)]).tolist()
        finite = torch.isfinite(torch.tensor(found)).all()
        if not finite:
            self.record.stopped = "the loss was no finite number; what was learned before is kept"
            return
        if torch.isfinite(torch.tensor(size)):
            for group in self._optimizer.param_groups:
                group["lr"] = self._settings.rate_at(self.record.steps)
            self._optimizer.step()
        else:
            self.record.skipped += 1
        self.record.add(found)
        self._look_at_limits()

    def _look_at_limits(self) -> None:
        record, limit = self.record, self._settings.retain_limit
        if record.skipped >= _MOST_SKIPPED and record.skipped * 2 > record.steps:
            record.stopped = "most steps had gradients that were not finite; load the model in float32 or bfloat16"
        elif limit and record.steps >= WINDOW and record.retain_share > limit:
            record.stopped = (
                f"the retain loss was {record.retain_share:.0%} of the model's own error, above retain_limit"
            )

    @torch.no_grad()
    def _taught(self, erased: Noised, retained: Noised, phrases: Tensor, prompts: Tensor) -> tuple[Tensor, ...]:
        """What MODEL itself predicts: of the concept's pictures with concept and with anchor, and of the others."""
        whole = Noised.joined([erased, erased, retained])
        places = torch.cat([self._named[phrases], self._anchors[phrases], prompts])
        denoised = self._denoiser.denoised(whole, self._prompts.rows(places), self._prompts.conditions(places))
        predicted = whole.predicted_noise(denoised)
        return torch.split(predicted, [len(erased.noise), len(erased.noise), len(retained.noise)])

    def _learned(self, erased: Noised, retained: Noised, contexts: Tensor, own: Tensor, prompts: Tensor) -> Tensor:
        """What the MODEL with the eraser as it stands predicts of all pictures, those with adversaries first."""
        whole = Noised.joined([erased, retained])
        # An adversary replaces the token embeddings; what else the prompt says (SDXL's pooled embedding) stays.
        places = torch.cat([own, prompts])
        rows = torch.cat([contexts, self._prompts.rows(places[len(contexts) :])])
        conditions = self._reading.conditions(self._prompts.conditions(places))
        with self._layers.on(), torch.autograd.graph.save_on_cpu() if self._settings.low_memory else nullcontext():
            denoised = self._denoiser.denoised(whole, self._reading.contexts(rows), conditions)
        return whole.predicted_noise(denoised)

    @torch.no_grad()
    def _check_concept(self) -> None:
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

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, on the CPU."""
        found = {f"factors/{name}": tensor for name, tensor in self.factors.tensors().items()}
        found |= {f"adversaries/{name}": tensor for name, tensor in self._pool.tensors().items()}
        for name, parameter in self._parameters().items():
            moments = self._optimizer.state.get(parameter, {})
            for key, moment in (("first", "exp_avg"), ("second", "exp_avg_sq")):
                found[f"{key}/{name}"] = moments.get(moment, torch.zeros_like(parameter)).detach().cpu().clone()
        return found

    def _parameters(self) -> dict[str, Tensor]:
        return {
            f"{key}/{name}": factor
            for key, pair in self.factors.pairs.items()
            for name, factor in pair._asdict().items()
        }

    def _generator(self, turn: int) -> torch.Generator:
        """Of one step: what it draws does not depend on the steps before it, so that a training can be gone on with."""
        return torch.Generator().manual_seed((self._settings.seed * 1_000_003 + turn) % 2**63)


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


def _save(told: Mapping[str, Any], record: TrainingRecord, tensors: Mapping[str, Tensor]) -> None:
    """Where the training stands, into ComfyUI's output folder; nothing where nothing was learned."""
    if record.steps == 0:
        return
    names = tuple(cleaned(concept) for concept, _, _ in told["concepts"])
    path = training_to_save(f"{default_name(Provenance(concepts=names, targets=names))}_step_{record.steps}")
    saved = TrainingState(told, tensors, record).save(path)
    tell(f"The training stands at step {record.steps}; 'resume' can go on from {saved.name}.")


def _all_changes(
    model: Model, factors: TrainedFactors, begun: EraserSet | None, device: torch.device
) -> dict[str, tuple[Added, ...]]:
    """Of every weight what is trained, and what the eraser at the start changes besides its text transforms."""
    found: dict[str, tuple[Added, ...]] = {key: (pair,) for key, pair in factors.pairs.items()}
    for change in begun.weight_changes.values() if begun is not None else ():
        for key, pair in fixed_factors(change.changes, device).items():
            found[key] = (*found.get(key, ()), pair)
    for sparse in begun.sparse_changes.values() if begun is not None else ():
        for key, difference in sparse_differences(model, sparse, device).items():
            found[key] = (*found.get(key, ()), difference)
    return found


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _with_change(begun: EraserSet | None, change: WeightChange, provenance: Provenance) -> EraserSet:
    parts: dict[str, Part] = dict(begun) if begun is not None else {}
    before = parts.get(PART)
    parts[PART] = before @ change if isinstance(before, WeightChange) else change
    return EraserSet(parts, provenance)


def _provenance(
    session: Session,
    request: TrainingRequest[HardenedSettings],
    given: EraserSet | None,
    begun: EraserSet | None,
    start: str,
) -> Provenance:
    told = begun.provenance if begun is not None else Provenance()
    own = Provenance(
        method=HARDENED,
        concepts=tuple(cleaned(line.concept) for line in request.concepts),
        targets=tuple(cleaned(line.target) for line in request.concepts),
        weights=tuple(line.weight for line in request.concepts),
        preserve=tuple(map(cleaned, request.preserved)),
        settings={**request.settings.as_dict(), "start": "an eraser" if given is not None else start},
        architecture=session.architecture.name,
        dimensions=told.dimensions,
        fronts=told.fronts,
        pack_version=__version__,
    )
    if given is None:
        return own
    parts = (given.provenance, own)
    return Provenance(
        method="combined",
        parts=parts,
        architecture=session.architecture.name,
        fronts=told.fronts,
        pack_version=__version__,
    )


def _told(
    session: Session,
    request: TrainingRequest[HardenedSettings],
    given: EraserSet | None,
    start: str,
    images: tuple[Tensor | None, Tensor | None],
) -> dict[str, Any]:
    """What a training is recognised by when it is to be gone on with."""
    digests = [None if one is None else hashlib.sha256(one.cpu().numpy().tobytes()).hexdigest() for one in images]
    return {
        "architecture": session.architecture.name,
        "concepts": [[line.concept, line.target, line.weight] for line in request.concepts],
        "contexts": list(request.contexts),
        "preserve": list(request.preserved),
        **request.settings.as_dict(),
        **{f"picture {name}": value for name, value in vars(request.pictures).items()},
        "start": start if given is None else given.provenance.as_json(),
        "images": digests[0],
        "retained_images": digests[1],
    }
