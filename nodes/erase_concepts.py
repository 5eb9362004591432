"""The main node: concepts typed, concepts gone."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..rece_ops.settings import DEFAULT_SETTINGS, check_strength
from . import methods, presets
from .checked import checked
from .concept_lines import parse_concepts, parse_preserved
from .erase_inputs import custom_inputs, method_inputs
from .erasure_request import ErasureRequest
from .host.applying import apply_eraser, way_of_applying
from .host.compat import build
from .host.conditioning import Conditioning, entries_of
from .host.erasing import run_erasure
from .inputs import choice_input, model_input, strength_input
from .report import erasure_report, erasure_summary
from .templates import TEMPLATES
from .types import CATEGORY, Eraser


class EraseConcepts(io.ComfyNode):
    """MODEL + CLIP + concepts → MODEL without them, ERASER, report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_EraseConcepts",
            display_name="Erase Concepts (RECE)",
            category=CATEGORY,
            description=(
                "Removes concepts (nudity, a painter's style, an object, a person) from the weights of a loaded model, "
                "in closed form, without training. Place it after the LoRAs that shall be erased too: a LoRA added "
                "later can bring a concept back."
            ),
            search_aliases=["unlearn", "censor", "safety", "nsfw", "remove concept", "UCE"],
            inputs=[
                model_input(),
                io.Clip.Input(
                    "clip", tooltip="The text encoder that belongs to the model, as you use it for your prompts."
                ),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="nudity",
                    placeholder="nudity\nVan Gogh -> art\nchurch -> : 0.8",
                    tooltip=(
                        "One concept a line. 'a -> b' maps a to b; without an arrow to the empty prompt (or to the "
                        "preset's target). ' : 0.8' at the end weighs a line. '#' starts a comment."
                    ),
                ),
                io.Combo.Input(
                    "preset",
                    options=presets.NAMES,
                    default=presets.DEFAULT,
                    tooltip="The authors' settings by kind of concept; 'custom' uses the numbers below.",
                ),
                io.String.Input(
                    "preserve",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="a person wearing clothes\nClaude Monet",
                    tooltip="Prompts that should stay as they are, one a line. The empty prompt is always preserved.",
                ),
                strength_input(
                    "strength",
                    "How much of the erasure goes into the model: 0 none, 1 all. The ERASER output is always whole.",
                    optional=True,
                ),
                choice_input(
                    "templates",
                    list(TEMPLATES),
                    "none",
                    "Also erase each concept in prompt templates: 'painting by …' (artist), 'photo of …' (object).",
                ),
                *custom_inputs(),
                *method_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model", display_name="model", tooltip="The model without the concepts: sample from it."
                ),
                Eraser.Output(
                    "eraser",
                    display_name="eraser",
                    tooltip="The erasure itself: save it, apply it to a fine-tune, combine it.",
                ),
                io.String.Output("report", display_name="report", tooltip="What was done, in plain words and numbers."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        clip: Any,
        concepts: str,
        preset: str,
        preserve: str = "",
        strength: float = 1.0,
        templates: str = "none",
        epochs: int = DEFAULT_SETTINGS.epochs,
        regularization: float = DEFAULT_SETTINGS.regularization,
        edit_regularization: float = DEFAULT_SETTINGS.edit_regularization,
        erase_scale: float = DEFAULT_SETTINGS.erase_scale,
        preserve_scale: float = DEFAULT_SETTINGS.preserve_scale,
        method: str = methods.RECE,
        robustness: str = methods.DEFAULT_ROBUSTNESS,
        beta: float = methods.ROBUSTNESS[methods.DEFAULT_ROBUSTNESS],
        directions: int = 0,
        iteration: str = methods.PUBLISHED,
        preservation: str = methods.WEIGHED,
        regeneration_limit: float = 0.0,
        drift_limit: float = 0.0,
        embedding: Conditioning | None = None,
        pooled: bool = True,
    ) -> io.NodeOutput:
        check_strength(strength)
        numbers = {
            "epochs": epochs,
            "regularization": regularization,
            "edit_regularization": edit_regularization,
            "erase_scale": erase_scale,
            "preserve_scale": preserve_scale,
        }
        lines = parse_concepts(concepts, presets.default_target(preset))
        choice = methods.MethodChoice(
            method,
            preset,
            numbers,
            robustness,
            beta,
            directions,
            iteration,
            preservation,
            regeneration_limit,
            drift_limit,
        )
        request = ErasureRequest(
            lines,
            parse_preserved(preserve, lines),
            choice.settings(),
            templates,
            exactly=preservation == methods.EXACTLY,
            limits=choice.limits(),
            embeddings=() if embedding is None else entries_of(embedding),
            pooled=pooled,
        )
        result = run_erasure(model, clip, request)
        patched = apply_eraser(model, result.eraser, strength)
        way = way_of_applying(model)
        report, summary = (
            f"{text}\n{way}" for text in (erasure_report(request, result, strength), erasure_summary(result))
        )
        return io.NodeOutput(patched, result.eraser, report, ui=ui.PreviewText(summary))
