"""The metrics that a command line asks for, with their networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tools.evaluation.chunks import Results
from tools.evaluation.columns import Columns
from tools.evaluation.metrics.clip_score import ClipScore, open_clip_score
from tools.evaluation.metrics.inception import SUBSET_SIZE, Frechet, Inception, Kernel, Network, Reference
from tools.evaluation.metrics.metric import Found, Metric
from tools.evaluation.metrics.perceptual import Perceptual

NAMES = (ClipScore.name, Perceptual.name, Frechet.name, Kernel.name)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the command line: which metrics, and the files that each needs."""
    group = parser.add_argument_group("metrics", "of the pictures that were made; weights are read from your own files")
    group.add_argument("--metrics", nargs="*", choices=NAMES, default=[], help="more columns of the table")
    group.add_argument("--clip-vision", type=Path, help="of CLIP: the picture encoder, a safetensors file")
    group.add_argument("--clip-text", type=Path, help="of CLIP: the text encoder of the same CLIP, a safetensors file")
    group.add_argument("--alexnet", type=Path, help="of LPIPS: torchvision's weights of AlexNet")
    group.add_argument(
        "--lpips-side", type=int, default=0, help="of LPIPS: scale pictures to so many pixels; 0: do not"
    )
    group.add_argument("--inception", type=Path, help="of FID and KID: torch-fidelity's weights of Inception")
    group.add_argument(
        "--reference", type=Path, help="of FID and KID: a folder of pictures, instead of the unedited model's"
    )
    group.add_argument("--kid-subset-size", type=int, default=SUBSET_SIZE, help="of KID: pictures in each subset")


class _Opened:
    """Makes metrics; FID and KID share a network and what they are compared with."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = arguments

    def metric(self, name: str) -> Metric:
        given = self._given
        if name == ClipScore.name:
            return open_clip_score(given.clip_vision, given.clip_text)
        if name == Perceptual.name:
            return Perceptual(given.alexnet, given.lpips_side)
        if name == Frechet.name:
            return Frechet(self._reference)
        return Kernel(self._reference, given.kid_subset_size)

    @cached_property
    def _reference(self) -> Reference:
        network: Network = Inception(self._given.inception)
        return Reference(network, self._given.reference)


def open_metrics(arguments: argparse.Namespace) -> list[Metric]:
    """Those that were asked for, in the order of `NAMES`.

    Raises:
        InputError: weights are missing, or of another network; or the folder of the reference holds no pictures.
        MissingPackageError: a package is not installed.
    """
    if arguments.lpips_side < 0:
        from rece_pack.rece_ops import InputError

        raise InputError(f"--lpips-side is {arguments.lpips_side}: give 0, or a number of pixels.")
    opened = _Opened(arguments)
    return [opened.metric(name) for name in NAMES if name in arguments.metrics]


def measure(
    results: Results,
    erasures: Sequence[str],
    columns: Columns,
    metrics: Sequence[Metric],
    tell: Callable[[str, str], None],
) -> dict[str, list[Found]]:
    """What each metric says of each erasure, whose pictures are all there; the first one is the model as it is.

    Args:
        tell: hears of the metric and the erasure that come next.
    """

    def found_of(erasure: str) -> Iterator[Found]:
        for metric in metrics:
            tell(metric.name, erasure)
            yield metric.of(results, erasure, erasures[0], columns)

    return {erasure: list(found_of(erasure)) for erasure in erasures}
