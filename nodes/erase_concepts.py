"""The main node: concepts typed, concepts gone."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..rece_ops.settings import check_strength
from .host.log import tell
from .host.protocols import Clip, Model
from .host.text.conditioning import Conditioning, entries_of
from .request.erase_inputs import CHOICES, NUMBERS, TARGET
from .request.erasure_request import request_of
from .request.templates import TEMPLATES
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import choice_input, erase_inputs, model_input, preset_input, strength_input, switch_input
from .schema.sockets import ERASE, Eraser


class EraseConcepts(io.ComfyNode):
    """MODEL + CLIP + concepts → MODEL without them, ERASER, report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_EraseConcepts",
            display_name="Erase Concepts (RECE)",
            category=ERASE,
            description=(
                "Removes concepts (nudity, a painter's style, an object, a person) from a loaded model by a closed-form "
                "edit of its weights, without training. Put your LoRAs before this node: they are erased from too. A LoRA "
                "added after it can bring a concept back."
            ),
            search_aliases=["unlearn", "censor", "safety", "nsfw", "remove concept", "UCE"],
            is_output_node=True,
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
                        "One concept a line, or several separated by commas. 'a -> b' maps a to b; without an arrow, a "
                        "concept is mapped to the empty prompt (or to the preset's target). ' : 0.8' at the end sets the "
                        "weight next to other concepts. Targets with a vertical bar between them are mixed (only with the method UCE). Double "
                        "quotes protect commas. '#' starts a comment."
                    ),
                ),
                preset_input(),
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
                    "How much of the erasure goes into the model: 0 is none, 1 is all, and between them a concept is moderated. The "
                    "'eraser' output always holds the whole erasure.",
                    optional=True,
                ),
                choice_input(
                    "templates",
                    list(TEMPLATES),
                    "none",
                    "Also erase each concept inside prompt templates: 'painting by …' (artist), 'photo of …' (object).",
                    advanced=True,
                ),
                *erase_inputs((*NUMBERS, *CHOICES)),
                io.Conditioning.Input(
                    "embedding",
                    optional=True,
                    tooltip="Another embedding to erase, such as one that 'Invert Concept' found.",
                ),
                switch_input(
                    "pooled",
                    True,
                    "Also erase from the pooled text embedding, where the model reads one (SDXL, SD3, Flux, …). With this off, a "
                    "concept can leak through it.",
                ),
                *erase_inputs((TARGET,)),
                io.String.Input(
                    "examples",
                    optional=True,
                    force_input=True,
                    tooltip=(
                        "Only with the method projection. Prompts with the first concept, one a line, alone or as 'with it -> without "
                        "it': connect 'examples' of 'Load Prompt Set', or a text. They then say what is erased."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model",
                    display_name="model",
                    tooltip="The model without the concepts. Connect it to a sampler.",
                ),
                Eraser.Output(
                    "eraser",
                    display_name="eraser",
                    tooltip="The erasure itself. Save it, apply it to a fine-tune or combine it with others.",
                ),
                io.String.Output("report", display_name="report", tooltip="What was done, in words and numbers."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        concepts: str,
        preset: str,
        preserve: str = "",
        strength: float = 1.0,
        embedding: Conditioning | None = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        from .host.jobs.apply import apply_eraser, describe_application
        from .host.jobs.erase import erase_concepts
        from .host.session import Session
        from .reporting.panel import panel
        from .reporting.sentences import erasure_report, erasure_summary, erasure_verdict

        check_strength(strength)
        chosen = {**inputs, "preset": preset, "preserve": preserve}
        request = request_of(concepts, chosen, () if embedding is None else entries_of(embedding))
        session = Session.open(model, clip)
        result = erase_concepts(session, request)
        patched = apply_eraser(session, result.eraser, strength)
        way = describe_application(session)
        report, summary = (
            f"{text}\n{way}" for text in (erasure_report(request, result, strength), erasure_summary(request, result))
        )
        tell(report)
        return io.NodeOutput(patched, result.eraser, report, ui=panel(summary, erasure_verdict(request, result)))
