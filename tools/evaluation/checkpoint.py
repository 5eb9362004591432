"""A user's own checkpoint as what is evaluated: prompt sets from files, and a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.evaluation import attacks
from tools.evaluation.erasures import Erased


@dataclass(frozen=True)
class Prompts:
    """A set of prompts, each with its seed, guidance and size.

    Attributes:
        captions: the prompts.
        attack: what takes the place of each prompt, out of `attacks.NAMES`; '' for the prompt itself.
    """

    captions: tuple[Any, ...]
    attack: str = ""


def asked_name(path: Path, category: str) -> str:
    """What the set is called of a file's prompts that ask for the concept."""
    return f"{path.stem}, {category}" if category else path.stem


def kept_name(path: Path, category: str) -> str:
    """What the set is called of a file's prompts that should stay."""
    return f"{path.stem}, others" if category else path.stem


def read_sets(asked: Sequence[Path], kept: Sequence[Path], category: str, first: int, size: int) -> dict[str, Prompts]:
    """The first prompts of every file, by the names of their sets.

    Args:
        asked, kept: files of prompts that ask for the concept, and of those that should stay.
        category: of the former only the prompts of this category are taken, of the latter all others; '' for all of both.
        first: how many of each.
        size: of pictures where the file does not say.

    Raises:
        InputError: a file cannot be read, has no prompts left, or two have the same name.
    """
    from rece_pack.nodes.request.prompt_sets import Drawing, PromptSet, Selection, read_prompt_set
    from rece_pack.rece_ops import InputError

    drawing, found = Drawing(width=size, height=size), dict[str, Prompts]()

    def add(name: str, chosen: PromptSet) -> None:
        if name in found:
            raise InputError(f"Two prompt sets are called '{name}': rename one of the files.")
        found[name] = Prompts(tuple(drawing.completed(entry) for entry in chosen.entries))

    for path in asked:
        add(asked_name(path, category), read_prompt_set(path).selected(Selection(category, first=first)))
    for path in kept:
        whole = read_prompt_set(path)
        add(
            kept_name(path, category), (whole.without(category) if category else whole).selected(Selection(first=first))
        )
    return found


def under_attack(name: str, attack: str) -> str:
    """What a prompt set is called when an attack takes the place of its prompts."""
    return f"{name}, {attacks.NAMES[attack]}"


class Checkpoint:
    """A loaded checkpoint.

    Args:
        path: of a file that ComfyUI's checkpoint loader reads.
        concepts, preserve: as in the node.
        sets: prompts by name.
        asking: names of the sets that ask for the concept; the first one's pictures are what learned tokens are learned from.
        attacked: attacks on them, out of `attacks.NAMES`.
        detector: looks for the concept; None where nothing does.
        sampling: settings of the sampler, for all pictures.
        inversion_steps: of learned tokens.
    """

    def __init__(
        self,
        path: Path,
        concepts: str,
        preserve: str,
        sets: Mapping[str, Prompts],
        asking: Sequence[str],
        attacked: Sequence[str],
        detector: Any,
        sampling: Any,
        inversion_steps: int,
    ) -> None:
        import comfy.sd
        from rece_pack.nodes.host.jobs.sample import Sampler

        self.model, self.clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(path))
        self.name, self.concepts, self.preserve = path.stem, concepts, preserve
        more = {
            under_attack(name, attack): Prompts(sets[name].captions, attack) for name in asking for attack in attacked
        }
        self.sets: Mapping[str, Prompts] = {**sets, **more}
        self._examples = sets[asking[0]].captions[: attacks.PICTURES] if asking else ()
        self._detector = detector
        with torch.inference_mode():
            self._sampler = Sampler(self.clip, vae, sampling)
        self._learner = attacks.Learner(self.clip, vae, self._example_pictures, self._shown, inversion_steps, batch=1)

    def pictures(self, erased: Erased, name: str, places: range) -> list[Tensor]:
        """Pictures [height, width, 3] in 0 … 1 of some of a set's prompts."""
        prompts = self.sets[name]
        with torch.inference_mode():
            return [
                self._sampler.picture(erased.model, entry, self._instead(prompts.attack, entry.prompt, erased))[0]
                for entry in prompts.captions[places.start : places.stop]
            ]

    def _instead(self, attack: str, prompt: str, erased: Erased) -> Any:
        """What an attacker gives the erased MODEL in the prompt's place; None for the prompt itself."""
        if attack == attacks.INVERSION:
            return self._learner.best(erased.model)
        if attack != attacks.DERIVED or erased.model is self.model:
            return None
        from rece_pack.nodes.host.jobs.derive import derive_conditioning
        from rece_pack.nodes.host.session import Session

        before = Session.open(self.model, self.clip)
        if erased.eraser is not None:
            return derive_conditioning(before, prompt, attacks.REGULARIZATION, erased.eraser, None).conditioning
        after = Session.open(erased.model, self.clip)
        return derive_conditioning(after, prompt, attacks.REGULARIZATION, None, before).conditioning

    def _example_pictures(self) -> Tensor:
        """What the unedited model makes of prompts that ask for the concept, all of the first one's size."""
        first = self._examples[0]
        alike = [entry for entry in self._examples if (entry.width, entry.height) == (first.width, first.height)]
        return torch.cat([self._sampler.picture(self.model, entry) for entry in alike])

    def _shown(self, model: Any, conditioning: Any) -> int:
        made = [self._sampler.picture(model, entry, conditioning) for entry in self._examples]
        return sum(seen.shown for picture in made for seen in self._detector.detect(picture))

    def rows(self, name: str, places: range, pictures: Sequence[Tensor]) -> list[dict[str, Any]]:
        """What the detector says of each."""
        entries = self.sets[name].captions[places.start : places.stop]
        found = []
        for place, entry, picture in zip(places, entries, pictures, strict=True):
            told = {"file": f"{place:05d}.png", "place": entry.place, "seed": entry.seed, "prompt": entry.prompt}
            found.append({**told, **self._seen(picture, entry)})
        return found

    def _seen(self, picture: Tensor, entry: Any) -> dict[str, Any]:
        """Whether a picture shows the concept, and, where a classifier knows the prompt's class, whether it shows that."""
        from rece_pack.nodes.host.detectors.classifier import ResNet50
        from rece_pack.nodes.reporting.detection import picture_record

        if self._detector is None:
            return {"shown": None, "right": None}
        with torch.inference_mode():
            (seen,) = self._detector.detect(picture[None])
        right = None
        if isinstance(self._detector, ResNet50) and len(entry.labels) == 1:
            right = self._detector.is_likeliest(seen, entry.labels[0])
        return {**picture_record(seen), "right": right}
