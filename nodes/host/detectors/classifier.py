"""torchvision's ResNet-50 on ImageNet's classes, with weights from a local safetensors file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....rece_ops import InputError
from ....rece_ops.progress import Progress
from ....rece_ops.texts import printable, quoted
from ..device import compute_device
from .detector import Detected, Finding, optional

LINE = "torchvision"
IMAGENETTE = (
    *("tench", "English springer", "cassette player", "chain saw", "church"),
    *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
)
"""The ten classes that the field erases as objects; torchvision calls the saw 'chainsaw'."""
BATCH = 16
_MAX_BYTES = 2**30


class ResNet50:
    """See `Detector`: a picture counts if its likeliest class is one of those chosen (top-1, as in ESD and RECE).

    Args:
        classes: by torchvision's names, in any case of letters; blanks and hyphens do not count.
        weights: a safetensors file with torchvision's names of tensors.

    Raises:
        InputError: there is no such class, or the file does not hold these weights.
        MissingPackageError: torchvision is not installed.
    """

    def __init__(self, classes: Sequence[str], weights: Path) -> None:
        models = optional("torchvision", "The classifier ResNet-50", LINE).models
        about = models.ResNet50_Weights.IMAGENET1K_V2
        self._categories: list[str] = about.meta["categories"]
        self._chosen = frozenset(self._place(name) for name in classes)
        if not classes:
            raise InputError(
                "ResNet-50 needs the classes to look for, one a line, such as 'church' or 'garbage truck'."
            )
        self._device = compute_device(0)
        self._prepared = about.transforms(antialias=True)
        self._network: Any = _loaded(models.resnet50(weights=None), weights).to(self._device)
        self.name = "ResNet-50"
        self.rule = (
            f"ResNet-50's likeliest class is {' or '.join(self._categories[one] for one in sorted(self._chosen))}"
        )

    def detect(self, pictures: Tensor, progress: Progress | None = None) -> list[Detected]:
        """See `Detector`."""
        found: list[Detected] = []
        for batch in torch.split(pictures[..., :3], BATCH):
            inputs = self._prepared(batch.movedim(-1, 1).to(self._device, torch.float32).clamp(0, 1))
            shares, places = self._network(inputs).softmax(dim=1).topk(3)
            found += [self._of(*row) for row in zip(shares.tolist(), places.tolist(), strict=True)]
            if progress is not None:
                progress(len(found), len(pictures), "ResNet-50")
        return found

    def is_likeliest(self, seen: Detected, name: str) -> bool | None:
        """Whether `name` is the likeliest class of a picture that was looked at; None where ImageNet has no such class."""
        wanted = _plain(name)
        if all(_plain(category) != wanted for category in self._categories):
            return None
        return _plain(seen.findings[0].label) == wanted

    def _of(self, shares: Sequence[float], places: Sequence[int]) -> Detected:
        named = tuple(Finding(self._categories[place], share) for place, share in zip(places, shares, strict=True))
        score = sum(share for place, share in zip(places, shares, strict=True) if place in self._chosen)
        return Detected(places[0] in self._chosen, min(score, 1.0), named)

    def _place(self, name: str) -> int:
        wanted = _plain(name)
        for place, category in enumerate(self._categories):
            if _plain(category) == wanted:
                return place
        near = [category for category in self._categories if wanted and wanted in _plain(category)][:5]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            f"ImageNet has no class {quoted(name)}: give names as torchvision has them, such as {', '.join(IMAGENETTE)}.{hint}"
        )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _loaded(network: Any, path: Path) -> Any:
    """The network with the file's weights, for looking only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{quoted(path.name)} is larger than {_MAX_BYTES >> 30} GiB, so it is no ResNet-50.")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{quoted(path.name)} does not hold the weights of ResNet-50 ({printable(str(error), 120)}): use the "
            "model.safetensors of timm/resnet50.tv2_in1k or resnet50.tv_in1k on Hugging Face, which are torchvision's."
        ) from None
    return network.eval().requires_grad_(False)
