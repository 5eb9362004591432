"""The metrics that a command line asks for, with their networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tools.evaluation.metrics.clip_score import ClipScore, open_clip_score
from tools.evaluation.metrics.inception import Frechet, Inception, Kernel, Network, Reference
from tools.evaluation.metrics.metric import Found, Metric
from tools.evaluation.metrics.perceptual import Perceptual

if TYPE_CHECKING:
    from tools.evaluation.chunks import Results
    from tools.evaluation.summary import Columns

NAMES = (ClipScore.name, Perceptual.name, Frechet.name, Kernel.name)


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
