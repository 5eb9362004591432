"""The settings that benchmarks compare on the pocket model, and the loaded model that they erase from.

Runs in the host's interpreter, on the CPU or a GPU, through ComfyUI's own sampling, in bfloat16 or float32,
whichever is quicker there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import Seen, classify
from pocket_model.precision import quicker_dtype
from pocket_model.rates import Rate
from pocket_model.sampling import Begun, PocketModel, Sampler
from pocket_model.trials import Concept, Trials, kept, made, other_words
from pocket_model.world import Caption
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack

STAYING = ("neighbours", "others")
"""Of a concept's trials the captions that should stay as they are."""
UNEDITED = "unedited"
# What the unedited model makes of a concept's captions with an unknown word in the concept's place: its habit.
WORD = "house"
UNNAMED = f"unedited, '{WORD}' in its place"
BETAS = (0.3, 3.0, 300.0)
BETA = 30.0
ENERGIES = (0.5, 0.8, 0.99)
DIRECTIONS = (1, 4, 16)
TARGETED = "to a target"
# Of the tokens from the last subject token on.
LAST_TOKEN, LATER_TOKENS = (0, 1), (1, None)


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
        synonyms: whether the synonyms that the UNet saw are typed as concepts too.
        templates: inside which concepts are erased too.
        looks: of `OtherPlan`: where else the method looks.
    """

    name: str
    method: str = "RECE"
    values: dict[str, Any] = field(default_factory=dict)
    preserved: bool = False
    targeted: bool = False
    together: bool = False
    synonyms: bool = False
    templates: str = "none"
    looks: dict[str, Any] = field(default_factory=dict)


def settings() -> Iterator[Setting]:
    """The unedited model, UCE, RECE at the authors' regularization, projections; then what changes one thing of them."""
    yield Setting(UNEDITED)
    yield Setting(UNNAMED)
    for targeted in (False, True):
        for epochs in (0, 1, 3):
            yield _rece(epochs, targeted=targeted, together=epochs != 1)
        yield _projection(targeted=targeted, together=True)
    yield from changed_in_one_thing()
    for preserved in (False, True):
        for targeted in (False, True):
            if preserved:
                for epochs in (0, 1, 3):
                    yield _rece(epochs, preserved=True, targeted=targeted, together=targeted and not epochs)
                yield _projection(preserved=True, targeted=targeted, together=targeted)
            yield _rece(5, preserved=preserved, targeted=targeted)
            both = preserved and targeted
            yield _rece(3, anchored=True, preserved=preserved, targeted=targeted, together=both)


def changed_in_one_thing() -> Iterator[Setting]:
    """Each differs from a projection or from UCE, with a target, in one thing."""
    every: dict[str, Any] = {"templates": "object"}
    yield _projection("synonyms too", synonyms=True)
    yield _projection("in templates", **every)
    yield _projection("bare words", looks={"contexts": ("{}",)})
    yield _projection("in templates, against the target", **every, looks={"from_target": True})
    yield _projection("in templates, last token", **every, looks={"tokens": LAST_TOKEN})
    yield _projection("in templates, tokens after it", **every, looks={"tokens": LATER_TOKENS})
    yield from (_projection(f"energy {energy:g}", values={"energy": energy}) for energy in ENERGIES)
    for count in DIRECTIONS:
        yield _projection(f"{count} direction{'s' if count > 1 else ''}", values={"directions": count})
    yield from (_projection(beta=beta) for beta in BETAS)
    yield _rece(0, "synonyms too", synonyms=True)
    yield _rece(0, "in templates", **every)
    yield _rece(0, "last token", looks={"tokens": LAST_TOKEN})
    yield _rece(0, "tokens after it", looks={"tokens": LATER_TOKENS})
    yield _rece(1, "λ_r 0.001", values={"regularization": 1e-3})


def setting_named(name: str) -> Setting:
    """The setting of that name without preserved words."""
    return next(setting for setting in settings() if setting.name == name and not setting.preserved)


def _rece(epochs: int, detail: str = "", anchored: bool = False, targeted: bool = True, **others: Any) -> Setting:
    details = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] * bool(epochs) + ["anchored"] * anchored + [detail]
    values = {"epochs": epochs, "anchored": anchored, **others.pop("values", {})}
    return Setting(_named("RECE" if epochs else "UCE", details, targeted), "RECE", values, targeted=targeted, **others)


