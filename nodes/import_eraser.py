"""Another tool's erased weights as an ERASER."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, Provenance, __version__
from ..rece_ops.formats.checkpoint_file import open_checkpoint
from ..rece_ops.texts import printable
from .host.folders import existing_importable, fingerprint, importable_names
from .host.protocols import Model
from .request.concept_lines import parse_concepts
from .schema.checked import checked
from .schema.compat import build
from .schema.sockets import FILES, Eraser

if TYPE_CHECKING:
    from .host.jobs.import_eraser import ImportedChange

PART = "imported"
_DEFAULT_RANK = 64
# An erasure changes a few per cent of a weight; another base model, all of it.
_MUCH = 0.5
_ENOUGH = 0.99


class ImportEraser(io.ComfyNode):
    """MODEL + a file of erased weights → ERASER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ImportEraser",
            display_name="Import Eraser (RECE)",
            category=FILES,
            description=(
                "Makes an ERASER of what another tool erased: the weights in its file (UCE, ESD, SPEED, or a whole erased "
                "model, as .safetensors) minus those of the model it was made on. The result can be applied, scaled, combined, "
                "saved and exported as a LoRA like any other."
            ),
            search_aliases=["ESD", "UCE", "SPEED", "extract LoRA", "difference", "convert"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the file was made on, without the erasure."),
                io.Combo.Input(
                    "file",
                    options=importable_names(),
                    tooltip="A .safetensors file in models/erasers, models/diffusion_models or models/checkpoints. Press R to "
                    "refresh the list.",
                ),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    placeholder="nudity\nVan Gogh -> art",
                    optional=True,
                    tooltip="What the file erases, as you would type it in 'Erase Concepts'. It is only recorded, for reports.",
                ),
                io.Int.Input(
                    "max_rank",
                    default=_DEFAULT_RANK,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="How many directions of each weight's change to keep at most. 0 keeps all of them, which makes a "
                    "large file. The report says how much is kept.",
                ),
            ],
            outputs=[
                Eraser.Output(
                    "eraser", display_name="eraser", tooltip="The erasure, for 'Apply Eraser' or 'Save Eraser'."
                ),
                io.String.Output("report", display_name="report", tooltip="What was found in the file."),
            ],
        )

    @classmethod
    @checked
    def fingerprint_inputs(cls, file: str, **others: object) -> str:
        """Re-run the node when the file behind the name has changed."""
        return fingerprint(existing_importable(file))

    @classmethod
    @checked
    def execute(
        cls, model: Model | None, file: str, concepts: str = "", max_rank: int = _DEFAULT_RANK
    ) -> io.NodeOutput:
        from .host.jobs.import_eraser import import_change
        from .host.session import Session
        from .reporting.sentences import eraser_description

        lines = parse_concepts(concepts) if concepts.strip() else []
        session = Session.open(model)
        path = existing_importable(file)
        with open_checkpoint(path) as opened:
            found = import_change(session, opened, max_rank)
        provenance = Provenance(
            method="imported",
            concepts=tuple(line.concept for line in lines),
            targets=tuple(line.target for line in lines),
            architecture=session.architecture.name,
            pack_version=__version__,
            others={"source": printable(path.name)},
        )
        eraser = EraserSet({PART: found.change}, provenance)
        report = f"{_summary(found)}\n{eraser_description(eraser)}"
        return io.NodeOutput(eraser, report, ui=ui.PreviewText(report))


def _summary(found: ImportedChange) -> str:
    lines = [
        f"Imported changes of {len(found.change.changes)} weights, of {found.size:.1%} of their size; the ranks keep "
        f"{found.share:.2%} of it. {found.equal} tensors of the file are the model's own, {found.left_out} are none of the "
        "diffusion model's."
    ]
    if found.size > _MUCH:
        lines.append("Warning: this is more than an erasure changes. Was the file made on this model?")
    if found.share < _ENOUGH:
        lines.append("Raise 'max_rank', or set it to 0, to keep more of the change.")
    return "\n".join(lines)
