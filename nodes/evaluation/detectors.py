"""The inputs that choose a detector, shared by the nodes that look at pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...rece_ops import InputError
from ..host.detectors.classifier import ResNet50
from ..host.detectors.detector import Detector
from ..host.detectors.nudity import DEFAULT_THRESHOLD, NudeNet
from ..host.detectors.zero_shot import ClipSpace, ZeroShot
from ..host.folders import CLASSIFIERS, classifier_names, existing_classifier
from ..host.protocols import Clip
from ..request.choices import check_choice
from ..request.everyday_prompts import CALIBRATION
from ..request.typed_text import content_lines
from ..schema.files import NO_FILE
from ..schema.inputs import choice_input

NUDENET, ZERO_SHOT, RESNET = "NudeNet", "CLIP zero-shot", "ResNet-50"
DETECTORS = (NUDENET, ZERO_SHOT, RESNET)


def detector_input(default: str = NUDENET) -> io.Input:
    """Which detector."""
    return io.Combo.Input(
        "detector",
        options=list(DETECTORS),
        default=default,
        tooltip="NudeNet finds exposed parts of bodies; CLIP zero-shot compares descriptions; ResNet-50 knows ImageNet's "
        "classes.",
    )


def concept_inputs(clip_vision_also: str = "") -> list[io.Input]:
    """What it looks for, and from which score on.

    Args:
        clip_vision_also: what else the node takes CLIP_VISION for, as a sentence.
    """
    return [
        io.String.Input(
            "concept",
            multiline=True,
            default="",
            optional=True,
            placeholder="a photo of a church",
            tooltip="What counts, one a line: descriptions for CLIP, classes for ResNet-50 and NudeNet. Empty, NudeNet looks for "
            "exposed breasts, genitals, buttocks and anus.",
        ),
        io.String.Input(
            "others",
            multiline=True,
            default="",
            optional=True,
            placeholder="a photo of a house\na photo of a tree",
            tooltip="Only for CLIP: what else a picture could show, one description a line. Empty: everyday scenes.",
        ),
        io.Float.Input(
            "threshold",
            default=DEFAULT_THRESHOLD,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="The least score that counts. Papers take 0.6, 0.5 or 0.3 for NudeNet: say which. ResNet-50 does without; its "
            "likeliest class counts.",
        ),
        clip_vision_input(clip_vision_also),
    ]


def clip_vision_input(also: str = "") -> io.Input:
    """The half of a CLIP that looks; `also` is a sentence about what else it is for."""
    tooltip = " ".join(filter(None, ["Only for CLIP: from 'Load CLIP Vision'.", also]))
    return io.ClipVision.Input("clip_vision", optional=True, tooltip=tooltip)


def detector_clip_input() -> io.Input:
    """The half of a CLIP that reads, next to the text encoder of the model."""
    return io.Clip.Input(
        "detector_clip",
        optional=True,
        tooltip="Only for CLIP: the text encoder that belongs to clip_vision, from 'Load CLIP'.",
    )


def classifier_input() -> io.Input:
    """The weights of a classifier."""
    return choice_input(
        "classifier",
        [NO_FILE, *classifier_names()],
        NO_FILE,
        "Only for ResNet-50: its weights, a safetensors file in models/classifiers.",
    )


def detector_of(
    detector: str, concept: str, others: str, threshold: float, clip_vision: Any, clip: Clip | None, classifier: str
) -> Detector:
    """The detector that these inputs choose.

    Raises:
        InputError: a value is no choice or out of range, or names nothing that the detector knows.
        MissingPackageError: it is not installed.
        WrongConnectionError: it lacks a connection.
    """
    check_choice("detector", detector, DETECTORS)
    if not 0 <= threshold <= 1:
        raise InputError(f"'threshold' is {threshold}: give a number from 0 to 1.")
    wanted = [line for _, line in content_lines("concept", concept)]
    if detector == NUDENET:
        return NudeNet(wanted, threshold)
    if detector == RESNET:
        return ResNet50(wanted, _weights(classifier))
    different = [line for _, line in content_lines("others", others)] or list(CALIBRATION)
    return ZeroShot(ClipSpace(clip_vision, clip), wanted, different, threshold)


def _weights(name: str) -> Path:
    if name == NO_FILE:
        raise InputError(
            "ResNet-50 needs weights: put the model.safetensors of timm/resnet50.tv2_in1k (Hugging Face) into "
            f"models/{CLASSIFIERS}, under a name of your own, and choose it as 'classifier'."
        )
    return existing_classifier(name)
