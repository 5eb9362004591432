"""The eraser on disk: save it, load it, save it as a LoRA."""

from __future__ import annotations

from pathlib import Path

import torch
from comfy_api.latest import io, ui

from ..rece_ops import EraserSet
from ..rece_ops.formats.atomic import save_atomically
from ..rece_ops.settings import check_strength
from .host.folders import ERASERS, LORAS, default_name, eraser_names, existing_eraser, path_to_save, shown
from .host.jobs.export_lora import lora_metadata, lora_tensors
from .host.protocols import Model
from .host.session import Session
from .reporting.sentences import eraser_description
from .request.choices import check_choice
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import connected, strength_input
from .schema.sockets import FILES, Eraser

KEEP_BOTH, REPLACE = "keep both", "replace"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class SaveEraser(io.ComfyNode):
    """ERASER → a small file in models/erasers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_SaveEraser",
            display_name="Save Eraser (RECE)",
            category=FILES,
            description="Writes an erasure to models/erasers, with the concepts and settings it was made with.",
            is_output_node=True,
            inputs=[
                Eraser.Input("eraser", tooltip="The erasure to save."),
                _file_name(),
                _if_exists(),
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
        path, keep_existing = path_to_save(ERASERS, name), _keeps_both(if_exists)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _saved(ERASERS, present.save(path, keep_existing))


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
        status = existing_eraser(eraser_name).stat()
        return f"{status.st_mtime_ns}-{status.st_size}"

    @classmethod
    @checked
    def execute(cls, eraser_name: str) -> io.NodeOutput:
        eraser = EraserSet.load(existing_eraser(eraser_name))
        description = eraser_description(eraser)
        return io.NodeOutput(eraser, description, ui=ui.PreviewText(description))


class SaveEraserAsLoRA(io.ComfyNode):
    """MODEL + ERASER → a LoRA in models/loras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_SaveEraserAsLoRA",
            display_name="Save Eraser as LoRA (RECE)",
            category=FILES,
            description=(
                "Writes an erasure as a LoRA that ComfyUI's own loaders, A1111/Forge and diffusers read. It is exact for the "
                "model connected here and close on its fine-tunes; the eraser file is exact on all of them."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model without the erasure, with the LoRAs that the file should be exact for."
                ),
                Eraser.Input("eraser", tooltip="The erasure to save."),
                _file_name(),
                _if_exists(),
                strength_input("strength", "Baked into the file: at LoRA strength 1 it erases with this strength."),
                io.Int.Input(
                    "max_rank",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="0 keeps the erasure exact. Another rank makes a smaller file, with the closest LoRA of that rank.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(_DTYPES),
                    default="float32",
                    tooltip="float32 is exact; float16 halves the file and rounds the change by about 0.05 %.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "saved_name", display_name="file name", tooltip="The name under which 'Load LoRA' finds it."
                )
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        eraser: EraserSet | None,
        file_name: str,
        if_exists: str,
        strength: float,
        max_rank: int,
        dtype: str,
    ) -> io.NodeOutput:
        check_strength(strength)
        present, session = connected(eraser), Session.open(model)
        name = file_name.strip() or f"{default_name(present.provenance)}_lora"
        path, keep_existing = path_to_save(LORAS, name), _keeps_both(if_exists)
        metadata = lora_metadata(session.architecture, present)
        check_choice("dtype", dtype, _DTYPES)
        tensors = lora_tensors(session, present, strength, max_rank, _DTYPES[dtype])
        path.parent.mkdir(parents=True, exist_ok=True)
        return _saved(LORAS, save_atomically(path, tensors, metadata, keep_existing))


def _file_name() -> io.Input:
    return io.String.Input(
        "file_name",
        default="",
        placeholder="named after the concepts",
        tooltip="The name of the file; '/' makes sub-folders. '.safetensors' is added. Empty: named after the concepts.",
    )


def _if_exists() -> io.Input:
    return io.Combo.Input(
        "if_exists",
        options=[KEEP_BOTH, REPLACE],
        default=KEEP_BOTH,
        tooltip="If there is a file of that name: add a number to the new name, or replace the old file.",
    )


def _keeps_both(if_exists: str) -> bool:
    check_choice("if_exists", if_exists, (KEEP_BOTH, REPLACE))
    return if_exists == KEEP_BOTH


def _saved(folder: str, path: Path) -> io.NodeOutput:
    """The name by which the file at `path` in a model folder can be chosen, and a sentence."""
    name = shown(folder, path)
    return io.NodeOutput(name, ui=ui.PreviewText(f"Saved models/{folder}/{name} ({_size(path.stat().st_size)})."))


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
