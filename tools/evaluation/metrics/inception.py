"""FID (Heusel et al., NeurIPS 2017) and KID (Bińkowski et al., ICLR 2018) by the package torch-fidelity."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tools.evaluation.chunks import Results
from tools.evaluation.columns import Columns
from tools.evaluation.metrics.metric import Found, Measured, Planned
from tools.evaluation.metrics.pictures import batches, pictures_in
from tools.evaluation.metrics.weights import identity, read_weights

LINE = '"torch-fidelity==0.4.0"'
FID, KID = "FID ↓", "KID × 1000 ↓"
SUBSETS, SUBSET_SIZE = 100, 1000
"""Of KID, as torch-fidelity and the field take them."""
_PIECE = 256
_FILE = "inception.safetensors"


class Network(Protocol):
    """What looks at pictures.

    Attributes:
        features: how many numbers it says of a picture.
        source: what they depend on, as plain values.
    """

    features: int
    source: list[str | int]

    def look(self, paths: Sequence[Path]) -> Tensor:
        """[n, features], float32."""


class Inception:
    """See `Network`: Inception v3 of 2015, in the weights and with the scaling that FID is defined by.

    Args:
        weights: torch-fidelity's file; None where a person gave none.

    Raises:
        InputError: the weights are missing or of another network.
        MissingPackageError: the package is not installed.
    """

    features = 2048

    def __init__(self, weights: Path | None) -> None:
        from rece_pack.nodes.host.detectors.detector import optional
        from rece_pack.rece_ops import InputError
        from rece_pack.rece_ops.texts import printable

        optional("torch_fidelity", "FID and KID", LINE)
        package = optional("torch_fidelity.feature_extractor_inceptionv3", "FID and KID", LINE)
        found = read_weights(weights, "--inception", "Inception v3 for FID", package.URL_INCEPTION_V3)
        assert weights is not None
        self.source: list[str | int] = identity(weights)
        # The package reads any pickle, so it gets what was read here, not the person's file.
        checked = io.BytesIO()
        torch.save(found, checked)
        checked.seek(0)
        try:
            self._network: Any = package.FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(self.features)], feature_extractor_weights_path=checked
            )
        except RuntimeError as error:
            raise InputError(
                f"'{weights.name}' does not hold the weights of Inception v3 for FID ({printable(str(error), 160)}): take the "
                f"file from {package.URL_INCEPTION_V3}. torchvision's Inception is another network."
            ) from None

    @torch.inference_mode()
    def look(self, paths: Sequence[Path]) -> Tensor:
        """See `Network`. Every picture is scaled to 299 × 299 by itself, so that sizes may differ."""
        from rece_pack.nodes.host.device import compute_device

        device = compute_device(0)
        network = self._network.to(device)
        return torch.cat([network(batch.to(device))[0].float().cpu() for batch in batches(paths)])


class Reference:
    """What pictures are compared with: those of the unedited model, or of a folder.

    Args:
        network: that looks at all of them.
        folder: None for the unedited model.

    Raises:
        InputError: the folder holds no pictures.
    """

    def __init__(self, network: Network, folder: Path | None) -> None:
        self.network, self.folder = network, folder
        self._paths = None if folder is None else pictures_in(folder)

    def count(self, kept: int) -> int:
        """Its pictures, where an erasure has `kept`."""
        return kept if self._paths is None else len(self._paths)

    @property
    def name(self) -> str:
        """In a sentence."""
        return "the unedited model's" if self.folder is None else f"those in the folder '{self.folder.name}'"

    def of_erasure(self, results: Results, erasure: str, columns: Columns) -> Tensor:
        """[n, features] of the pictures that should stay."""
        chunks = [chunk for name in columns.kept for chunk in results.chunks(erasure, name)]
        files = [[chunk / row["file"] for row in results.rows_in(chunk)] for chunk in chunks]
        return torch.cat([self._kept(chunk / _FILE, paths) for chunk, paths in zip(chunks, files, strict=True)])

    def of_reference(self, results: Results, unedited: str, columns: Columns) -> Tensor:
        """[m, features]; a folder's are kept in pieces, so that a run that was stopped goes on."""
        if self._paths is None:
            return self.of_erasure(results, unedited, columns)
        kept = results.folder / "reference"
        kept.mkdir(exist_ok=True)
        pieces = [self._paths[start : start + _PIECE] for start in range(0, len(self._paths), _PIECE)]
        return torch.cat([self._kept(kept / f"{number:05d}.safetensors", piece) for number, piece in enumerate(pieces)])

    def _kept(self, place: Path, paths: Sequence[Path]) -> Tensor:
        """The features of some pictures, from a file where they were found before."""
        from rece_pack.rece_ops.formats.atomic import save_atomically
        from safetensors import SafetensorError, safe_open

        source = json.dumps([*self.network.source, *([path.name, path.stat().st_size] for path in paths)])
        try:
            with safe_open(place, framework="pt") as file:
                if (file.metadata() or {}).get("of") == source:
                    found: Tensor = file.get_tensor("features")
                    return found
        except (OSError, SafetensorError):
            pass
        features = self.network.look(paths)
        save_atomically(place, {"features": features}, {"of": source})
        return features


