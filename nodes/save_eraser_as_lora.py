"""An ERASER as a LoRA for one MODEL."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..rece_ops import EraserSet
from ..rece_ops.formats.atomic import save_atomically
from ..rece_ops.settings import check_strength
from .host.folders import LORAS, default_name, path_to_save
from .host.protocols import Model
from .request.choices import check_choice
from .schema.checked import checked
from .schema.compat import build
from .schema.files import file_name_input, if_exists_input, keeps_both, saved_file
from .schema.inputs import connected, strength_input
from .schema.sockets import FILES, Eraser

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
            search_aliases=["export", "convert", "share"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model without the erasure, with the LoRAs that the file should be exact for."
                ),
                Eraser.Input("eraser", tooltip="The erasure to save."),
                file_name_input(),
                if_exists_input(),
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
        from .host.jobs.export_lora import lora_metadata, lora_tensors
        from .host.session import Session

        check_strength(strength)
        present, session = connected(eraser), Session.open(model)
        name = file_name.strip() or f"{default_name(present.provenance)}_lora"
        path, keep_existing = path_to_save(LORAS, name), keeps_both(if_exists)
        metadata = lora_metadata(session.architecture, present)
        check_choice("dtype", dtype, _DTYPES)
        tensors = lora_tensors(session, present, strength, max_rank, _DTYPES[dtype])
        path.parent.mkdir(parents=True, exist_ok=True)
        return saved_file(LORAS, save_atomically(path, tensors, metadata, keep_existing))
