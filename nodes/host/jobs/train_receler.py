"""Receler (arXiv:2311.17717): adapters after the cross-attentions, trained on the way of a sampling.

One picture a step: it is sampled with the adapters as they stand down to a random noise level; there the erased MODEL's prediction of
the concept is pulled away from what the MODEL itself says of it, what adapters add outside the concept's own place is held small, and,
as the paper describes, learned tokens behind the prompt look for the concept meanwhile.

The authors' code (jasper0314-huang/Receler on GitHub, read in November 2026) writes those tokens into a tensor that advanced indexing
has just copied, `emb[:, indices, :].data = learned`, so that the model never reads them. So there are two methods here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....rece_ops import EraserSet, InputError, Part
from ....rece_ops.adapters import Adapters
from ....rece_ops.texts import quoted
from ....rece_ops.training.adapters import TrainedAdapters
from ....rece_ops.training.localization import Grid, concept_mask, grid_of, localized_loss, mask_grid
from ....rece_ops.training.objectives import erasing_target, error
from ....rece_ops.training.record import RecelerRecord
from ....rece_ops.training.settings import AS_DESCRIBED, AS_PUBLISHED, RecelerSettings
from ....rece_ops.training.state import TrainingState, load_state
from ...request.training_request import TrainingRequest
from ..architectures.detection import SUFFIX
from ..architectures.places import check_unshaped
from ..folders import existing_training
from ..patching.adapters import OUTPUT_PATCH, Attention, cross_attentions
from ..progress import JobProgress, PictureProgress, check_cancelled
from ..session import Session
from ..training.adapters import ConceptMaps, TrainedPatch, attention_layers, fixed_adapters
from ..training.denoiser import LOSS_SCALE, NO_PATCHES, Denoiser, Patches, constant_weights
from ..training.layers import TrainedLayers, with_changes_of
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
from ..training.prompts import ErasedReading, PlacedPhrase, PromptRows, check_one_window, placed_phrases
from ..training.sampling import sampled_until
from .plain_unet import check_plain, check_unet

PART = "adapters"
"""The name of the trained part in an ERASER."""

# Of the adversary, absolute as the authors have them; it starts uniform between 0 and 1.
_ADVERSARY_RATE, _ADVERSARY_DECAY = 0.1, 0.1
# Below this, what the concept adds to a prediction is rounding.
_NOTHING = 1e-6
_PIXELS = 8


@dataclass(frozen=True)
class TrainedReceler:
    """What came of a training.

    Attributes:
        eraser: the ERASER, with the one that it began from.
        record: losses, step by step.
        adapters: what was trained.
        seconds: of the training itself.
        device: where it ran.
    """

    eraser: EraserSet
    record: RecelerRecord
    adapters: Adapters
    seconds: float
    device: torch.device


def train_receler(
    session: Session, request: TrainingRequest[RecelerSettings], eraser: EraserSet | None = None, resume: str = ""
) -> TrainedReceler:
    """Train adapters for `request` on MODEL; MODEL and CLIP are not changed, however it ends.

    Args:
        session: the MODEL without an erasure, and CLIP.
        request: what to erase and how. Nothing is retained but what lies outside the concept's own place.
        eraser: that counts meanwhile and is part of the result; adapters of it stay as they are, beside the new ones.
        resume: the name of a cancelled training in ComfyUI's output folder; empty begins anew.

    Raises:
        InputError: something cannot be trained with; the message says what.
        UnsupportedModelError: MODEL is no UNet in plain floating point, or erased from only in part of the steps.
        WrongConnectionError: the CLIP is missing, or the eraser belongs to another model.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel; where the training stands is saved.
    """
    check_unet(session, "training")
    layers = cross_attentions(session.model)
    check_plain(session, [f"{layer}.to_out.0{SUFFIX}" for layer in layers], "training")
    if eraser is not None:
        session.streams_of(eraser)
        check_unshaped(eraser)
    phrases = placed_phrases(session, request)
    prompts = list(dict.fromkeys(["", *(text for phrase in phrases for text in (phrase.concept, phrase.anchor))]))
    check_one_window(session, prompts)
    progress = JobProgress(start=1, train=20)
    progress.part("start")(1, 1, "encoding prompts")
    with torch.inference_mode(False), torch.enable_grad():
        training = _Training(session, request, phrases, prompts, eraser, layers)
        begun = "" if eraser is None else eraser.provenance.as_json()
        told = told_of(session, request, method="Receler", eraser=begun)
        if resume:
            training.go_on(load_state(existing_training(resume), told, shapes_of(training), RecelerRecord))
        started = time.perf_counter()
        training.run(progress.part("train"), told)
        adapters = training.adapters.part()
    seconds = time.perf_counter() - started
    method = AS_DESCRIBED if request.settings.adversarial else AS_PUBLISHED
    parts: dict[str, Part] = dict(eraser) if eraser is not None else {}
    before = parts.get(PART)
    parts[PART] = before @ adapters if isinstance(before, Adapters) else adapters
    whole = EraserSet(parts, provenance_of(session, request, method, eraser, eraser))
    return TrainedReceler(whole, training.record, adapters, seconds, session.model.load_device)


@dataclass(frozen=True)
class _Taught:
    """What MODEL itself says of one picture with noise.

    Attributes:
        noisy: the latents [1, …].
        level: σ [1].
        concept: the noise that it predicts with the concept.
        target: what predictions are pulled to.
        mask: where the concept is, [1, 1, height, width].
        grids: how the tokens of every cross-attention lie.
    """

    noisy: Tensor
    level: Tensor
    concept: Tensor
    target: Tensor
    mask: Tensor
    grids: Mapping[Attention, Grid]


class _Training:
    """What the training holds on the device, and one step after the other."""

    def __init__(
        self,
        session: Session,
        request: TrainingRequest[RecelerSettings],
        phrases: Sequence[PlacedPhrase],
        prompts: Sequence[str],
        begun: EraserSet | None,
        layers: Mapping[str, int],
    ) -> None:
        self._model, self._settings, self._phrases = session.model, request.settings, phrases
        model: Any = session.model
        device = session.model.load_device
        side = request.pictures.size // _PIXELS
        self._shape = (1, model.get_model_object("latent_format").latent_channels, side, side)
        size = (2, *self._shape[1:])
        comfy.model_management.load_models_gpu([self._model], memory_required=8 * self._model.memory_required(size))
        self._denoiser = Denoiser(self._model, size, device)
        self._prompts = PromptRows(session, prompts, self._denoiser, device)
        self._empty = self._prompts.places([""])
        self._reading = ErasedReading(begun, device)
        self._layers = TrainedLayers(self._model, with_changes_of(self._model, {}, begun, device))
        self._attentions = attention_layers(self._model)
        generator = self._generator(0)
        self.adapters = TrainedAdapters(layers, self._settings.adapter_width, generator, device)
        by_place = {Attention.named(layer): adapter for layer, adapter in self.adapters.adapters.items()}
        self._patch = TrainedPatch(
            {place: adapter for place, adapter in by_place.items() if place is not None},
            fixed_adapters(self._model, begun),
        )
        self._optimizer = torch.optim.Adam(list(self.adapters.parameters()), lr=self._settings.adapter_rate)
        self._adversaries = [
            _Adversary(self._settings, self._prompts.contexts, generator) for _ in request.concepts
        ] * self._settings.adversarial
        self.record = RecelerRecord()

    def run(self, progress: PictureProgress, told: Mapping[str, Any]) -> None:
        """All steps that are left."""
        with constant_weights(self._model.model), self._layers.attached():
            run_steps(self, self._settings.steps, told, progress)

    def go_on(self, state: TrainingState[RecelerRecord]) -> None:
        """Take up a training that was cancelled."""
        named, record = self.adapters.named(), state.record
        self.adapters.load(within("adapters/", state.tensors))
        take_moments(self._optimizer, named, state.tensors, record.steps - record.skipped)
        for number, adversary in enumerate(self._adversaries):
            adversary.load(within(f"adversary {number}/", state.tensors))
        self.record = record

    def tensors(self) -> dict[str, Tensor]:
        """See `loop.Training`."""
        named = self.adapters.named()
        found = {f"adapters/{name}": tensor.detach().cpu().clone() for name, tensor in named.items()}
        for number, adversary in enumerate(self._adversaries):
            found |= {f"adversary {number}/{name}": tensor for name, tensor in adversary.tensors().items()}
        return found | moments_of(self._optimizer, named)

    @torch.no_grad()
    def check(self) -> None:
        """Raise InputError where MODEL makes nothing of a concept that it does not make of the anchor."""
        generator = self._generator(0)
        noised = self._denoiser.noised(torch.zeros(self._shape, device=self._model.load_device), generator)
        phrase = self._phrases[0]
        concept, anchor = (
            self._predicted(noised.noisy, noised.levels, self._prompts.places([prompt]))
            for prompt in (phrase.concept, phrase.anchor)
        )
        if not error(concept, anchor) > _NOTHING * concept.square().mean():
            instead = quoted(phrase.anchor) if phrase.anchor else "the empty prompt"
            raise InputError(
                f"This MODEL makes the same of {quoted(phrase.concept)} as of {instead}: there is nothing to train away. Connect "
                "the MODEL before any erasure, and a CLIP that belongs to it."
            )

    def step(self) -> None:
        """See `loop.Training`."""
        generator = self._generator(1 + self.record.steps)
        phrase = self._phrases[int(torch.randint(len(self._phrases), (1,), generator=generator))]
        noisy, level = self._sampled(phrase, generator)
        taught = self._taught(phrase, noisy, level)
        adversary = self._adversaries[phrase.number] if self._adversaries else None
        before = adversary.tensors() if adversary is not None else {}
        try:
            predicted = self._attacked(phrase, taught, adversary)
        except comfy.model_management.InterruptProcessingException:
            if adversary is not None:
                adversary.load(before)
            raise
        erasing = error(predicted, taught.target)
        outputs: dict[Grid, list[Tensor]] = {}
        for place, output in self._patch.outputs.items():
            outputs.setdefault(taught.grids[place], []).append(output)
        localized = localized_loss(outputs, taught.mask)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((erasing + self._settings.mask_weight * localized) * LOSS_SCALE)
        attacking, unedited = error(predicted, taught.concept), error(taught.concept, taught.target)
        losses = torch.stack([erasing, localized, attacking, unedited, taught.mask.mean()]).detach()
        update(self._optimizer, losses, self.record, self._settings.adapter_rate)

    @torch.no_grad()
    def _sampled(self, phrase: PlacedPhrase, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A picture of the erased MODEL on its way, and its noise level."""
        settings, device = self._settings, self._model.load_device
        last = int(torch.randint(len(self._denoiser.levels), (1,), generator=generator))
        noise = torch.randn(self._shape, generator=generator).to(device)
        places = torch.cat([self._prompts.places([phrase.concept]), self._empty])
        rows = self._reading.contexts(self._prompts.rows(places))
        conditions = self._reading.conditions(self._prompts.conditions(places))

        def predict(noisy: Tensor, levels: Tensor) -> Tensor:
            check_cancelled()
            with self._layers.on():
                return self._denoiser.denoised_at(noisy, levels, rows, conditions, {OUTPUT_PATCH: self._patch})

        noisy = sampled_until(self._denoiser, predict, noise, last, settings.sampling_steps, settings.sampling_guidance)
        return noisy, self._denoiser.levels[last : last + 1]

    @torch.no_grad()
    def _taught(self, phrase: PlacedPhrase, noisy: Tensor, level: Tensor) -> _Taught:
        maps = ConceptMaps(self._attentions, slice(phrase.first, phrase.end))
        anchor = self._predicted(noisy, level, self._prompts.places([phrase.anchor]))
        concept = self._predicted(noisy, level, self._prompts.places([phrase.concept]), maps.patches())
        latent = (noisy.shape[2], noisy.shape[3])
        grids = {place: grid_of(share.shape[1], latent) for place, share in maps.shares.items()}
        grid = mask_grid(grids.values(), latent)
        shares = [share for place, share in maps.shares.items() if grids[place] == grid]
        mask = concept_mask(shares, grid, self._settings.mask_threshold)
        return _Taught(noisy, level, concept, erasing_target(concept, anchor, self._settings.push), mask, grids)

    def _attacked(self, phrase: PlacedPhrase, taught: _Taught, adversary: _Adversary | None) -> Tensor:
        """What the erased MODEL predicts of the concept: with the adversary, after its last update but one."""
        (place,) = self._prompts.places([phrase.concept])
        rows = self._prompts.rows(place[None])
        if adversary is None:
            return self._learned(taught, rows, place[None])
        for turn in range(self._settings.inner_steps):
            check_cancelled()
            contexts = adversary.placed(rows, phrase.behind).requires_grad_()
            predicted = self._learned(taught, contexts, place[None])
            last = turn == self._settings.inner_steps - 1
            loss = error(predicted, taught.concept) * LOSS_SCALE
            (slopes,) = torch.autograd.grad(loss, contexts, retain_graph=last)
            adversary.update(slopes / LOSS_SCALE, phrase.behind)
        return predicted

    def _learned(self, taught: _Taught, rows: Tensor, places: Tensor) -> Tensor:
        """What the MODEL with the adapters as they stand predicts of the noise, with `rows` for the prompt's token embeddings."""
        # Learned tokens are token embeddings; what else the prompt says (SDXL's pooled embedding) stays.
        conditions = self._reading.conditions(self._prompts.conditions(places))
        with self._layers.on(), torch.autograd.graph.save_on_cpu() if self._settings.low_memory else nullcontext():
            denoised = self._denoiser.denoised_at(
                taught.noisy, taught.level, self._reading.contexts(rows), conditions, {OUTPUT_PATCH: self._patch}
            )
        return _noise(taught.noisy, taught.level, denoised)

    def _predicted(self, noisy: Tensor, level: Tensor, places: Tensor, patches: Patches = NO_PATCHES) -> Tensor:
        """The noise that MODEL itself predicts."""
        rows, conditions = self._prompts.rows(places), self._prompts.conditions(places)
        return _noise(noisy, level, self._denoiser.denoised_at(noisy, level, rows, conditions, patches))

    def _generator(self, turn: int) -> torch.Generator:
        return step_generator(self._settings.seed, turn)


