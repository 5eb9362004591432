"""The erasures that are compared: how each is described on the command line, and made."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

UNEDITED = "unedited"
_FILES = ("eraser", "lora")


@dataclass(frozen=True)
class Erasure:
    """One way to erase.

    Attributes:
        name: in tables.
        settings: of the node Erase Concepts, or 'eraser' or 'lora' with a file; none for the model as it is.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parsed(cls, words: Sequence[str]) -> Erasure:
        """Of 'NAME SETTING=VALUE …'.

        Raises:
            InputError: a word is no such pair, or the file is not there.
        """
        from rece_pack.rece_ops import InputError

        name, *pairs = words
        settings = dict(pair.partition("=")[::2] for pair in pairs)
        for kind in _FILES:
            if kind in settings and (len(settings) > 1 or not Path(settings[kind]).is_file()):
                raise InputError(f"'{name}': {kind}= takes a file that is there, and nothing else beside it.")
        return cls(name, settings)

    @classmethod
    def swept(cls, words: Sequence[str]) -> list[Erasure]:
        """Of 'NAME SETTING=VALUE,VALUE …': one for every combination of values, with those that differ in its name.

        Raises:
            InputError: see `parsed`.
        """
        name, *pairs = words
        choices = [
            [f"{setting}={value}" for value in values.split(",")]
            for setting, _, values in (pair.partition("=") for pair in pairs)
        ]
        differing = [place for place, choice in enumerate(choices) if len(choice) > 1]
        return [
            cls.parsed([" ".join([name, *(chosen[place] for place in differing)]), *chosen])
            for chosen in itertools.product(*choices)
        ]

    def request(self, concepts: str, preserve: str) -> Any:
        """What the node would be asked for; None where there is nothing to make.

        Raises:
            InputError: an input has a value that the node does not take.
        """
        if not self.settings or self.settings.keys() & set(_FILES):
            return None
        from rece_pack.nodes.request.erase_inputs import given_inputs
        from rece_pack.nodes.request.erasure_request import request_of

        given = given_inputs(f"{name}={value}" for name, value in self.settings.items() if name != "preset")
        preset = self.settings.get("preset", "custom")
        return request_of(concepts, {"preset": preset, "preserve": preserve, **given})


@dataclass(frozen=True)
class Erased:
    """A MODEL without the concept.

    Attributes:
        model: to sample from.
        eraser: None for the model as it is, and for a LoRA.
        seconds: that the erasure took.
        size: of the eraser's numbers, or the LoRA's file, in bytes.
    """

    model: Any
    eraser: Any = None
    seconds: float = 0.0
    size: int = 0


DEFAULTS = (
    Erasure("UCE", {"preset": "UCE only"}),
    Erasure("RECE", {"preset": "custom", "epochs": "3"}),
    Erasure("projection", {"preset": "custom", "method": "projection"}),
)


@torch.inference_mode()
def make(erasure: Erasure, model: Any, clip: Any, concepts: str, preserve: str) -> Erased:
    """The MODEL with an erasure.

    Raises:
        RECEError: see the node.
    """
    if not erasure.settings:
        return Erased(model)
    from rece_pack.nodes.host.jobs.apply import apply_eraser
    from rece_pack.nodes.host.jobs.erase import erase_concepts
    from rece_pack.nodes.host.session import Session
    from rece_pack.rece_ops import EraserSet

    if "lora" in erasure.settings:
        return _with_lora(model, Path(erasure.settings["lora"]))
    session = Session.open(model, clip)
    started = time.perf_counter()
    if "eraser" in erasure.settings:
        eraser = EraserSet.load(Path(erasure.settings["eraser"]))
    else:
        eraser = erase_concepts(session, erasure.request(concepts, preserve)).eraser
    seconds = time.perf_counter() - started
    factors = [factor for part in eraser.values() for factor in part.stored().tensors.values()]
    return Erased(apply_eraser(session, eraser, 1.0), eraser, seconds, sum(factor.nbytes for factor in factors))


def _with_lora(model: Any, path: Path) -> Erased:
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(path), safe_load=True)
    patched, _ = comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)
    return Erased(patched, size=path.stat().st_size)
