"""Is it safe to ship? Numbers, a figure and a verdict on an ERASER."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, InputError
from ..rece_ops.measures import HIGH_RESIDUAL, VISIBLE_DRIFT
from ..rece_ops.settings import DEFAULT_SETTINGS
from ..rece_ops.texts import plain_json, quoted
from .checked import checked
from .concept_lines import ConceptLine, parse_concepts, parse_preserved
from .figure import figure
from .host.assessing import Assessment, assess
from .host.compat import build
from .inputs import clip_input, connected, number_input
from .report import eraser_description, measured_lines
from .types import CATEGORY, Eraser

HIGH_REGENERATION = 0.5


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
        model: Any,
        clip: Any,
        eraser: EraserSet | None,
        concepts: str = "",
        preserve: str = "",
        regularization: float = DEFAULT_SETTINGS.regularization,
    ) -> io.NodeOutput:
        eraser = connected(eraser)
        lines = parse_concepts(concepts) if concepts.strip() else _named(eraser)
        assessment = assess(model, clip, eraser, lines, parse_preserved(preserve, lines), regularization)
        verdict = _verdict(assessment)
        report = "\n".join([verdict, eraser_description(eraser), *measured_lines(assessment)])
        numbers = plain_json(assessment.as_dict(), indent=1)
        return io.NodeOutput(figure(assessment, verdict), report, numbers, ui=ui.PreviewText(report))


def _named(eraser: EraserSet) -> list[ConceptLine]:
    """The concepts in the eraser's provenance."""
    texts, targets = eraser.provenance.concepts, eraser.provenance.targets
    if not texts or not targets:
        raise InputError("The ERASER does not say what it erases: type the concepts to look for into 'concepts'.")
    return [ConceptLine(text, target) for text, target in zip(texts, targets, strict=True)]


def _verdict(assessment: Assessment) -> str:
    """One sentence: the worst of what was found."""
    measures = assessment.measures
    left = max(measures.concepts, key=lambda concept: concept.residual)
    back = max(measures.concepts, key=lambda concept: concept.regeneration[-1])
    drifts = {**measures.drift, **measures.neutral_drift}
    drifted = max(drifts, key=drifts.__getitem__)
    if left.residual > HIGH_RESIDUAL:
        return (
            f"Not erased: {left.residual:.0%} of {quoted(left.name)} is left. Erase it by name, or by another method."
        )
    if drifts[drifted] > VISIBLE_DRIFT:
        return (
            f"Too much collateral: {quoted(drifted or '(empty prompt)')} drifts by {drifts[drifted]:.0%}. Preserve prompts "
            "like it, or erase more gently."
        )
    if back.regeneration[-1] > HIGH_REGENERATION:
        return (
            f"Erased, but not for an attacker: the derived embedding brings back {back.regeneration[-1]:.0%} of "
            f"{quoted(back.name)}. Where people can choose embeddings, use the method 'projection'."
        )
    return (
        f"Erased, with little collateral; the derived embedding brings back {back.regeneration[-1]:.0%} at most. Look at "
        "pictures before shipping."
    )