class _Adversary:
    """Tokens [k, d] of one concept, learned by Adam with weight decay, that stand behind its prompts.

    Args:
        settings: how many there are.
        contexts: of all prompts, for their size and device.
        generator: draws the start, on the CPU.
    """

    def __init__(self, settings: RecelerSettings, contexts: Tensor, generator: torch.Generator) -> None:
        drawn = torch.rand(settings.learned_tokens, contexts.shape[2], generator=generator)
        self._tokens = torch.nn.Parameter(drawn.to(contexts.device))
        self._optimizer = torch.optim.Adam([self._tokens], lr=_ADVERSARY_RATE, weight_decay=_ADVERSARY_DECAY)
        self._updates = 0

    def placed(self, rows: Tensor, first: int) -> Tensor:
        """Token embeddings [1, n, d] of a prompt with the learned ones in the places from `first` on, as many as there is room for."""
        found = rows.clone()
        room = self._tokens[: rows.shape[1] - first].detach()
        found[:, first : first + len(room)] = room
        return found

    def update(self, slopes: Tensor, first: int) -> None:
        """One step down the gradient [1, n, d] of those token embeddings; one that is not finite counts as none."""
        found = torch.zeros_like(self._tokens)
        there = slopes[0, first : first + len(found)].to(found).nan_to_num(0.0, 0.0, 0.0)
        found[: len(there)] = there
        self._tokens.grad = found
        self._optimizer.step()
        self._updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all that is learned, on the CPU."""
        found = {"tokens": self._tokens.detach().cpu().clone(), "updates": torch.tensor([float(self._updates)])}
        return found | moments_of(self._optimizer, {"tokens": self._tokens})

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values that `tensors` gave."""
        self._tokens.data.copy_(tensors["tokens"])
        self._updates = int(tensors["updates"])
        take_moments(self._optimizer, {"tokens": self._tokens}, tensors, self._updates)


def _noise(noisy: Tensor, level: Tensor, denoised: Tensor) -> Tensor:
    """The noise that a prediction of the clean latents means: ε = (x − x₀)/σ."""
    return (noisy - denoised.float()) / level.view(-1, *[1] * (noisy.ndim - 1))
