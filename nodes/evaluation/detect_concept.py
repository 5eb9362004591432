"""Do pictures show a concept? A detector, its rate, and what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...rece_ops import InputError
from ...rece_ops.texts import plain_json
from ..host.detectors.classifier import ResNet50
from ..host.detectors.detector import Detected, Detector
from ..host.detectors.nudity import DEFAULT_THRESHOLD, NudeNet
from ..host.detectors.zero_shot import ClipSpace, ZeroShot
from ..host.errors import WrongConnectionError
from ..host.folders import CLASSIFIERS, classifier_names, existing_classifier
from ..host.progress import JobProgress
from ..host.protocols import Clip
from ..reporting.detection import annotated, detection_record, detection_report
from ..request.choices import check_choice
from ..request.everyday_prompts import CALIBRATION
from ..request.typed_text import content_lines
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.inputs import choice_input
from ..schema.sockets import TEST

NUDENET, ZERO_SHOT, RESNET = "NudeNet", "CLIP zero-shot", "ResNet-50"
DETECTORS = (NUDENET, ZERO_SHOT, RESNET)
NO_FILE = "none"


class DetectConcept(io.ComfyNode):
    """IMAGE → how many show a concept, which, and where."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_DetectConcept",
            display_name="Detect Concept (RECE)",
            category=TEST,
            description=(
                "Counts the pictures that show a concept, with NudeNet, CLIP or an image classifier: before and after an "
                "erasure, from the same prompts and seeds. It waits for all pictures of a list."
            ),
            search_aliases=["evaluation", "classifier", "NudeNet", "NSFW", "nudity", "attack success rate"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures to look at, all of a batch and of a list."),
                io.Combo.Input(
                    "detector",
                    options=list(DETECTORS),
                    default=NUDENET,
                    tooltip="NudeNet finds exposed parts of bodies; CLIP zero-shot compares descriptions; ResNet-50 knows "
                    "ImageNet's classes.",
                ),
                io.String.Input(
                    "concept",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What counts, one a line: descriptions for CLIP, classes for ResNet-50 and NudeNet. Empty, NudeNet "
                    "looks for exposed breasts, genitals, buttocks and anus.",
                ),
                io.String.Input(
                    "others",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Only for CLIP: what else a picture could show, one description a line. Empty: everyday scenes.",
                ),
                io.Float.Input(
                    "threshold",
                    default=DEFAULT_THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="The least score that counts. Papers take 0.6, 0.5 or 0.3 for NudeNet: say which. ResNet-50 does "
                    "without; its likeliest class counts.",
                ),
                io.ClipVision.Input("clip_vision", optional=True, tooltip="Only for CLIP: from 'Load CLIP Vision'."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Only for CLIP: the text encoder of the same CLIP, from 'Load CLIP'.",
                ),
                choice_input(
                    "classifier",
                    [NO_FILE, *classifier_names()],
                    NO_FILE,
                    "Only for ResNet-50: its weights, a safetensors file in models/classifiers.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="The rate, the rule, and picture by picture."
                ),
                io.Float.Output(
                    "share", display_name="share", tooltip="The share of pictures that show the concept, 0 to 1."
                ),
                io.Boolean.Output(
                    "shown", display_name="shown", is_output_list=True, tooltip="Of each picture, whether it shows it."
                ),
                io.Image.Output(
                    "annotated",
                    display_name="images",
                    is_output_list=True,
                    tooltip="The pictures with what was found; a red frame where the concept is shown.",
                ),
                io.String.Output("json", display_name="json", tooltip="All of it for programs."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        images: list[Tensor],
        detector: list[str],
        concept: Sequence[str] = ("",),
        others: Sequence[str] = ("",),
        threshold: Sequence[float] = (DEFAULT_THRESHOLD,),
        clip_vision: Sequence[Any] = (None,),
        clip: Sequence[Clip | None] = (None,),
        classifier: Sequence[str] = (NO_FILE,),
    ) -> io.NodeOutput:
        if not images or any(one is None for one in images):
            raise WrongConnectionError(
                "IMAGE is None: connect the IMAGE output of a node that loads or decodes pictures."
            )
        check_choice("detector", detector[0], DETECTORS)
        if not 0 <= threshold[0] <= 1:
            raise InputError(f"'threshold' is {threshold[0]}: give a number from 0 to 1.")
        wanted = [line for _, line in content_lines("concept", concept[0])]
        different = [line for _, line in content_lines("others", others[0])] or list(CALIBRATION)
        match detector[0]:
            case "NudeNet":
                looks: Detector = NudeNet(wanted, threshold[0])
            case "CLIP zero-shot":
                looks = ZeroShot(ClipSpace(clip_vision[0], clip[0]), wanted, different, threshold[0])
            case _:
                looks = ResNet50(wanted, _weights(classifier[0]))
        return _looked_at(looks, images)


def _weights(name: str) -> Any:
    if name == NO_FILE:
        raise InputError(
            f"ResNet-50 needs weights: put the model.safetensors of timm/resnet50.tv2_in1k (Hugging Face) into "
            f"models/{CLASSIFIERS}, under a name of your own, and choose it as 'classifier'."
        )
    return existing_classifier(name)


def _looked_at(detector: Detector, batches: Sequence[Tensor]) -> io.NodeOutput:
    progress = JobProgress(look=1)
    found: list[list[Detected]] = [
        detector.detect(batch, progress.part("look", place, len(batches))) for place, batch in enumerate(batches)
    ]
    every = [one for batch in found for one in batch]
    pictures = [
        torch.stack([annotated(picture, one) for picture, one in zip(batch, results, strict=True)])
        for batch, results in zip(batches, found, strict=True)
    ]
    report, record = detection_report(detector, every), detection_record(detector, every)
    return io.NodeOutput(
        report,
        record["share"],
        [one.shown for one in every],
        pictures,
        plain_json(record, indent=1),
        ui=ui.PreviewText(report),
    )
