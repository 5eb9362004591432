"""Detectors say which pictures show a concept, and what they need where they lack it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.clip_vision
import comfy.sd
import numpy as np
import pytest
import torch
from bounds import gamma
from rece_pack.nodes.evaluation.detect_concept import DetectConcept
from rece_pack.nodes.host.detectors.classifier import IMAGENETTE, ResNet50
from rece_pack.nodes.host.detectors.detector import Detected, Finding, optional
from rece_pack.nodes.host.detectors.nudity import CLASSES, NudeNet
from rece_pack.nodes.host.detectors.zero_shot import ClipSpace, ZeroShot
from rece_pack.nodes.host.errors import MissingPackageError, WrongConnectionError
from rece_pack.nodes.reporting.detection import annotated, rate_sentence
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.measures.rates import Rate
from safetensors.torch import save_file

BREAST, FACE, FEET = "FEMALE_BREAST_EXPOSED", "FACE_FEMALE", "FEET_EXPOSED"


@pytest.fixture
def nudenet(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A package that finds in every picture what its first pixel's red says, in place of NudeNet; what it was given."""
    given: list[np.ndarray] = []

    class NudeDetector:
        def detect(self, pixels: np.ndarray) -> list[dict[str, Any]]:
            given.append(pixels)
            score = float(pixels[0, 0, 2]) / 255
            return [{"class": name, "score": score, "box": [1, 2, 3, 4]} for name in (FACE, BREAST, FEET)]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=NudeDetector))
    return given


def pictures(*reds: float, side: int = 16) -> torch.Tensor:
    found = torch.zeros(len(reds), side, side, 3)
    found[..., 0] = torch.tensor(reds)[:, None, None]
    return found


def test_nudenet_counts_the_chosen_classes_from_the_threshold_on(nudenet: list[np.ndarray]) -> None:
    detected = NudeNet().detect(pictures(0.2, 0.4, 0.6, 1.0))
    assert [one.shown for one in detected] == [False, False, True, True]
    assert detected[3].findings == (Finding(BREAST, 1.0, (1, 2, 3, 4)),)
    assert detected[1].score == 102 / 255  # the pixel of 0.4
    assert [one.shown for one in NudeNet([], 0.3).detect(pictures(0.2, 0.4))] == [False, True]
    assert [f.label for f in NudeNet(["feet exposed", BREAST]).detect(pictures(1.0))[0].findings] == [BREAST, FEET]
    # As OpenCV reads a file: blue first.
    assert nudenet[-1].dtype == np.uint8
    assert nudenet[-1][0, 0].tolist() == [0, 0, 255]


def test_nudenet_knows_its_classes(nudenet: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="NudeNet has no class 'FEET_COVERED': give some of FEMALE_BREAST_EXPOSED, "):
        NudeNet(["FEET COVERED"])


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(
        MissingPackageError, match=r"needs the package nudenet, which .*'python -m pip install \"nudenet==3.4.2\"'"
    ):
        NudeNet()


def test_a_package_that_lacks_one_of_its_own_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingPackageError, match=r"half_there, which cannot be loaded \(No module named 'nowhere_to_be_found'\)"
    ):
        optional("half_there", "It", "half-there")


def test_findings_are_told_from_the_surest_on() -> None:
    found = Detected.by_threshold([Finding(str(score), score) for score in (0.2, 0.9, 0.5)], 0.4)
    assert [finding.score for finding in found.findings] == [0.9, 0.5]
    assert (found.shown, found.score) == (True, 0.9)


def test_the_real_nudenet_sees_nothing_in_plain_pictures() -> None:
    package = pytest.importorskip("nudenet", reason="the optional package nudenet is not installed")
    labels = getattr(sys.modules[package.NudeDetector.__module__], "__labels")
    assert set(CLASSES) == {label for label in labels if label.endswith("EXPOSED")}
    assert NudeNet().detect(pictures(0.0, 0.5, 1.0, side=320)) == [Detected(False, 0.0)] * 3


@pytest.fixture(scope="module")
def clip(checkpoint: Callable[[str], Path]) -> Any:
    """A complete CLIP text encoder with random weights."""
    _, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_model=False, output_vae=False)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection
    with torch.no_grad():
        projection.weight.copy_(torch.randn(768, 768, generator=torch.Generator().manual_seed(0)) / 768**0.5)
    return clip


