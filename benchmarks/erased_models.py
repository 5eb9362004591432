"""The settings that benchmarks compare on the pocket model, and the loaded model that they erase from.

Runs in the host's interpreter, on the CPU or a GPU, through ComfyUI's own sampling, in bfloat16 or float32,
whichever is quicker there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import Seen, classify
from pocket_model.precision import quicker_dtype
from pocket_model.sampling import PocketModel, Sampler
from pocket_model.trials import Concept, other_words
from pocket_model.world import Caption
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack

UNEDITED = "unedited"
# What the unedited model makes of a concept's captions with an unknown word in the concept's place: its habit.
WORD = "house"
UNNAMED = f"unedited, '{WORD}' in its place"
BETAS = (0.3, 3.0, 30.0, 300.0)
BETA = 30.0
TARGETED = "to a target"


@dataclass(frozen=True)
class Setting:
    """How something is erased.

    Attributes:
        name: for the table.
        method: 'RECE' (UCE: with no epochs) or 'projection'.
        values: of its settings.
        preserved: whether all other words are preserved.
        targeted: whether concepts are mapped to another word of their kind instead of the empty prompt.
        together: whether all concepts are also erased at once.
    """

    name: str
    method: str = "RECE"
    values: dict[str, Any] = field(default_factory=dict)
    preserved: bool = False
    targeted: bool = False
    together: bool = True


def settings() -> Iterator[Setting]:
    """The unedited model, UCE, RECE at the authors' regularization, its anchored iteration, and projections."""
    yield Setting(UNEDITED, together=False)
    yield Setting(UNNAMED, together=False)
    for preserved in (False, True):
        yield _rece(0, preserved=preserved)
        for epochs in (1, 2, 3, 4, 5):
            if epochs in (1, 3, 5) or not preserved:
                yield _rece(epochs, preserved=preserved, together=epochs in (1, 3))
        yield _rece(3, preserved=preserved, anchored=True)
        for beta in BETAS:
            if beta == BETA or not preserved:
                yield _projection(beta, preserved=preserved, together=beta == BETA)
    for epochs in (0, 3):
        yield _rece(epochs, targeted=True)
    yield _projection(BETA, targeted=True)


def setting_named(name: str) -> Setting:
    """The setting of that name without preserved words."""
    return next(setting for setting in settings() if setting.name == name and not setting.preserved)


def _rece(epochs: int, anchored: bool = False, targeted: bool = False, **values: bool) -> Setting:
    details = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] * bool(epochs) + ["anchored"] * anchored
    name = ", ".join(["RECE" if epochs else "UCE", *details, *[TARGETED] * targeted])
    return Setting(name, "RECE", {"epochs": epochs, "anchored": anchored}, targeted=targeted, **values)


def _projection(beta: float, targeted: bool = False, **values: bool) -> Setting:
    name = ", ".join(["projection", f"β {beta:g}", *[TARGETED] * targeted])
    return Setting(name, "projection", {"robustness": beta}, targeted=targeted, **values)


class Bench:
    """The loaded model: what is erased from it, and what its pictures show.

    Args:
        sampler: of its pictures.
        checkpoint: of the model; the pocket model's by default.

    Attributes:
        pocket: the model, its text encoder and VAE.
        projections: W [out, d] of those that read the text, by name; see `EffectiveWeights`.
        gram: G [d, d] of them.
    """

    def __init__(self, sampler: Sampler, checkpoint: Path | None = None) -> None:
        make_importable(prepare_comfyui())
        import_pack()
        from rece_pack.nodes.host.session import Session
        from rece_pack.rece_ops import gram_matrix

        self.pocket = PocketModel(checkpoint or pocket_checkpoint(), quicker_dtype())
        self._sampler = sampler
        self._session = Session.open(self.pocket.model, self.pocket.clip)
        (stream,) = self._session.architecture.streams
        self.projections = self._session.weights(stream)
        with torch.no_grad():
            self.gram: Tensor = gram_matrix(self.projections)

    def erased(
        self, setting: Setting, concepts: Sequence[Concept], embeddings: Sequence[Tensor] = ()
    ) -> tuple[Any, Any]:
        """The MODEL without the concepts and what `embeddings` [n, d] make, and the eraser."""
        from rece_pack.rece_ops import Eraser

        if setting.name in (UNEDITED, UNNAMED):
            return self.pocket.model, Eraser.identity(self.gram.shape[0])
        erasers = self.erasers(setting, concepts, embeddings)
        return self.with_erasers(erasers), erasers.transforms["text"]

    def with_erasers(self, erasers: Any) -> Any:
        """The MODEL with `erasers`, which may have been made on another one."""
        from rece_pack.nodes.host.jobs.apply import apply_eraser

        with torch.inference_mode():
            return apply_eraser(self._session, erasers, 1.0)

    def erasers(self, setting: Setting, concepts: Sequence[Concept], embeddings: Sequence[Tensor] = ()) -> Any:
        """What erases the concepts, and what `embeddings` [n, d] make, by the name of the text stream."""
        from rece_pack.nodes.host.jobs.erase import erase_concepts
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.request.concept_lines import ConceptLine
        from rece_pack.nodes.request.erasure_request import ErasureRequest
        from rece_pack.nodes.request.methods import plan_with
        from rece_pack.rece_ops import ProjectionSettings, RECESettings

        lines = [ConceptLine(concept.name, concept.target if setting.targeted else "") for concept in concepts]
        preserved = other_words(concepts) if setting.preserved else []
        kind = ProjectionSettings if setting.method == "projection" else RECESettings
        plan = plan_with(kind(**setting.values))
        request = ErasureRequest(lines, preserved, plan, embeddings=[(one[None], {}) for one in embeddings])
        with torch.inference_mode():
            return erase_concepts(Session.open(self.pocket.model, self.pocket.clip), request).eraser

    def embeddings(self, captions: Sequence[Caption]) -> Tensor:
        """Token embeddings [n, 77, 768] of captions."""
        if not captions:
            return self.pocket.embeddings([""])[:0]
        return self.pocket.embeddings([caption.text for caption in captions])

    def pictures(self, model: Any, captions: Sequence[Caption]) -> Tensor:
        """One picture [3, 64, 64] a caption, with its place in the list as the seed."""
        return self.sample(model, self.embeddings(captions), range(len(captions)))

    def sample(self, model: Any, embeddings: Tensor, seeds: Sequence[int]) -> Tensor:
        """One picture [3, 64, 64] for each of `embeddings` [n, 77, 768]."""
        return self.pocket.sample(model, embeddings, seeds, self._sampler).cpu()

    def all_seen(self, model: Any, groups: dict[str, Tensor]) -> dict[str, list[Seen]]:
        """What is seen in the pictures of groups of embeddings, all sampled together; seeds count from 0 in each."""
        seeds = [seed for group in groups.values() for seed in range(len(group))]
        seen = iter(classify(self.sample(model, torch.cat(list(groups.values())), seeds)))
        return {name: [next(seen) for _ in group] for name, group in groups.items()}


def machine() -> str:
    """What it was measured on."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    return f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}"
