"""Two ERASERs as one."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, Provenance, __version__
from ..rece_ops.settings import check_strength
from ..rece_ops.texts import QUOTED, printable
from .host.errors import WrongConnectionError
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import connected, strength_input
from .schema.sockets import ERASE, Eraser


class CombineErasers(io.ComfyNode):
    """ERASER, then ERASER → one ERASER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_CombineErasers",
            display_name="Combine Erasers (RECE)",
            category=ERASE,
            description=(
                "Makes one erasure of two; the first is applied before the second. Erasing all concepts in one 'Erase "
                "Concepts' node changes other prompts less, so combine only what you have as files."
            ),
            search_aliases=["merge", "several erasers"],
            inputs=[
                Eraser.Input("first", tooltip="The erasure that comes first."),
                Eraser.Input("second", tooltip="The erasure that comes after it, made for the same architecture."),
                strength_input("strength_first", "How much of the first erasure to apply: 0 is none, 1 is all."),
                strength_input("strength_second", "How much of the second erasure to apply: 0 is none, 1 is all."),
            ],
            outputs=[Eraser.Output("eraser", display_name="eraser", tooltip="Both erasures as one.")],
        )

    @classmethod
    @checked
    def execute(
        cls,
        first: EraserSet | None,
        second: EraserSet | None,
        strength_first: float,
        strength_second: float,
    ) -> io.NodeOutput:
        from .reporting.sentences import eraser_description

        check_strength(strength_first, "strength_first")
        check_strength(strength_second, "strength_second")
        parts = [(connected(first), strength_first), (connected(second), strength_second)]
        made_on = {printable(name, QUOTED) for eraser, _ in parts if (name := eraser.provenance.architecture)}
        if len(made_on) > 1:
            raise WrongConnectionError(
                f"The two ERASERs were made on {' and '.join(sorted(made_on))}, which read different text: combine erasers "
                "that were made on the same architecture."
            )
        scaled = [eraser.scaled(strength) for eraser, strength in parts]
        told = [replace(eraser.provenance, strength=strength) for eraser, strength in parts]
        fronts = [one.fronts for one in told if one.fronts is not None]
        provenance = Provenance(
            method="combined",
            parts=tuple(told),
            architecture=told[0].architecture,
            fronts=tuple(sorted({name for names in fronts for name in names})) if len(fronts) == len(told) else None,
            pack_version=__version__,
        )
        combined = scaled[0].combined(scaled[1], provenance)
        return io.NodeOutput(combined, ui=ui.PreviewText(eraser_description(combined)))
