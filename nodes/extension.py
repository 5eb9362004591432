"""The list of nodes that ComfyUI is told about."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_eraser import ApplyEraser, CombineErasers
from .concept_vector import ConceptVector
from .derive_embedding import DeriveEmbedding
from .erase_concepts import EraseConcepts
from .erase_conditioning import ApplyEraserToConditioning
from .eraser_files import LoadEraser, SaveEraser, SaveEraserAsLoRA
from .erasure_report import ErasureReport
from .host.storage import register_eraser_folder
from .invert_concept import InvertConcept


class RECEExtension(ComfyExtension):
    """Concept erasure nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes. The folder is registered here because older hosts never call `on_load`."""
        register_eraser_folder()
        return [
            EraseConcepts,
            ApplyEraser,
            ApplyEraserToConditioning,
            CombineErasers,
            SaveEraser,
            LoadEraser,
            SaveEraserAsLoRA,
            DeriveEmbedding,
            ConceptVector,
            InvertConcept,
            ErasureReport,
        ]
