"""A verdict on an ERASER, with the numbers behind it and a figure."""

from __future__ import annotations

from comfy_api.latest import io

from ..rece_ops import EraserSet, InputError, Provenance
from ..rece_ops.settings import DEFAULT_SETTINGS
from ..rece_ops.texts import plain_json
from .host.protocols import Clip, Model
from .request.concept_lines import ConceptLine, parse_concepts, parse_preserved, preserved_notes, text_key
from .request.methods import METHODS, assessment_plan
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import clip_input, connected, number_input
from .schema.sockets import TEST, Eraser


class ErasureReport(io.ComfyNode):
    """Original MODEL + CLIP + ERASER → figure, report, JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ErasureReport",
            display_name="Erasure Report (RECE)",
            category=TEST,
            description=(
                "Measures what an eraser does to concepts and to everything else: what is left, how well the derived "
                "embedding brings it back, and how far other prompts drift. Says what to change where that is too much."
            ),
            search_aliases=["verify", "measure", "does it hold", "verdict"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model without the erasure."),
                clip_input(),
                Eraser.Input("eraser", tooltip="The erasure to report on, made here or loaded."),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="those of the eraser",
                    tooltip="What to look for, one a line, such as synonyms. Without an arrow, a concept is measured against the "
                    "eraser's own target. Empty: the concepts that the eraser names.",
                ),
                io.String.Input(
                    "preserve",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="a person wearing clothes\nClaude Monet",
                    tooltip="Prompts whose drift to measure, one a line. The empty prompt and a few everyday prompts are always measured.",
                ),
                number_input(
                    "regularization", DEFAULT_SETTINGS.regularization, "λ_r of the derived embedding.", low=1e-6
                ),
            ],
            outputs=[
                io.Image.Output(
                    "figure", display_name="figure", tooltip="The numbers as a picture (needs matplotlib)."
                ),
                io.String.Output("report", display_name="report", tooltip="The verdict, and the numbers in words."),
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
        from .host.jobs.apply import upstream_erasures
        from .host.jobs.assess import assess
        from .host.session import Session
        from .reporting.figure import figure
        from .reporting.panel import panel
        from .reporting.sentences import (
            eraser_description,
            measured_against,
            measured_lines,
            unmeasured,
            upstream_lines,
        )
        from .reporting.verdict import verdict
        from .reporting.warnings import warnings

        present = connected(eraser)
        lines = _looked_for(present.provenance, concepts)
        plan = assessment_plan(present.provenance.method, regularization)
        session = Session.open(model, clip)
        assessment = assess(session, present, lines, parse_preserved(preserve, lines), plan)
        found_by = METHODS.get(present.provenance.method or "", plan.method)
        names = map(text_key, present.provenance.erased())
        untargeted = [text_key(line.concept) for line in lines if not line.target]
        advice = found_by.advice.remedies
        judged = verdict(assessment.measures, advice, names=names, untargeted=untargeted, elsewhere=True)
        told = [
            eraser_description(present),
            *unmeasured(present),
            measured_against(lines),
            *(f"Note: {note}" for note in preserved_notes(preserve, lines)),
            *measured_lines(assessment, plan),
        ]
        details = "\n".join([*upstream_lines(upstream_erasures(session.model)), *told])
        report = f"{judged}\n{details}"
        found = {**assessment.as_dict(), "warnings": list(warnings(assessment.measures, plan.method.advice))}
        return io.NodeOutput(
            figure(assessment, str(judged)), report, plain_json(found, indent=1), ui=panel(details, judged)
        )


def _looked_for(told: Provenance, concepts: str) -> list[ConceptLine]:
    """What was typed, or else all that the eraser names, each with its own target.

    A concept that the eraser does not name, such as a synonym, is measured against its target where it has but one.
    """
    erased = told.erased()
    if not concepts.strip():
        if not erased:
            raise InputError("The ERASER does not say what it erases: type the concepts to look for into 'concepts'.")
        return [ConceptLine(concept, target) for concept, target in erased.items()]
    only = set(erased.values())
    default = only.pop() if len(only) == 1 else ""
    return parse_concepts(concepts, default, {text_key(concept): target for concept, target in erased.items()})
