"""One concept becomes several others, in shares of pictures that a person asks for."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..rece_ops.settings import check_count
from .evaluation.detectors import (
    ZERO_SHOT,
    classifier_input,
    clip_vision_input,
    detector_clip_input,
    detector_input,
    detector_of,
)
from .evaluation.sampling import sampler_inputs
from .host.log import tell
from .host.protocols import Clip, Model, Vae
from .request.balance_request import MOST_PICTURES, MOST_ROUNDS, balance_request
from .request.choices import check_choice
from .request.prompt_sets import Drawing
from .request.suggestion_request import concept_line
from .schema.checked import checked
from .schema.compat import build
from .schema.files import NO_FILE
from .schema.inputs import clip_input, count_input, model_input, number_input
from .schema.sockets import ERASE, Eraser

_DRAWING = Drawing()


class BalanceConcept(io.ComfyNode):
    """MODEL + CLIP + VAE + a concept with several targets + a detector → MODEL, ERASER, the line with the mixture found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_BalanceConcept",
            display_name="Balance Concept (RECE)",
            category=ERASE,
            description=(
                "Maps a concept to a mixture of several targets and moves the mixture until a detector counts the shares of "
                "pictures that you asked for, such as as many male doctors as female ones. It samples pictures in every round."
            ),
            search_aliases=["debias", "bias", "fairness", "UCE", "mixture", "moderate", "representation"],
            is_output_node=True,
            inputs=[
                model_input(),
                clip_input(),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.String.Input(
                    "concept",
                    default="doctor -> male doctor | female doctor",
                    tooltip="One concept and its targets, with a vertical bar between them. ' : 3, 1' at the end asks for three pictures of the "
                    "first for every one of the second; without it, all shares are equal.",
                ),
                detector_input(ZERO_SHOT),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="a photo of a doctor\na doctor at work",
                    tooltip="Prompts with the concept, one a line, in which its pictures are counted. Empty: the concept alone.",
                ),
                io.String.Input(
                    "preserve",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="male doctor\nfemale doctor",
                    tooltip="Prompts that should stay as they are, one a line. The targets belong here, too.",
                ),
                io.String.Input(
                    "descriptions",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="a photo of a male doctor\na photo of a female doctor",
                    tooltip="How the detector tells the targets apart, one line for each, in their order: descriptions for CLIP, "
                    "classes for ResNet-50 and NudeNet. Empty: the targets themselves.",
                ),
                clip_vision_input(),
                detector_clip_input(),
                classifier_input(),
                count_input(
                    "pictures",
                    16,
                    "How many pictures are counted in each round, and before and after. With 16, a share is known to about 0.25.",
                    low=2,
                    high=MOST_PICTURES,
                    advanced=False,
                ),
                count_input(
                    "rounds", 8, "How many mixtures are tried at most.", low=1, high=MOST_ROUNDS, advanced=False
                ),
                number_input(
                    "tolerance",
                    0.06,
                    "The search ends once every share is this close.",
                    high=1.0,
                    step=0.01,
                    advanced=False,
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**63, optional=True, tooltip="The seed of the first picture."
                ),
                *sampler_inputs("As cfg in KSampler.", "Width and height of the pictures in pixels."),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The balanced model, for a sampler."),
                Eraser.Output("eraser", display_name="eraser", tooltip="The change itself, to save, apply or combine."),
                io.String.Output(
                    "concepts",
                    display_name="concepts",
                    tooltip="The line with the mixture that was found, for 'concepts' of 'Erase Concepts' with the method UCE.",
                ),
                io.String.Output("report", display_name="report", tooltip="What the pictures showed before and after."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        vae: Vae | None,
        concept: str,
        detector: str,
        prompts: str = "",
        preserve: str = "",
        descriptions: str = "",
        clip_vision: Any = None,
        detector_clip: Clip | None = None,
        classifier: str = NO_FILE,
        pictures: int = 16,
        rounds: int = 8,
        tolerance: float = 0.06,
        seed: int = 0,
        steps: int = 20,
        sampler: str = "euler",
        scheduler: str = "normal",
        negative: str = "",
        guidance: float = _DRAWING.guidance,
        size: int = _DRAWING.width,
    ) -> io.NodeOutput:
        from .host.jobs.balance import SampledLook, balance_concept
        from .host.jobs.sample import SAMPLERS, SCHEDULERS, Sampler, Sampling
        from .host.session import Session
        from .reporting.balance import balance_report

        asked = balance_request(concept, prompts, preserve, descriptions, pictures, rounds, tolerance)
        check_choice("sampler", sampler, SAMPLERS)
        check_choice("scheduler", scheduler, SCHEDULERS)
        check_count("steps", steps, 1, 1000)
        drawing = Drawing(seed, guidance, size, size)
        looks = detector_of(detector, "\n".join(asked.labels), "", 0.0, clip_vision, detector_clip, classifier)
        session = Session.open(model, clip, vae)
        sampled = Sampler(session.clip, session.vae, Sampling(steps, sampler, scheduler, negative))
        found = balance_concept(session, asked.erasure, SampledLook(asked, drawing, sampled, looks), rounds, tolerance)
        report = balance_report(asked.line, found, looks)
        tell(report)
        line = found.request.concepts[0]
        typed = concept_line(line.concept, line.target, 1.0)
        return io.NodeOutput(found.patched, found.result.eraser, typed, report, ui=ui.PreviewText(report))
