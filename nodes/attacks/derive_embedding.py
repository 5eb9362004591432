"""The first attack: the embedding that brings an erased concept back best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from ...rece_ops import POOLED_STREAM, EraserSet
from ...rece_ops.settings import DEFAULT_SETTINGS
from ...rece_ops.texts import quoted
from ..host.protocols import Clip, Model
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.inputs import clip_input, number_input
from ..schema.sockets import TEST, Eraser

if TYPE_CHECKING:
    from ..host.jobs.derive import DerivedConditioning


class DeriveEmbedding(io.ComfyNode):
    """Erased MODEL + CLIP + concept → CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_DeriveEmbedding",
            display_name="Derive Embedding (RECE)",
            category=TEST,
            description=(
                "Tries to bring an erased concept back: derives, in closed form, the embedding whose outputs in the "
                "erased model come closest to those of the concept in the original. Sample it to see whether the erasure "
                "holds."
            ),
            search_aliases=["attack", "red team", "robustness", "RECE"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The erased model. If an eraser is connected: the model before the erasure."
                ),
                clip_input(),
                io.String.Input(
                    "concept", default="nudity", tooltip="The erased concept, or any prompt that shows it."
                ),
                number_input(
                    "regularization",
                    DEFAULT_SETTINGS.regularization,
                    "λ_r of the derivation. A smaller value finds stronger embeddings, which are further from those of real prompts.",
                    low=1e-6,
                ),
                Eraser.Input(
                    "eraser",
                    optional=True,
                    tooltip="An eraser that the model does not have yet, to see what would bring the concept back after it.",
                ),
                io.Model.Input(
                    "original",
                    optional=True,
                    tooltip="The model before the erasure. Needed where the erasure is saved in the checkpoint.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="The derived embedding. Connect it to the positive input of a sampler on the erased model.",
                ),
                io.String.Output("report", display_name="report", tooltip="How well it brings the concept back."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        concept: str,
        regularization: float = DEFAULT_SETTINGS.regularization,
        eraser: EraserSet | None = None,
        original: Model | None = None,
    ) -> io.NodeOutput:
        from ..host.jobs.derive import derive_conditioning
        from ..host.session import Session

        session = Session.open(model, clip)
        before = None if original is None else Session.open(original)
        derived = derive_conditioning(session, concept, regularization, eraser, before)
        report = _report(derived, concept.strip(), regularization)
        return io.NodeOutput(derived.conditioning, report, ui=ui.PreviewText(report))


def _report(derived: DerivedConditioning, concept: str, regularization: float) -> str:
    # What brings it back furthest is what counts.
    tokens = [one for name, one in derived.found.items() if name != POOLED_STREAM]
    found = max(tokens, key=lambda one: one.regeneration)
    lines = [
        f"{quoted(concept)}: the derived embedding brings back {found.regeneration:.0%} of it (λ_r {regularization:g}; 0 % is no "
        f"nearer than the empty prompt, 100 % is the output of the original), condition number {found.condition:.1e}.",
        "Sample it with the erased model: only the picture tells. Other embeddings may do better or worse.",
    ]
    pooled = derived.found.get(POOLED_STREAM)
    if pooled is not None:
        lines.append(f"The pooled embedding is derived too: it brings back {pooled.regeneration:.0%}.")
    elif derived.architecture.reads_pooled:
        lines.append("The pooled embedding is the concept's own.")
    return "\n".join(lines)
