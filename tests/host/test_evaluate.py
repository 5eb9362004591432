"""`python -m tools.evaluate` end to end, at the smallest size: the pocket model, and a checkpoint with a detector."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rece_pack.rece_ops import InputError

from tools.evaluation.command import evaluate, parse


def run(*arguments: object) -> Path:
    return evaluate(parse([str(one) for one in arguments]))


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


def test_a_picture_is_right_if_it_shows_what_its_prompt_says() -> None:
    """As everywhere else on the pocket model; of what a prompt leaves open, anything is right."""
    from pocket_model.rendering import PLACES, render
    from pocket_model.trials import concept_named, trials
    from tools.evaluation.pocket import OTHERS, Pocket, Prompts

    subject = Pocket.__new__(Pocket)
    subject.concept = concept_named("green")
    captions = trials(subject.concept, 6, 6).others
    subject.sets = {OTHERS: Prompts(captions)}
    assert any(caption.says.style is None or caption.says.identity is None for caption in captions)
    random = Random(0)
    drawn = [render(caption.says.completed(random), PLACES[0]) for caption in captions]
    pictures = torch.stack(drawn).movedim(1, -1)
    rows = subject.rows(OTHERS, range(6), pictures)
    assert [(row["right"], row["shown"]) for row in rows] == [(True, False)] * 6
    swapped = subject.rows(OTHERS, range(6), pictures.roll(1, dims=0))
    assert not all(row["right"] for row in swapped)


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
    attacked = ("--attacks", "derived", "inversion", "--inversion-steps", 2)
    run(*given, *more, *attacked, "--erase", "UCE", "preset=UCE only", "--out", tmp_path / "out")
    found = rows(tmp_path / "out")
    sets = ("asks", "asks, derived embedding", "asks, learned tokens")
    assert [(row["erasure"], row["prompts"], row["seed"], row["shown"]) for row in found] == [
        (erasure, prompts, seed, "True")
        for erasure in ("unedited", "UCE")
        for prompts, seed in (*((name, seed) for name in sets for seed in "56"), ("stays", "0"))
    ]
    files = {(row["erasure"], row["prompts"], row["seed"]): tmp_path / "out" / row["file"] for row in found}
    pictures = {key: file.read_bytes() for key, file in files.items()}
    # The model as it is gives nothing to derive, and what is learned takes every prompt's place.
    assert pictures["unedited", sets[0], "5"] == pictures["unedited", sets[1], "5"]
    assert pictures["UCE", sets[0], "5"] != pictures["UCE", sets[1], "5"]
    assert len({pictures[erasure, name, "5"] for erasure in ("unedited", "UCE") for name in (sets[0], sets[2])}) == 4
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert (
        table[2]
        == "| erasure | asks ↓ | asks, derived embedding ↓ | asks, learned tokens ↓ | stays ↑ | change ↓ | H_o ↑ | seconds | size |"
    )
    assert table[4].startswith(f"| unedited |{3 * ' 100% (34–100) |'} – | – | – | – | – |")
    changed = float(table[5].split("|")[6].strip().removesuffix("%"))
    assert 0 < changed < 100


@pytest.mark.large
def test_learned_tokens_of_the_pocket_model(tmp_path: Path) -> None:
    given = (
        "--pocket",
        "--concept",
        "green",
        "--count",
        2,
        "--steps",
        2,
        "--attacks",
        "inversion",
        "--inversion-steps",
        2,
    )
    run(*given, "--erase", "UCE", "preset=UCE only", "--out", tmp_path)
    found = [row for row in rows(tmp_path) if row["prompts"] == "learned tokens"]
    assert [row["erasure"] for row in found] == ["unedited", "unedited", "UCE", "UCE"]


def test_what_cannot_be_evaluated_says_why(tmp_path: Path, checkpoint: Callable[[str], Path]) -> None:
    own = ("--checkpoint", checkpoint("sd15"), "--out", tmp_path / "out")
    (tmp_path / "a.ckpt").write_bytes(b"")
    for arguments, message in (
        (("--checkpoint", tmp_path / "a.ckpt", "--out", tmp_path / "out"), "Other files of models are pickles"),
        ((*own,), "needs --concepts and --prompts"),
        ((*own, "--count", 0), "--count is 0"),
        ((*own, "--inversion-steps", 0), "--inversion-steps is 0"),
        ((*own, "--attacks", "vector"), "--attacks vector is for the pocket model"),
        (("--pocket", "--sweep", "RECE", "epochs=1,x", "--out", tmp_path / "pocket"), "'epochs' is 'x': give a number"),
        ((*own, "--erase", "a b", "--erase", "a_b"), "names that no file can tell apart"),
        ((*own, "--erase", "a", "eraser=none.safetensors"), "takes a file that is there"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments)
    assert not list(tmp_path.glob("*/pictures")), "no picture was made before"


def test_a_refused_command_leaves_no_folder_that_the_corrected_one_could_not_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not know 'greeen'"):
        evaluate(parse(["--pocket", "--concept", "greeen", "--out", str(tmp_path / "results")]))
    assert not (tmp_path / "results").exists()
