"""A user's own checkpoint as what is evaluated: prompt sets from files, and a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.evaluation.erasures import Erased


@dataclass(frozen=True)
class Prompts:
    """A set of prompts, each with its seed, guidance and size."""

    captions: tuple[Any, ...]


def read_sets(files: Sequence[Path], first: int, size: int) -> dict[str, Prompts]:
    """The first prompts of every file, by the file's name without its ending.

    Raises:
        InputError: a file cannot be read, or two have the same name.
    """
    from rece_pack.nodes.request.prompt_sets import Drawing, Selection, read_prompt_set
    from rece_pack.rece_ops import InputError

    drawing, found = Drawing(width=size, height=size), {}
    for path in files:
        if path.stem in found:
            raise InputError(f"Two prompt sets are called '{path.stem}': rename one of the files.")
        chosen = read_prompt_set(path).selected(Selection(first=first))
        found[path.stem] = Prompts(tuple(drawing.completed(entry) for entry in chosen.entries))
    return found


class Checkpoint:
    """A loaded checkpoint.

    Args:
        path: of a file that ComfyUI's checkpoint loader reads.
        concepts, preserve: as in the node.
        sets: prompts by name.
        detector: looks for the concept.
        sampling: settings of the sampler, for all pictures.
    """

    def __init__(
        self, path: Path, concepts: str, preserve: str, sets: Mapping[str, Prompts], detector: Any, sampling: Any
    ) -> None:
        import comfy.sd
        from rece_pack.nodes.host.jobs.sample import Sampler

        self.model, self.clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(path))
        self.name, self.concepts, self.preserve, self.sets = path.stem, concepts, preserve, sets
        self._detector = detector
        with torch.inference_mode():
            self._sampler = Sampler(self.clip, vae, sampling)

    def pictures(self, erased: Erased, name: str, places: range) -> list[Tensor]:
        """Pictures [height, width, 3] in 0 … 1 of some of a set's prompts."""
        entries = self.sets[name].captions[places.start : places.stop]
        with torch.inference_mode():
            return [self._sampler.picture(erased.model, entry)[0] for entry in entries]

    def rows(self, name: str, places: range, pictures: Sequence[Tensor]) -> list[dict[str, Any]]:
        """What the detector says of each."""
        from rece_pack.nodes.reporting.detection import picture_record

        entries = self.sets[name].captions[places.start : places.stop]
        found = []
        for place, entry, picture in zip(places, entries, pictures, strict=True):
            with torch.inference_mode():
                (seen,) = self._detector.detect(picture[None])
            told = {"file": f"{place:05d}.png", "place": entry.place, "seed": entry.seed, "prompt": entry.prompt}
            found.append({**told, **picture_record(seen), "right": None})
        return found
