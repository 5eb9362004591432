"""Do pictures show a concept? A detector, its rate, and what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...rece_ops.texts import plain_json
from ..host.detectors.detector import Detected, Detector
from ..host.detectors.nudity import DEFAULT_THRESHOLD
from ..host.errors import WrongConnectionError
from ..host.progress import JobProgress
from ..host.protocols import Clip
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.files import NO_FILE
from ..schema.sockets import TEST
from .detectors import classifier_input, concept_inputs, detector_input, detector_of


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
                detector_input(),
                *concept_inputs(),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Only for CLIP: the text encoder of the same CLIP, from 'Load CLIP'.",
                ),
                classifier_input(),
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
        looks = detector_of(detector[0], concept[0], others[0], threshold[0], clip_vision[0], clip[0], classifier[0])
        return _looked_at(looks, images)


def _looked_at(detector: Detector, batches: Sequence[Tensor]) -> io.NodeOutput:
    from ..reporting.detection import annotated, detection_record, detection_report

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
