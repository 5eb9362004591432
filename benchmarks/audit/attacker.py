"""What every probe works with: the erased model, the attacker's own pictures of the concept, and what pictures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.erasures import Erased, Erasures
from benchmarks.audit.sizes import ATTACKED_WITH, Sizes
from benchmarks.efficacy.records import NOT_MEASURED
from benchmarks.erased_models import Bench
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.sampling import Begun
from pocket_model.trials import Concept, Trials, made, trials
from pocket_model.world import Caption


@dataclass(frozen=True)
class Outcome:
    """What a probe found: pictures that show the concept, and numbers of its own."""

    rate: Rate = NOT_MEASURED
    numbers: tuple[float, ...] = ()


class Attacker:
    """One concept, and who looks for it in erased models.

    Args:
        bench: the model.
        concept: that was erased.
        sizes: how much is done.
        folder: where erasures are kept.
        seed: of erasures and attacks.

    Attributes:
        bench, concept, sizes, seed: as given.
        erasures: of the concept.
        trials: the captions that are measured.
    """

    def __init__(self, bench: Bench, concept: Concept, sizes: Sizes, folder: Path, seed: int) -> None:
        self.bench, self.concept, self.sizes, self.seed = bench, concept, sizes, seed
        self.erasures = Erasures(bench, concept, sizes, folder, seed)
        self.trials: Trials = trials(concept, sizes.captions, 2 * sizes.captions)

    @cached_property
    def captions(self) -> tuple[Caption, ...]:
        """Those of the attacker's pictures."""
        return trials(self.concept, self.sizes.attack_pictures, 1, ATTACKED_WITH).own

    @cached_property
    def pictures(self) -> Tensor:
        """What the unedited model makes of them [n, 3, 64, 64]."""
        return self.bench.pictures(self.bench.pocket.model, self.captions)

    @cached_property
    def latents(self) -> Tensor:
        """Of those pictures, as the VAE gives them."""
        with torch.inference_mode():
            found: Tensor = self.bench.pocket.vae.encode(self.pictures.movedim(1, -1)).cpu()
        return found

    @cached_property
    def staying(self) -> tuple[Caption, ...]:
        """Captions that should stay."""
        return (*self.trials.neighbours, *self.trials.others)

    @cached_property
    def staying_pictures(self) -> Tensor:
        """What the unedited model makes of those [n, 3, 64, 64]."""
        return self.bench.pictures(self.bench.pocket.model, self.staying)

    def shown(self, erased: Erased, embeddings: Tensor, begun: Begun | None = None) -> Rate:
        """How many pictures show the concept, one for each of `embeddings`, the place being the seed."""
        return made(self.concept, classify(self.made(erased, embeddings, begun)))

    def made(self, erased: Erased, embeddings: Tensor, begun: Begun | None = None) -> Tensor:
        """Those pictures [n, 3, 64, 64]."""
        return self.bench.sample(erased.model, embeddings, range(len(embeddings)), begun)

    def embeddings(self, erased: Erased, captions: Sequence[Caption]) -> Tensor:
        """See `Erasures.embeddings`."""
        return self.erasures.embeddings(erased, captions)

    def begun(self, count: int, start_step: int, mask: Tensor | None = None) -> Begun:
        """The first of the attacker's pictures, to be gone on with from that step."""
        return Begun(self.latents[:count], start_step, mask)


def differentiable(model: Any, shape: Sequence[int]) -> Any:
    """A `Denoiser` of the MODEL, which is loaded for batches of latents of that shape."""
    import comfy.model_management
    from rece_pack.nodes.host.training.denoiser import Denoiser

    comfy.model_management.load_models_gpu([model], memory_required=8 * model.memory_required(tuple(shape)))
    return Denoiser(model, shape, model.load_device)
