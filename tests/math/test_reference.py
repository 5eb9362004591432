"""Exactness against the outputs of the authors' own code."""

from __future__ import annotations

from pathlib import Path

import pytest
from rece_pack.rece_ops import ConceptPair, Erasure, RECESettings, erase
from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "reference"
# The agreement that the reference's README asks for; float64 on both sides.
TOLERANCE = 1e-7


class Reference:
    """One reference file: inputs, settings and outputs."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as reader:
            self.metadata = reader.metadata()
            self.tensors: dict[str, Tensor] = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118
        self.names = self.metadata["concepts"].split("|")
        self.original = self.group("original/")

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def erased(self, epoch: int) -> dict[str, Tensor]:
        return self.group("uce/" if epoch == 0 else f"rece/{epoch - 1}/")

    def run(self) -> Erasure:
        pairs = [
            ConceptPair(
                name,
                self.tensors[f"concept/{i}"],
                self.tensors[f"target/{i}"],
                *self.tensors[f"last_subject/{i}"].tolist(),
            )
            for i, name in enumerate(self.names)
        ]
        settings = RECESettings(
            epochs=int(self.metadata["epochs"]),
            regularization=float(self.metadata["regularization"]),
            edit_regularization=float(self.metadata["lambda_"]),
            erase_scale=float(self.metadata["erase_scale"]),
            preserve_scale=float(self.metadata["preserve_scale"]),
        )
        return erase(
            self.original,
            pairs,
            list(self.group("uce_retain/").values()),
            settings,
            epoch_preserve=list(self.group("rece_retain/").values()),
        )


@pytest.fixture(scope="module", params=sorted(FOLDER.glob("*.safetensors")), ids=lambda path: path.stem)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


@pytest.fixture(scope="module")
def erasure(reference: Reference) -> Erasure:
    return reference.run()


def test_every_weight_changes_as_in_the_authors_code(reference: Reference, erasure: Erasure) -> None:
    for epoch in range(len(erasure.epochs) + 1):
        eraser = erasure.eraser_at(epoch)
        expected = reference.erased(epoch)
        assert expected.keys() == reference.original.keys()
        for name, weight in reference.original.items():
            change = (expected[name] - weight).norm()
            error = (eraser.apply_to_weight(weight) - expected[name]).norm() / change
            assert error < TOLERANCE, (epoch, name)


def test_derived_embeddings_are_the_authors(reference: Reference, erasure: Erasure) -> None:
    assert len(erasure.epochs) == int(reference.metadata["epochs"])
    for number, epoch in enumerate(erasure.epochs):
        for index, derived in enumerate(epoch.derived):
            expected = reference.tensors[f"derived/{number}/{index}"]
            assert (derived - expected).norm() / expected.norm() < TOLERANCE
