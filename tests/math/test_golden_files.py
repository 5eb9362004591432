"""Files that older versions of the pack wrote are read unchanged, for ever; see tests/golden/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rece_pack.rece_ops import WHOLE, EraserSet, Schedule, Shape
from rece_pack.rece_ops.formats.eraser_file import NO_DIGEST_NOTE

SETTINGS = {
    "anchored": False,
    "edit_regularization": 0.1,
    "epochs": 2,
    "erase_scale": 1.0,
    "preserve_scale": 0.1,
    "regularization": 0.1,
}


def numbers(rows: int, columns: int, start: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return ((torch.arange(start, start + rows * columns) % 37 - 18) / 64).reshape(rows, columns).to(dtype)


def told(concepts: list[str], targets: list[str], weights: list[float], **more: Any) -> dict[str, Any]:
    return {
        "method": "RECE",
        "concepts": concepts,
        "targets": targets,
        "weights": weights,
        "embeddings": 0,
        "preserve": ["a dog", "Café"],
        "templates": "none",
        "preserve_exactly": False,
        "settings": SETTINGS,
        "fronts": [],
        "pack_version": "0.1.0",
        **more,
    }


PLAIN = told(["nudity", "Van Gogh"], ["", "art"], [1.0, 0.5], architecture="SD1", dimensions={"text": 16})
GUN = told(["gun"], [""], [1.0], architecture="SD1", dimensions={"text": 16})
PROVENANCE = {
    "plain": PLAIN,
    "dense": told(["church"], [""], [1.0], architecture="SD2", dimensions={"text": 8}),
    "streams": told(["a hat"], [""], [1.0], architecture="SDXL", dimensions={"text": 16, "pooled": 6}, fronts=["text"]),
    "combined": {
        "method": "combined",
        "parts": [{**PLAIN, "strength": 0.5}, {**GUN, "strength": 1.0}],
        "architecture": "SD1",
        "fronts": [],
        "pack_version": "0.1.0",
    },
}


@pytest.fixture
def golden(root: Path) -> dict[str, EraserSet]:
    return {name: EraserSet.load(root / "tests" / "golden" / f"{name}.safetensors") for name in PROVENANCE}


def test_their_provenance_is_what_was_written(golden: dict[str, EraserSet]) -> None:
    assert {name: eraser.metadata for name, eraser in golden.items()} == PROVENANCE


def test_their_numbers_are_what_was_written(golden: dict[str, EraserSet]) -> None:
    plain, text, pooled = golden["plain"]["text"], golden["streams"]["text"], golden["streams"]["pooled"]
    assert torch.equal(plain.left, numbers(16, 2, 0))
    assert torch.equal(plain.right, numbers(2, 16, 5))
    assert torch.equal(text.left, numbers(16, 3, 1))
    assert torch.equal(text.right, numbers(3, 16, 2))
    assert torch.equal(pooled.left, numbers(6, 2, 4))
    assert torch.equal(pooled.right, numbers(2, 6, 7))
    dense = golden["dense"]["text"]
    assert dense.is_dense
    assert torch.equal(dense.difference(), numbers(8, 8, 3, torch.float64))
    combined = golden["combined"]["text"]
    # The first factors are exact; the others were moved by a product that each machine rounds in its own way.
    assert torch.equal(combined.left[:, :2], numbers(16, 2, 0) * 0.5)
    assert torch.equal(combined.right, torch.cat([numbers(2, 16, 5), numbers(1, 16, 11)]))


def test_they_come_with_a_note_until_they_are_saved_again(golden: dict[str, EraserSet], tmp_path: Path) -> None:
    for name, eraser in golden.items():
        assert eraser.notes == (NO_DIGEST_NOTE,)
        again = EraserSet.load(eraser.save(tmp_path / f"{name}.safetensors"))
        assert again.notes == ()
        assert again.metadata == eraser.metadata
        assert all(torch.equal(again[stream].left, eraser[stream].left) for stream in eraser)


def test_a_sparse_change_is_what_was_written(root: Path, tmp_path: Path) -> None:
    eraser = EraserSet.load(root / "tests" / "golden" / "sparse.safetensors")
    assert eraser.notes == ()
    assert eraser.metadata == {
        "method": "pruned",
        "concepts": ["church"],
        "targets": ["house"],
        "weights": [1.0],
        "architecture": "SD1",
        "pack_version": "0.1.0",
    }
    (change,) = eraser.sparse_changes.values()
    expected = {"b.weight": ((4, 6), [0, 7, 23], 20, 3), "a.weight": ((2, 3), [5], 30, 9)}
    assert list(change.changes) == list(expected)
    for key, (shape, places, removed, added) in expected.items():
        found, count = change.changes[key], len(places)
        assert (found.shape, found.places.tolist()) == (shape, places)
        assert torch.equal(found.removed, numbers(1, count, removed)[0])
        assert torch.equal(found.added, numbers(1, count, added)[0])


def test_adapters_are_what_was_written(root: Path) -> None:
    eraser = EraserSet.load(root / "tests" / "golden" / "adapters.safetensors")
    assert eraser.notes == ()
    assert eraser.metadata == {
        "method": "Receler (as described)",
        "concepts": ["church"],
        "targets": [""],
        "weights": [1.0],
        "architecture": "SD1",
        "pack_version": "0.1.0",
    }
    found = eraser.adapters["adapters"].adapters
    output, middle = (
        f"diffusion_model.{block}.1.transformer_blocks.0.attn2" for block in ("output_blocks.3", "middle_block")
    )
    expected: dict[str, list[Any]] = {
        output: [numbers(2, 4, 1), numbers(1, 2, 8)[0], numbers(4, 2, 3), numbers(1, 4, 20)[0]],
        middle: [numbers(1, 3, 5), numbers(1, 1, 30)[0], numbers(3, 1, 11), numbers(1, 3, 2)[0]],
    }
    assert list(found) == list(expected)
    for layer, tensors in expected.items():
        dtype = torch.float16 if layer == middle else torch.float32
        assert all(map(torch.equal, found[layer], (tensor.to(dtype) for tensor in tensors)))


LATER: dict[str, Any] = {
    "method": "RECE",
    "concepts": ["nudity"],
    "targets": ["art"],
    "weights": [1.0],
    "architecture": "SD1",
    "dimensions": {"text": 16},
    "fronts": [],
    "pack_version": "0.1.0",
}


def test_files_of_version_2_and_3_are_what_was_written(root: Path) -> None:
    trained, shaped = (
        EraserSet.load(root / "tests" / "golden" / f"{name}.safetensors") for name in ("trained", "shaped")
    )
    for eraser in (trained, shaped):
        assert eraser.notes == ()
        assert eraser.metadata == LATER
        text = eraser.transforms["text"]
        assert torch.equal(text.left, numbers(16, 2, 0))
        assert torch.equal(text.right, numbers(2, 16, 5))
    ((key, change),) = trained.weight_changes["trained"].changes.items()
    assert key == "diffusion_model.out.2.weight"
    assert torch.equal(change.up, numbers(4, 2, 3))
    assert torch.equal(change.down, numbers(2, 9, 6))
    assert trained.shape == WHOLE
    assert shaped.shape == Shape(
        {"input": 0.0, "output 3": 0.5},
        keys=0.25,
        others=0.5,
        schedule=Schedule(((0.0, 0.0), (0.5, 1.0), (0.75, 0.5))),
    )
