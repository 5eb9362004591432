"""A file in models/erasers as an ERASER."""

from __future__ import annotations

from collections.abc import Mapping

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet
from .host.folders import eraser_names, existing_eraser, fingerprint
from .schema.checked import checked
from .schema.compat import build
from .schema.sockets import FILES, Eraser


class LoadEraser(io.ComfyNode):
    """A file in models/erasers → ERASER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_LoadEraser",
            display_name="Load Eraser (RECE)",
            category=FILES,
            description="Reads an erasure from models/erasers. The file is checked before anything in it is used.",
            search_aliases=["open eraser", "unlearn"],
            inputs=[io.Combo.Input("eraser_name", options=eraser_names(), tooltip="A file in models/erasers.")],
            outputs=[
                Eraser.Output("eraser", display_name="eraser", tooltip="The erasure, for 'Apply Eraser'."),
                io.String.Output(
                    "description", display_name="description", tooltip="What it erases and how it was made."
                ),
            ],
        )

    @classmethod
    @checked
    def fingerprint_inputs(cls, eraser_name: str) -> str:
        """Re-run the node when the file behind the name has changed."""
        return fingerprint(existing_eraser(eraser_name))

    @classmethod
    @checked
    def execute(cls, eraser_name: str) -> io.NodeOutput:
        from .reporting.sentences import eraser_description

        eraser = EraserSet.load(existing_eraser(eraser_name))
        description = eraser_description(eraser)
        return io.NodeOutput(eraser, description, ui=ui.PreviewText(description))


def describe_file(asked: Mapping[str, str]) -> dict[str, str]:
    """What an eraser file says of itself, for a person who chooses among several.

    Args:
        asked: its 'name' in models/erasers.

    Returns:
        'description'.

    Raises:
        InputError: there is no such file, or its name leaves the folder.
        EraserFileError: the file is damaged or no eraser.
    """
    from ..rece_ops.formats.eraser_file import read_eraser_header
    from .reporting.sentences import header_description

    return {"description": header_description(read_eraser_header(existing_eraser(asked.get("name", ""))))}
