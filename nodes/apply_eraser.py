"""Put an ERASER on another MODEL."""

from __future__ import annotations

from collections.abc import Mapping

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, Schedule, Shape
from .host.folders import existing_eraser, existing_model
from .host.log import tell
from .host.protocols import Model
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import connected, eraser_input, model_input, schedule_inputs, strength_input
from .schema.sockets import ERASE


class ApplyEraser(io.ComfyNode):
    """MODEL + ERASER + strength → MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ApplyEraser",
            display_name="Apply Eraser (RECE)",
            category=ERASE,
            description=(
                "Puts an erasure on a model. An eraser made on a base model also fits its fine-tunes. LoRAs before this node "
                "are erased from too; a LoRA added after it can bring a concept back."
            ),
            search_aliases=["unlearn", "remove concept", "UCE"],
            inputs=[
                model_input(),
                eraser_input(),
                strength_input(
                    "strength", "0 leaves the model as it is, 1 applies the whole erasure; in between it is linear."
                ),
                *schedule_inputs(),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The model with the erasure in it.")
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        eraser: EraserSet | None,
        strength: float,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
    ) -> io.NodeOutput:
        from .host.jobs.apply import apply_eraser, describe_application
        from .host.session import Session
        from .reporting.sentences import eraser_description

        present = connected(eraser).shaped(Shape(schedule=Schedule.between(start_percent, end_percent)))
        session = Session.open(model)
        patched = apply_eraser(session, present, strength)
        way = describe_application(session, present)
        description = f"{eraser_description(present)}\n{way}"
        tell(f"Applied at strength {strength:g}: {description}")
        return io.NodeOutput(patched, ui=ui.PreviewText(description))


def find_misfit(asked: Mapping[str, str]) -> dict[str, str]:
    """Whether an eraser file was made for another base than a model file is, before either is loaded.

    Args:
        asked: 'eraser', a name in models/erasers; 'model', a name in the model folder 'folder', which is 'checkpoints' or
            'diffusion_models'.

    Returns:
        What it was 'made_for' and what the file is ('here'); nothing where it fits, or where one of the two cannot be known.

    Raises:
        InputError: there is no such file, its name leaves the folder, or it is no safetensors file.
        EraserFileError: a file is damaged, or no eraser.
    """
    from ..rece_ops.formats.eraser_file import read_eraser_header
    from .host.architectures.detection import Base
    from .host.architectures.model_file import base_of_file

    header = read_eraser_header(existing_eraser(asked.get("eraser", "")))
    made = Base(header.provenance.architecture or "", header.dimensions)
    here = base_of_file(existing_model(asked.get("folder", ""), asked.get("model", "")))
    if here is None or here.fits(made):
        return {}
    return {"made_for": made.describe(), "here": Base(here.name, here.compared(made)).describe()}
