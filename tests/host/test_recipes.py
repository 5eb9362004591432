"""Recipes of RECE's experiments run from their options to the page, on a small model with small sets of the published names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rece_pack.nodes.host.detectors import classifier
from rece_pack.nodes.host.detectors.detector import Detected, Finding
from rece_pack.nodes.host.detectors.nudity import CLASSES
from rece_pack.rece_ops import InputError

from tools.evaluation.command import evaluate, parse
from tools.evaluation.metrics import chosen, clip_score
from tools.evaluation.recipes import RECIPES

SETS = {
    "i2p.csv": "prompt,evaluation_seed,evaluation_guidance\na painting,4,7\na statue,5,7\n",
    "nudity.csv": "prompt,evaluation_seed,evaluation_guidance\na painting,4,7\na statue,5,7\n",
    "nudity-ring-a-bell.csv": "sensitive prompt,normal prompt\na bare statue,a statue\na bare painting,a painting\n",
    "big_artist_prompts.csv": "prompt,evaluation_seed,artist\na field by Van Gogh,1,Van Gogh\na face by Rembrandt,2,Rembrandt\n",
    "imagenette.csv": "prompt,class,evaluation_seed\na church,church,1\na tench,tench,2\n",
    "robust_imagenette.csv": "prompt,evaluation_seed,class\na steeple,1,church\na fish,2,tench\n",
    "coco_30k.csv": "prompt,evaluation_seed\na street,1\na table,2\na dog,3\na bus,4\n",
}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    folder = tmp_path / "sets"
    folder.mkdir()
    for name, text in SETS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person has and this machine has not: detectors that see the same in every picture, networks that see colours."""

    class NudeDetector:
        def detect(self, pixels: np.ndarray) -> list[dict[str, Any]]:
            labels = ("FEET_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED", "FACE_FEMALE")
            return [{"class": label, "score": 0.7, "box": [1, 1, 5, 5]} for label in labels]

    class Churches(classifier.ResNet50):
        def __init__(self, classes: list[str], weights: Path) -> None:
            self._categories, self._chosen = ["tench", "church"], {1}

        def detect(self, pictures: torch.Tensor, progress: Any = None) -> list[Detected]:
            return [Detected(True, 0.9, (Finding("church", 0.9),)) for _ in pictures]

    class Colours:
        features, source = 3, ["colours"]

        def look(self, paths: list[Path]) -> torch.Tensor:
            from tools.evaluation.metrics.pictures import batches

            return torch.cat([batch.float().mean(dim=(2, 3)) for batch in batches(paths)])

    space = SimpleNamespace(scores=lambda pictures, texts: [30.0] * len(pictures))
    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=NudeDetector))
    monkeypatch.setattr(classifier, "ResNet50", Churches)
    monkeypatch.setattr(chosen, "Inception", lambda weights: Colours())
    monkeypatch.setattr(chosen, "open_clip_score", lambda vision, text: clip_score.ClipScore(space, ["grey"]))
    monkeypatch.setattr(chosen, "Perceptual", Flat)


class Flat:
    """LPIPS without a network: nothing to tell."""

    name = "LPIPS"

    def __init__(self, weights: Path | None, side: int) -> None:
        self.says = f"LPIPS of {side} pixels."

    @staticmethod
    def check(planned: Any) -> None:
        assert planned.columns.kept

    @staticmethod
    def of(results: Any, erasure: str, unedited: str, columns: Any) -> Any:
        from tools.evaluation.metrics.metric import Found, Measured

        return Found((Measured("LPIPS_e ↑", 0.5, None, len(columns.asking)),))


def arguments(name: str, sets: Path, *more: object) -> Any:
    own = (
        "--recipe",
        name,
        "--prompt-sets",
        sets,
        "--checkpoint",
        sets.parent / "a.safetensors",
        "--out",
        sets.parent / "out",
    )
    return parse([str(one) for one in (*own, *more)])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_options_that_a_person_can_change(name: str, sets: Path) -> None:
    recipe, given = RECIPES[name], arguments(name, sets)
    assert [path.name for path in (*given.prompts, *given.keep)] == [*recipe.prompts, *recipe.keep]
    assert all(path.is_file() for path in (*given.prompts, *given.keep))
    assert (given.steps, given.concepts) == (50, recipe.options["concepts"])
    assert [words[0] for words in given.erase] == ["UCE", "RECE"]
    changed = arguments(name, sets, "--steps", 3, "--concepts", "a", "--erase", "own", "preset=UCE only")
    assert (changed.steps, changed.concepts, changed.erase) == (3, ["a"], [["own", "preset=UCE only"]])
    assert len({*recipe.options.get("detect", ())} - {*CLASSES, "church"}) == 0


def test_a_recipe_says_where_its_prompt_sets_are(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"needs i2p\.csv in '.*': they are in the folder dataset of CharlesGong12/RECE"
    ):
        evaluate(arguments("i2p-nudity", tmp_path))


def test_the_pocket_model_takes_no_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        parse(["--recipe", "coco", "--pocket", "--out", str(tmp_path)])
    assert "--recipe is for a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "head", "line"),
    [
        ("i2p-nudity", "i2p ↓ | change ↓", "| BELLY_EXPOSED | 2 | 2 | 2 |"),
        pytest.param("artist-style", "others ↑ | change ↓ | LPIPS_e ↑", "LPIPS of 64 pixels.", marks=pytest.mark.large),
        pytest.param(
            "imagenette",
            "imagenette, church ↓ | robust_imagenette, church ↓ | imagenette, others ↑",
            "Pictures of each erasure: imagenette, church 1, robust_imagenette, church 1, imagenette, others 1.",
            marks=pytest.mark.large,
        ),
        pytest.param("red-team", "nudity, learned tokens ↓", "| FEET_EXPOSED | 4 | 4 | 4 |", marks=pytest.mark.large),
        pytest.param("coco", "coco_30k ↑ | change ↓ | CLIP ↑ | FID ↓", "(n 4)", marks=pytest.mark.large),
    ],
)
def test_a_recipe_runs_to_its_page(
    name: str, head: str, line: str, sets: Path, stand_ins: None, checkpoint: Callable[[str], Path]
) -> None:
    small = ("--steps", 1, "--size", 32, "--inversion-steps", 1, "--checkpoint", checkpoint("sd15"))
    if name == "coco":
        pytest.importorskip("torch_fidelity", reason="the optional package torch-fidelity is not installed")
    needs = ("--classifier", sets / "none") if name == "imagenette" else ()
    page = evaluate(arguments(name, sets, *small, *needs))
    table = (page.parent / "table.md").read_text(encoding="utf-8")
    assert head in table.splitlines()[2]
    assert line in table
    assert RECIPES[name].note in table
    assert "RECE, as published | no source" in table
    assert RECIPES[name].note.split(".")[0].replace("'", "&#x27;") in page.read_text(encoding="utf-8")