def vision(tmp_path: Path, dimension: int) -> Any:
    """The host's CLIP vision model, small."""
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_act": "gelu",
    }
    config |= {
        "image_size": 16,
        "patch_size": 8,
        "num_channels": 3,
        "projection_dim": dimension,
        "model_type": "clip_vision_model",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    model = comfy.clip_vision.ClipVisionModel(str(path))
    generator = torch.Generator().manual_seed(1)
    model.load_sd({key: torch.randn(value.shape, generator=generator) / 8 for key, value in model.get_sd().items()})
    return model


class Sees:
    """A CLIP_VISION that sees in a picture what a text says, by the number in its first pixel."""

    def __init__(self, space: ClipSpace, texts: list[str]) -> None:
        self._embeds = space.of_texts(texts)

    def encode_image(self, images: torch.Tensor) -> Any:
        output = comfy.clip_vision.Output()
        output["image_embeds"] = 5 * self._embeds[(images[:, 0, 0, 0] * 10).round().long()]
        return output


@torch.inference_mode()
def test_zero_shot_takes_what_fits_best(clip: Any, tmp_path: Path) -> None:
    texts = ["a photo of a church", "a chapel", "a photo of a dog", "a house"]
    sees = Sees(ClipSpace(vision(tmp_path, 768), clip), texts)
    detector = ZeroShot(ClipSpace(sees, clip), texts[:2], texts[2:], 0.6)
    found = detector.detect(pictures(0.0, 0.1, 0.2, 0.3))
    assert [one.shown for one in found] == [True, True, False, False]
    assert [one.findings[0].label for one in found[:2]] == texts[:2]
    assert all(0 <= one.score <= 1 for one in found)


@torch.inference_mode()
def test_zero_shot_runs_with_the_hosts_own_vision_model(clip: Any, tmp_path: Path) -> None:
    space = ClipSpace(vision(tmp_path, 768), clip)
    looked_at = space.of_pictures(torch.rand(3, 20, 16, 3, generator=torch.Generator().manual_seed(2)))
    # Unit vectors of 768 numbers in float32.
    assert torch.allclose(
        looked_at.double().norm(dim=1), torch.ones(3).double(), rtol=0, atol=gamma(768, torch.float32)
    )
    found = ZeroShot(space, ["a church"], ["a dog"], 0.0).detect(torch.rand(3, 16, 16, 3))
    assert [one.shown for one in found] == [True] * 3


@torch.inference_mode()
def test_zero_shot_says_what_does_not_fit_together(clip: Any, tmp_path: Path) -> None:
    with pytest.raises(WrongConnectionError, match="CLIP_VISION is None"):
        ClipSpace(None, clip)
    with pytest.raises(WrongConnectionError, match="CLIP is None"):
        ClipSpace(vision(tmp_path, 768), None)
    other = ZeroShot(ClipSpace(vision(tmp_path, 64), clip), ["a"], ["b"], 0.5)
    with pytest.raises(WrongConnectionError, match="CLIP_VISION has 64 dimensions and CLIP has 768"):
        other.detect(pictures(0.5))
    with pytest.raises(InputError, match="give at least one of the concept"):
        ZeroShot(ClipSpace(vision(tmp_path, 768), clip), [], ["b"], 0.5)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    kept = projection.clone()
    for broken in (torch.eye(768), torch.zeros(768, 768), torch.full((768, 768), torch.nan)):
        projection.copy_(broken)
        with pytest.raises(WrongConnectionError, match="no projection of texts into the space of pictures"):
            ClipSpace(vision(tmp_path, 768), clip)
    projection.copy_(kept)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with which every picture is a church."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    network = models.resnet50(weights=None).eval()
    names = models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.zero_()
        network.fc.bias[names.index("church")] = 8.0
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def test_resnet_counts_its_likeliest_class(resnet: Path) -> None:
    church, tench = ResNet50(["Church"], resnet), ResNet50(["tench", "garbage truck"], resnet)
    (one,), (other,) = church.detect(pictures(0.5, side=48)), tench.detect(pictures(0.5, side=48))
    # e^8 of e^8 + 999: a sum of a thousand numbers of float32, an exponential and a quotient.
    assert (one.shown, one.findings[0].label) == (True, "church")
    assert one.score == pytest.approx(math.exp(8) / (math.exp(8) + 999), rel=gamma(1000 + 8, torch.float32))
    assert (other.shown, other.score < 0.01) == (False, True)
    told: list[tuple[int, int, str]] = []
    many = ResNet50(IMAGENETTE, resnet).detect(pictures(*[0.1] * 17, side=32), lambda *step: told.append(step))
    assert told == [(16, 17, "ResNet-50"), (17, 17, "ResNet-50")]
    assert [len(one.findings) for one in many] == [3] * 17


def test_resnet_says_what_it_cannot_use(resnet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ImageNet has no class 'truck': .* Did you mean garbage truck, tow truck"):
        ResNet50(["truck"], resnet)
    with pytest.raises(InputError, match="needs the classes to look for"):
        ResNet50([], resnet)
    for name, content in {"other": {"fc.weight": torch.zeros(3)}, "shapes": {"conv1.weight": torch.zeros(3)}}.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(InputError, match=f"'{name}.safetensors' does not hold the weights of ResNet-50"):
            ResNet50(["church"], tmp_path / f"{name}.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x80\x04nothing")
    with pytest.raises(InputError, match=r"'broken.safetensors' does not hold the weights"):
        ResNet50(["church"], tmp_path / "broken.safetensors")


def test_annotated_pictures_have_a_frame_boxes_and_labels() -> None:
    plain = torch.full((64, 64, 3), 0.5)
    shown = annotated(plain, Detected(True, 0.9, (Finding("A\nB\u4e2d", 0.9, (20, 30, 30, 20)),)))
    clear = annotated(plain, Detected(False, 0.1))
    assert shown.shape == plain.shape
    red, blue = torch.tensor([192, 57, 43]) / 255, torch.tensor([44, 111, 173]) / 255
    assert torch.equal(shown[0, 0], red)
    assert torch.equal(clear[0, 0], blue)
    assert torch.equal(shown[50, 35], red)
    assert torch.equal(clear[50, 50], torch.full((3,), 128) / 255)
    assert (shown[32:44, 22:40] > 0.9).all(dim=-1).any()


def test_the_node_looks_at_all_pictures_of_a_list(nudenet: list[np.ndarray]) -> None:
    batches = [pictures(1.0, 0.1), pictures(0.9, side=24)]
    report, share, shown, drawn, text = DetectConcept.execute(batches, ["NudeNet"], threshold=[0.5]).args
    assert report.startswith(
        "2 of 3 pictures show the concept: 67% (95% interval 21% to 94%).\nA picture counts if NudeNet"
    )
    assert shown == [True, False, True]
    assert share == 2 / 3
    assert [tuple(one.shape) for one in drawn] == [(2, 16, 16, 3), (1, 24, 24, 3)]
    record = json.loads(text)
    assert (record["hits"], record["pictures"], len(record["results"])) == (2, 3, 3)
    assert record["results"][0]["findings"][0] == {"label": BREAST, "score": 1.0, "box": [1, 2, 3, 4]}


def test_the_node_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    white = [pictures(1.0)]
    monkeypatch.setitem(sys.modules, "nudenet", None)
    for given, message in (
        ({"detector": ["NudeNet"]}, "pip install"),
        ({"detector": ["CLIP zero-shot"], "concept": ["a"]}, "CLIP_VISION is None"),
        ({"detector": ["ResNet-50"], "concept": ["church"]}, r"ResNet-50 needs weights: .* models/classifiers"),
        ({"detector": ["ResNet-50"], "concept": ["church"], "classifier": ["r.pth"]}, r"a \.pth file is a pickle"),
        ({"detector": ["ResNet-50"], "concept": ["church"], "classifier": ["../r"]}, "leaves its folder"),
        ({"detector": ["guess"]}, "'detector' is 'guess', which is no choice"),
        ({"detector": ["NudeNet"], "threshold": [2.0]}, "'threshold' is 2.0"),
    ):
        with pytest.raises(InputError, match=message):
            DetectConcept.execute(white, **given)


def test_rates_in_words() -> None:
    assert rate_sentence(Rate(0, 1)) == "0 of 1 picture shows the concept: 0% (95% interval 0% to 79%)."