def _projection(detail: str = "", beta: float = BETA, targeted: bool = True, **others: Any) -> Setting:
    values = {"robustness": beta, **others.pop("values", {})}
    name = _named("projection", [f"β {beta:g}", detail], targeted)
    return Setting(name, "projection", values, targeted=targeted, **others)


def _named(method: str, details: Sequence[str], targeted: bool) -> str:
    return ", ".join([method, *filter(None, details), *[TARGETED] * targeted])


def bench_sampler(steps: int = 10) -> Sampler:
    """Of the pictures that benchmarks judge."""
    return Sampler(steps=steps, batch=256 if torch.cuda.is_available() else 64)


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
        from rece_pack.rece_ops import gram_matrix

        from benchmarks.other_plans import BenchSession

        self.pocket = PocketModel(checkpoint or pocket_checkpoint(), quicker_dtype())
        self._sampler = sampler
        self._session = BenchSession.open(self.pocket.model, self.pocket.clip)
        (stream,) = self._session.architecture.streams
        self.projections = self._session.weights(stream)
        with torch.no_grad():
            self.gram: Tensor = gram_matrix(self.projections)

    @property
    def session(self) -> Any:
        """Of MODEL and CLIP, for many erasures."""
        return self._session

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
        return self.erasure(setting, concepts, embeddings).eraser

    def erasure(self, setting: Setting, concepts: Sequence[Concept], embeddings: Sequence[Tensor] = ()) -> Any:
        """The same with all that was measured of it."""
        from rece_pack.nodes.host.jobs.erase import erase_concepts
        from rece_pack.nodes.request.concept_lines import ConceptLine
        from rece_pack.nodes.request.erasure_request import ErasureRequest
        from rece_pack.nodes.request.methods import plan_with
        from rece_pack.rece_ops import ProjectionSettings, RECESettings

        from benchmarks.other_plans import OtherPlan

        lines = [
            ConceptLine(name, concept.target if setting.targeted else "")
            for concept in concepts
            for name in (concept.name, *concept.word.synonyms * setting.synonyms)
        ]
        preserved = other_words(concepts) if setting.preserved else []
        kind = ProjectionSettings if setting.method == "projection" else RECESettings
        plan = OtherPlan(plan_with(kind(**setting.values)), **setting.looks)
        given: list[tuple[Tensor, dict[str, Any]]] = [(one[None], {}) for one in embeddings]
        request = ErasureRequest(lines, preserved, plan, setting.templates, given)
        with torch.inference_mode():
            return erase_concepts(self._session, request)

    def embeddings(self, captions: Sequence[Caption]) -> Tensor:
        """Token embeddings [n, 77, 768] of captions."""
        if not captions:
            return self.pocket.embeddings([""])[:0]
        return self.pocket.embeddings([caption.text for caption in captions])

    def pictures(self, model: Any, captions: Sequence[Caption]) -> Tensor:
        """One picture [3, 64, 64] a caption, with its place in the list as the seed."""
        return self.sample(model, self.embeddings(captions), range(len(captions)))

    @property
    def steps(self) -> int:
        """Of its sampler."""
        return self._sampler.steps

    def sample(self, model: Any, embeddings: Tensor, seeds: Sequence[int], begun: Begun | None = None) -> Tensor:
        """One picture [3, 64, 64] for each of `embeddings` [n, 77, 768], of those that were `begun` or a new one."""
        return self.pocket.sample(model, embeddings, seeds, self._sampler, begun).cpu()

    def rates(
        self,
        model: Any,
        concept: Concept,
        found: Trials,
        names: Sequence[str],
        embed: Callable[[Sequence[Caption]], Tensor] | None = None,
    ) -> dict[str, Rate]:
        """What pictures show of a concept's trials, by `names` of its fields: the concept, or of what should stay all of it.

        Args:
            model: samples them.
            concept: that is erased from it.
            found: the captions.
            names: such as 'own' and 'others'.
            embed: makes token embeddings of captions; the bench's text encoder by default.
        """
        captions = {name: getattr(found, name) for name in names}
        seen = self.all_seen(model, {name: (embed or self.embeddings)(one) for name, one in captions.items()})
        return {
            name: kept(one, seen[name]) if name in STAYING else made(concept, seen[name])
            for name, one in captions.items()
        }

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
