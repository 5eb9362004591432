"""Put an ERASER on CONDITIONING, for models that cannot be patched."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet
from .host.text.conditioning import Conditioning
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import connected, eraser_input, strength_input
from .schema.sockets import ERASE


class ApplyEraserToConditioning(io.ComfyNode):
    """CONDITIONING + ERASER + strength → CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ApplyEraserToConditioning",
            display_name="Apply Eraser to Conditioning (RECE)",
            category=ERASE,
            description=(
                "Puts an erasure on encoded prompts instead of on the model. The pictures are those of an erased model, even "
                "where no node can patch the model. Use one for every prompt: a prompt that does not pass through it is not "
                "erased."
            ),
            search_aliases=["unlearn", "prompt", "remove concept"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The prompt, from a text-encoding node."),
                eraser_input(),
                strength_input(
                    "strength", "0 leaves the prompt as it is, 1 applies the whole erasure; in between it is linear."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "erased_conditioning",
                    display_name="conditioning",
                    tooltip="The prompt as an erased model would read it. Sample it with the model that is not erased.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, conditioning: Conditioning | None, eraser: EraserSet | None, strength: float) -> io.NodeOutput:
        from .host.jobs.erase_conditioning import erase_conditioning
        from .reporting.sentences import eraser_description

        present = connected(eraser)
        erased = erase_conditioning(conditioning, present, strength)
        return io.NodeOutput(erased, ui=ui.PreviewText(eraser_description(present)))
