"""The detectors that a command line can choose for a checkpoint's pictures."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from tools.evaluation.metrics.clip_score import open_clip_space

NUDENET, RESNET, ZERO_SHOT, NOTHING = "NudeNet", "ResNet-50", "CLIP", "none"
DETECTORS = (NUDENET, RESNET, ZERO_SHOT, NOTHING)


def open_detector(arguments: argparse.Namespace) -> Any:
    """What looks for the concept; None where nothing does.

    Raises:
        InputError: it lacks a file, or has no such class.
        MissingPackageError: it is not installed.
    """
    from rece_pack.nodes.host.detectors.classifier import ResNet50
    from rece_pack.nodes.host.detectors.nudity import NudeNet
    from rece_pack.nodes.host.detectors.zero_shot import ZeroShot
    from rece_pack.nodes.request.everyday_prompts import CALIBRATION
    from rece_pack.rece_ops import InputError

    if arguments.detector == NOTHING:
        return None
    if arguments.detector == NUDENET:
        return NudeNet(arguments.detect, arguments.threshold)
    if arguments.detector == ZERO_SHOT:
        space = open_clip_space(arguments.clip_vision, arguments.clip_text)
        with torch.inference_mode():
            return ZeroShot(space, arguments.detect, CALIBRATION, arguments.threshold)
    if arguments.classifier is None:
        raise InputError("ResNet-50 needs --classifier: its weights, a safetensors file with torchvision's names.")
    return ResNet50(arguments.detect, arguments.classifier)
