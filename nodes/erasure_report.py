"""Is it safe to ship? Numbers, a figure and a verdict on an ERASER."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, InputError
from ..rece_ops.settings import DEFAULT_SETTINGS
from ..rece_ops.texts import plain_json
from .host.jobs.assess import assess
from .host.protocols import Clip, Model
from .host.session import Session
from .reporting.figure import figure
from .reporting.sentences import eraser_description, measured_lines
from .reporting.verdict import verdict
from .reporting.warnings import warnings
from .request.concept_lines import ConceptLine, parse_concepts, parse_preserved
from .request.methods import assessment_plan
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import clip_input, connected, number_input
from .schema.sockets import CATEGORY, Eraser


class ErasureReport(io.ComfyNode):
    """Original MODEL + CLIP + ERASER → figure, report, JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ErasureReport",
            display_name="Erasure Report (RECE)",
            category=CATEGORY,
            description=(
                "Measures what an eraser does to concepts and to everything else: what is left, how well the derived "
                "embedding brings it back, what drifts. Says whether it is safe to ship, and what to change if not."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model without the erasure."),
                clip_input(),
                Eraser.Input("eraser", tooltip="The erasure to report on, made here or loaded."),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What to look for, one a line, such as synonyms. Empty: the concepts that the eraser names.",
                ),
                io.String.Input(
                    "preserve",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Prompts whose drift to measure, one a line, besides the empty one and a few everyday prompts.",
                ),
                number_input(
                    "regularization", DEFAULT_SETTINGS.regularization, "λ_r of the derived embedding.", low=1e-6
                ),
            ],
            outputs=[
                io.Image.Output(
                    "figure", display_name="figure", tooltip="The numbers as a picture (needs matplotlib)."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="The verdict and the numbers in plain words."
                ),
                io.String.Output("json", display_name="json", tooltip="The numbers for programs."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        eraser: EraserSet | None,
        concepts: str = "",
        preserve: str = "",
        regularization: float = DEFAULT_SETTINGS.regularization,
    ) -> io.NodeOutput:
        present = connected(eraser)
        lines = parse_concepts(concepts) if concepts.strip() else _named(present)
        plan = assessment_plan(present.provenance.method, regularization)
        assessment = assess(Session.open(model, clip), present, lines, parse_preserved(preserve, lines), plan)
        sentence = verdict(assessment.measures)
        report = "\n".join([sentence, eraser_description(present), *measured_lines(assessment, plan)])
        found = {**assessment.as_dict(), "warnings": list(warnings(assessment.measures, plan.method.advice))}
        return io.NodeOutput(
            figure(assessment, sentence), report, plain_json(found, indent=1), ui=ui.PreviewText(report)
        )


def _named(eraser: EraserSet) -> list[ConceptLine]:
    """The concepts in the eraser's provenance."""
    texts, targets = eraser.provenance.concepts, eraser.provenance.targets
    if not texts or not targets:
        raise InputError("The ERASER does not say what it erases: type the concepts to look for into 'concepts'.")
    return [ConceptLine(text, target) for text, target in zip(texts, targets, strict=True)]
