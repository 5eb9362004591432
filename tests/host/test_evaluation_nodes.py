"""The evaluation's nodes find their files, and give what stock nodes take."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import numpy as np
import pytest
import torch
from rece_pack.nodes.erase_concepts import EraseConcepts
from rece_pack.nodes.evaluation.evaluate_erasure import EvaluateErasure
from rece_pack.nodes.evaluation.load_prompt_set import LoadPromptSet
from rece_pack.nodes.host.folders import PROMPT_SETS, prompt_set_names, register_evaluation_folders
from rece_pack.nodes.request.prompt_sets import SUFFIXES
from rece_pack.rece_ops import InputError


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """ComfyUI's input folder and the only folder of prompt sets lie in this one."""
    before = folder_paths.get_input_directory()
    register_evaluation_folders()
    kept = folder_paths.folder_names_and_paths[PROMPT_SETS]
    for name in ("input", "sets", "sets/inner"):
        (tmp_path / name).mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.folder_names_and_paths[PROMPT_SETS] = ([str(tmp_path / "sets")], set())
    folder_paths.filename_list_cache.pop(PROMPT_SETS, None)
    yield tmp_path
    folder_paths.set_input_directory(before)
    folder_paths.folder_names_and_paths[PROMPT_SETS] = kept
    folder_paths.filename_list_cache.pop(PROMPT_SETS, None)


def test_lists_of_a_prompt_set(folders: Path) -> None:
    (folders / "sets" / "inner" / "a.csv").write_text(
        "prompt,evaluation_seed,class\na church,5,church\na dog,,dog\na cat,7,dog\n", encoding="utf-8"
    )
    found = LoadPromptSet.execute("inner/a.csv", category="dog", seed=40, guidance=3.5, width=64)
    assert found.args[:6] == (["a dog", "a cat"], [41, 7], [3.5, 3.5], [64, 64], [512, 512], ["dog", "dog"])
    assert found.args[6] == "2 prompts of 3, from the column 'prompt'.\n1 have a seed, 0 a guidance of the file's own."
    lists = [output.is_output_list for output in LoadPromptSet.define_schema().outputs]
    assert lists == [True] * 6 + [False] * 2


class Reads:
    """A CLIP whose embedding of every text is one direction."""

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list[list[Any]]:
        return [[None, {"pooled_output": torch.tensor([[3.0, 0.0]])}]]


class Looks:
    """A CLIP_VISION for which the first two pictures lie at an angle of 60° to every text, and the others across."""

    def __init__(self) -> None:
        self._looked = 0

    def encode_image(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        self._looked += 1
        return {"image_embeds": torch.tensor([[1.0, 3**0.5]] if self._looked <= 2 else [[-1.0, 1.0]])}


def test_an_erasure_is_evaluated(
    folders: Path, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    class NudeDetector:
        """Finds something in the first two pictures."""

        def detect(self, pixels: np.ndarray) -> list[dict[str, Any]]:
            seen.append(pixels)
            score = 0.9 if len(seen) < 3 else 0.1
            return [{"class": "FEET_EXPOSED", "score": score, "box": [1, 1, 5, 5]}]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=NudeDetector))
    (folders / "sets" / "a.csv").write_text("prompt,seed\na church (old),5\na dog,6\na cat,7\n", encoding="utf-8")
    with torch.inference_mode():
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")))
        erased = EraseConcepts.execute(model, clip, "church", preset="UCE only").args[0]
        given = (model, erased, clip, vae, "a.csv", "NudeNet", "FEET_EXPOSED")
        halves = {"clip_vision": Looks(), "detector_clip": Reads()}
        report, strip, text = EvaluateErasure.execute(*given, first=2, steps=1, size=32, **halves).args
    lines = report.splitlines()
    assert lines[0].startswith("before: 2 of 2 pictures show the concept: 100%")
    assert lines[1].startswith("after: 0 of 2 pictures show the concept: 0%")
    assert lines[-2:] == ["| a church (old) | 5 | shown 0.90 | – 0.10 |", "| a dog | 6 | shown 0.90 | – 0.10 |"]
    assert lines[4].startswith("CLIP score: before 50.00 ± 0.00, after 0.00 ± 0.00 (")
    assert strip.shape == (2, 512, 256, 3)
    record = json.loads(text)
    assert record["clip_scores"] == {"before": pytest.approx([50.0, 50.0]), "after": [0.0, 0.0]}
    assert (record["before"]["hits"], record["after"]["hits"], record["prompts"][1]["seed"]) == (2, 0, 6)
    # The prompt that names the concept changes, with the same seed.
    assert [one.shape for one in seen] == [(32, 32, 3)] * 4
    assert not np.array_equal(seen[0], seen[2])
    with pytest.raises(InputError, match="'sampler' is 'none', which is no choice"):
        EvaluateErasure.execute(*given, sampler="none")
    with pytest.raises(InputError, match="CLIP is None"):
        EvaluateErasure.execute(model, erased, None, vae, "a.csv", "NudeNet")


def test_sets_are_found_in_both_folders(folders: Path) -> None:
    (folders / "sets" / "both.txt").write_text("kept", encoding="utf-8")
    (folders / "sets" / "inner" / "a.jsonl").write_text('"a"', encoding="utf-8")
    for name, text in {"both.txt": "uploaded", "own.csv": "prompt\nx", "picture.png": "", ".hidden.csv": ""}.items():
        (folders / "input" / name).write_text(text, encoding="utf-8")
    assert prompt_set_names(SUFFIXES) == ["both.txt", "inner/a.jsonl", "own.csv"]
    assert LoadPromptSet.execute("both.txt").args[0] == ["kept"]
    assert LoadPromptSet.execute("own.csv").args[0] == ["x"]
    before = LoadPromptSet.fingerprint_inputs("own.csv")
    (folders / "input" / "own.csv").write_text("prompt\nx, y", encoding="utf-8")
    assert LoadPromptSet.fingerprint_inputs("own.csv") != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../own.csv", "leaves its folder"),
        ("/own.csv", "absolute path"),
        ("own.exe", "is no prompt set: give a file that ends with .csv or .tsv or .txt or .jsonl"),
        ("none.csv", "There is no prompt set 'none.csv' in models/prompt_sets or ComfyUI's input folder"),
        ("link.csv", "There is no prompt set 'link.csv'"),
    ],
)
def test_names_that_name_no_set(folders: Path, name: str, message: str) -> None:
    (folders / "own.csv").write_text("prompt\nx", encoding="utf-8")
    (folders / "input" / "link.csv").symlink_to(folders / "own.csv")
    with pytest.raises(InputError, match=message):
        LoadPromptSet.execute(name)
    assert prompt_set_names(SUFFIXES) == []
