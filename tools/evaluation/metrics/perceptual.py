"""LPIPS, the perceptual distance of Zhang et al. (CVPR 2018), from the same prompts and seeds before the erasure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tools.evaluation.chunks import Results
from tools.evaluation.columns import Columns
from tools.evaluation.metrics.metric import Found, Measured, Planned, kept_numbers
from tools.evaluation.metrics.pictures import batches
from tools.evaluation.metrics.weights import identity, read_weights

LINE = '"lpips==0.1.4"'
ERASED, KEPT, BOTH = "LPIPS_e ↑", "LPIPS_u ↓", "LPIPS_e − LPIPS_u ↑"
SMALLEST = 32
"""Below, AlexNet's last pooling has nothing left."""
_CALIBRATION = Path("weights", "v0.1", "alex.pth")


class Perceptual:
    """See `Metric`: mean LPIPS with AlexNet from the unedited model's pictures, LPIPS_e of the sets that ask for the concept
    and LPIPS_u of those that should stay, and their difference, as Gong et al. (ECCV 2024) compare styles.

    Args:
        alexnet: torchvision's weights of AlexNet; None where a person gave none.
        side: that pictures are scaled to before, in pixels; 0 to leave them. The authors' script takes 64.

    Raises:
        InputError: the weights are missing or of another network.
        MissingPackageError: the package is not installed.
    """

    name = "LPIPS"

    def __init__(self, alexnet: Path | None, side: int = 0) -> None:
        self._side = side
        self._network = perceptual_network(alexnet)
        assert alexnet is not None
        self._source = [*identity(alexnet), side]
        scaled = f", scaled to {side} × {side} pixels" if side else ""
        self.says = (
            f"LPIPS is the mean perceptual distance (AlexNet, version 0.1{scaled}) from the unedited model's picture of the same "
            "prompt and seed, with its standard error: LPIPS_e of prompts that ask for the concept, without attacks, and "
            "LPIPS_u of those that should stay."
        )

    def check(self, planned: Planned) -> None:
        """See `Metric`."""
        from rece_pack.rece_ops import InputError

        side = self._side or planned.side
        if side and side < SMALLEST:
            raise InputError(
                f"LPIPS needs pictures of at least {SMALLEST} pixels, and these have {side}: raise --size, or scale them with "
                "--lpips-side."
            )

    def of(self, results: Results, erasure: str, unedited: str, columns: Columns) -> Found:
        """See `Metric`."""
        if erasure == unedited:
            return Found(tuple(Measured(head, None) for head in (ERASED, KEPT, BOTH)))
        rows = {name: self._of_set(results, erasure, unedited, name) for name in (*columns.asking, *columns.kept)}
        sides = [
            Measured.mean(head, [one["lpips"] for name in names for one in rows[name]])
            for head, names in ((ERASED, columns.asking), (KEPT, columns.kept))
        ]
        return Found((*sides, _difference(*sides)), rows)

    def _of_set(self, results: Results, erasure: str, unedited: str, prompts: str) -> list[dict[str, float]]:
        found: list[float] = []
        for before, after in zip(results.chunks(unedited, prompts), results.chunks(erasure, prompts), strict=True):
            files = [[chunk / row["file"] for row in results.rows_in(chunk)] for chunk in (before, after)]
            found += kept_numbers(after, "lpips", self._source, len(files[1]), partial(self.distances, *files))
        return [{"lpips": one} for one in found]

    @torch.inference_mode()
    def distances(self, before: Sequence[Path], after: Sequence[Path]) -> list[float]:
        """Of each picture from the one in the same place; both have one size."""
        from rece_pack.nodes.host.device import compute_device

        device, found = compute_device(0), list[float]()
        network = self._network.to(device)
        for one, other in zip(batches(before), batches(after), strict=True):
            found += network(self._input(one, device), self._input(other, device)).flatten().tolist()
        return found

    def _input(self, pictures: Tensor, device: torch.device) -> Tensor:
        """[n, 3, height, width] in −1 … 1."""
        scaled = pictures.to(device, torch.float32)
        if self._side:
            scaled = interpolate(scaled, (self._side, self._side), mode="bilinear", align_corners=False).round()
        return scaled / 127.5 - 1


def perceptual_network(alexnet: Path | None) -> Any:
    """LPIPS with AlexNet, as the package lpips has it. Its calibration lies in the package; AlexNet itself is the person's file.

    Raises:
        InputError, MissingPackageError: see `Perceptual`.
    """
    from rece_pack.nodes.host.detectors.detector import optional
    from rece_pack.rece_ops import InputError

    models = optional("torchvision", "The metric LPIPS", "torchvision").models
    package = optional("lpips", "The metric LPIPS", LINE)
    published = models.AlexNet_Weights.IMAGENET1K_V1.url
    weights = read_weights(alexnet, "--alexnet", "torchvision's AlexNet", published)
    with warnings.catch_warnings():
        # It calls torchvision in a way that torchvision means to drop.
        warnings.simplefilter("ignore")
        # Without this, both parts would be downloaded, or loaded without weights_only.
        network = package.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    calibration = torch.load(Path(str(package.__file__)).parent / _CALIBRATION, "cpu", weights_only=True)
    network.load_state_dict(calibration, strict=False)
    # The package cuts the network in slices, in which layers keep their numbers.
    names = {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()}
    try:
        network.net.load_state_dict({name: weights[own] for name, own in names.items()})
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"'{alexnet.name if alexnet else alexnet}' does not hold the weights of torchvision's AlexNet ({error}): take the file "
            f"from {published}."
        ) from None
    return network.eval().requires_grad_(False)


def _difference(erased: Measured, kept: Measured) -> Measured:
    if erased.value is None or kept.value is None:
        return Measured(BOTH, None)
    spread = None
    if erased.spread is not None and kept.spread is not None:
        spread = (erased.spread**2 + kept.spread**2) ** 0.5
    return Measured(BOTH, erased.value - kept.value, spread, erased.pictures + kept.pictures)
