"""An ERASER into a small file in models/erasers."""

from __future__ import annotations

from comfy_api.latest import io

from ..rece_ops import EraserSet
from .host.folders import ERASERS, default_name, path_to_save
from .host.workflow import embedded_workflow
from .schema.checked import checked
from .schema.compat import build
from .schema.files import file_name_input, if_exists_input, keeps_both, saved_file
from .schema.inputs import connected
from .schema.sockets import FILES, Eraser


class SaveEraser(io.ComfyNode):
    """ERASER → a small file in models/erasers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_SaveEraser",
            display_name="Save Eraser (RECE)",
            category=FILES,
            description=(
                "Writes an erasure to models/erasers, with the concepts and settings it was made with, and the workflow: drop the "
                "file on ComfyUI's page to open it."
            ),
            search_aliases=["export", "share"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                Eraser.Input("eraser", tooltip="The erasure to save."),
                file_name_input(),
                if_exists_input(),
            ],
            outputs=[
                io.String.Output(
                    "saved_name", display_name="file name", tooltip="The name under which 'Load Eraser' finds it."
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, eraser: EraserSet | None, file_name: str, if_exists: str) -> io.NodeOutput:
        present = connected(eraser)
        name = file_name.strip() or default_name(present.provenance)
        path, keep_existing = path_to_save(ERASERS, name), keeps_both(if_exists)
        path.parent.mkdir(parents=True, exist_ok=True)
        return saved_file(ERASERS, present.save(path, keep_existing, embedded_workflow(cls.hidden)))