class Frechet:
    """See `Metric`: FID of the pictures that should stay.

    Args:
        reference: what they are compared with.
    """

    name = "FID"

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.says = (
            f"FID is the Fréchet distance of Inception's features of the pictures that should stay from {reference.name}. It "
            "depends on the number of pictures: compare it only with FIDs of the same number."
        )

    def check(self, planned: Planned) -> None:
        """See `Metric`: fewer pictures than features leave the covariance without an inverse, and FID says little."""
        from rece_pack.rece_ops import InputError

        own = _kept_pictures(planned, self.name)
        least, features = self._reference.network.features + 1, self._reference.network.features
        fewest = min(own, self._reference.count(own))
        if fewest < least:
            raise InputError(
                f"FID estimates the covariance of {features:,} features and needs at least {least:,} pictures on either side, and "
                f"one has {fewest:,} (published ones are of 10,000 or 30,000): raise --count, or take KID."
            )

    def of(self, results: Results, erasure: str, unedited: str, columns: Columns) -> Found:
        """See `Metric`."""
        return _compared(self._reference, results, erasure, unedited, columns, FID, self._distance)

    @staticmethod
    def _distance(own: Tensor, other: Tensor) -> Measured:
        return Measured(FID, frechet_distance(own, other), None, len(own), len(other), digits=2)


class Kernel:
    """See `Metric`: KID of the pictures that should stay.

    Args:
        reference: what they are compared with.
        subset_size: pictures in each of the subsets that are drawn.
    """

    name = "KID"

    def __init__(self, reference: Reference, subset_size: int = SUBSET_SIZE) -> None:
        self._reference, self._size = reference, subset_size
        self.says = (
            f"KID is the kernel distance of Inception's features of the pictures that should stay from {reference.name}, times "
            f"1000: the mean over {SUBSETS} subsets of {subset_size:,}, with the standard deviation over them. It can be a "
            "little below 0."
        )

    def check(self, planned: Planned) -> None:
        """See `Metric`."""
        from rece_pack.rece_ops import InputError

        own = _kept_pictures(planned, self.name)
        fewest = min(own, self._reference.count(own))
        if not 2 <= self._size <= fewest:
            raise InputError(
                f"KID draws subsets of {self._size:,} pictures, and one side has {fewest:,}: raise --count, or give "
                f"--kid-subset-size from 2 to {fewest:,}."
            )

    def of(self, results: Results, erasure: str, unedited: str, columns: Columns) -> Found:
        """See `Metric`."""
        return _compared(self._reference, results, erasure, unedited, columns, KID, self._distance)

    def _distance(self, own: Tensor, other: Tensor) -> Measured:
        mean, deviation = kernel_distance(own, other, self._size)
        return Measured(KID, 1000 * mean, 1000 * deviation, len(own), len(other), digits=2)


def frechet_distance(own: Tensor, other: Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) of features [n, d] and [m, d], by torch-fidelity's functions in float64."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(one.double()) for one in (own, other)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def kernel_distance(own: Tensor, other: Tensor, subset_size: int) -> tuple[float, float]:
    """The unbiased squared MMD under the kernel (xᵀy/d + 1)³, by torch-fidelity: its mean and deviation over subsets.

    Args:
        own, other: features [n, d] and [m, d].
        subset_size: of the subsets, which are drawn from both with a fixed seed.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    found = kid_features_to_metric(
        own.double(), other.double(), kid_subsets=SUBSETS, kid_subset_size=subset_size, verbose=False
    )
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD])


def _kept_pictures(planned: Planned, name: str) -> int:
    from rece_pack.rece_ops import InputError

    count = planned.pictures(planned.columns.kept)
    if not count:
        raise InputError(f"The metric {name} is of prompts that should stay: give some with --keep.")
    return count


def _compared(
    reference: Reference,
    results: Results,
    erasure: str,
    unedited: str,
    columns: Columns,
    head: str,
    distance: Callable[[Tensor, Tensor], Measured],
) -> Found:
    if reference.folder is None and erasure == unedited:
        return Found((Measured(head, None),))
    own, other = (
        reference.of_erasure(results, erasure, columns),
        reference.of_reference(results, unedited, columns),
    )
    return Found((distance(own, other),))
