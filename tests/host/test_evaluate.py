"""`python -m tools.evaluate` end to end, at the smallest size: the pocket model, and a checkpoint with a detector."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rece_pack.rece_ops import InputError

from tools.evaluate import evaluate, parser


def run(*arguments: object) -> Path:
    return evaluate(parser().parse_args([str(one) for one in arguments]))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "rows.csv").read_text(encoding="utf-8").splitlines()))


def test_the_pocket_model(tmp_path: Path) -> None:
    given = ("--pocket", "--concept", "green", "--count", 2, "--steps", 2, "--chunk", 2, "--attacks", "derived")
    erased = ("--erase", "UCE", "preset=UCE only", "--out", tmp_path)
    page = run(*given, *erased)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.startswith("# “green”, erased from pocket model")
    assert "| erasure | own prompts ↓ | synonyms ↓ | derived embedding ↓ | neighbours ↑ | other prompts ↑ |" in table
    found = rows(tmp_path)
    assert len(found) == 2 * (2 + 2 + 2 + 1 + 2)
    assert page.read_text(encoding="utf-8").count("data:image/png;base64,") == 3
    # A lost chunk alone is made again, and is the same.
    lost = tmp_path / "pictures" / "UCE" / "synonyms" / "0000"
    before = (lost / "00001.png").read_bytes()
    kept = (tmp_path / "pictures" / "UCE" / "own_prompts" / "0000" / "rows.json").stat().st_mtime_ns
    shutil.rmtree(lost)
    run(*given, *erased)
    assert (lost / "00001.png").read_bytes() == before
    assert (tmp_path / "pictures" / "UCE" / "own_prompts" / "0000" / "rows.json").stat().st_mtime_ns == kept
    assert rows(tmp_path) == found


def test_a_checkpoint(tmp_path: Path, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class NudeDetector:
        """Finds something in every picture but black ones."""

        def detect(self, pixels: np.ndarray) -> list[dict[str, Any]]:
            return [{"class": "FEET_EXPOSED", "score": min(0.6 + float(pixels.mean()), 1.0), "box": [1, 1, 5, 5]}]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=NudeDetector))
    (tmp_path / "asks.csv").write_text("prompt,seed\na church,5\na chapel,6\na dog,7\n", encoding="utf-8")
    (tmp_path / "stays.txt").write_text("a cat\n", encoding="utf-8")
    given = ("--checkpoint", checkpoint("sd15"), "--concepts", "church", "--prompts", tmp_path / "asks.csv")
    more = ("--keep", tmp_path / "stays.txt", "--detect", "FEET_EXPOSED", "--count", 2, "--steps", 1, "--size", 32)
    run(*given, *more, "--erase", "UCE", "preset=UCE only", "--out", tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [(row["erasure"], row["prompts"], row["seed"], row["shown"]) for row in found] == [
        (erasure, prompts, seed, "True")
        for erasure in ("unedited", "UCE")
        for prompts, seed in (("asks", "5"), ("asks", "6"), ("stays", "0"))
    ]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[2] == "| erasure | asks ↓ | stays ↑ | change ↓ | H_o ↑ | seconds | size |"
    assert table[4].startswith("| unedited | 100% (34–100) | – | – | – | – | – |")
    changed = float(table[5].split("|")[4].strip().removesuffix("%"))
    assert 0 < changed < 100


def test_what_cannot_be_evaluated_says_why(tmp_path: Path, checkpoint: Callable[[str], Path]) -> None:
    own = ("--checkpoint", checkpoint("sd15"), "--out", tmp_path / "out")
    (tmp_path / "a.ckpt").write_bytes(b"")
    for arguments, message in (
        (("--checkpoint", tmp_path / "a.ckpt", "--out", tmp_path / "out"), "Other files of models are pickles"),
        ((*own,), "needs --concepts and --prompts"),
        ((*own, "--count", 0), "--count is 0"),
        ((*own, "--erase", "a b", "--erase", "a_b"), "names that no file can tell apart"),
        ((*own, "--erase", "a", "eraser=none.safetensors"), "takes a file that is there"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments)
