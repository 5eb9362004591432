"""The list of nodes that ComfyUI is told about."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_eraser import ApplyEraser, find_misfit
from .apply_eraser_to_conditioning import ApplyEraserToConditioning
from .attacks.concept_vector import ConceptVector
from .attacks.derive_embedding import DeriveEmbedding
from .attacks.invert_concept import InvertConcept
from .balance_concept import BalanceConcept
from .combine_erasers import CombineErasers
from .compare_erasure import CompareErasure
from .erase_concepts import EraseConcepts
from .erasure_report import ErasureReport
from .evaluation.detect_concept import DetectConcept
from .evaluation.evaluate_erasure import EvaluateErasure
from .evaluation.load_prompt_set import LoadPromptSet
from .host.folders import register_eraser_folder, register_evaluation_folders
from .host.routes import register_routes
from .import_eraser import ImportEraser
from .load_eraser import LoadEraser, describe_file
from .prune_concept import PruneConcept
from .save_eraser import SaveEraser
from .save_eraser_as_lora import SaveEraserAsLoRA
from .shape_eraser import ShapeEraser
from .suggest_concepts import SuggestConcepts
from .train_eraser import TrainEraser
from .unlearn_text_encoder import UnlearnTextEncoder


class RECEExtension(ComfyExtension):
    """Concept erasure nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes. Folders and routes are registered here because older hosts never call `on_load`."""
        register_eraser_folder()
        register_evaluation_folders()
        register_routes({"/rece/eraser": describe_file, "/rece/misfit": find_misfit})
        return [
            EraseConcepts,
            ApplyEraser,
            ApplyEraserToConditioning,
            CombineErasers,
            SaveEraser,
            LoadEraser,
            ImportEraser,
            SaveEraserAsLoRA,
            DeriveEmbedding,
            ConceptVector,
            InvertConcept,
            ErasureReport,
            CompareErasure,
            LoadPromptSet,
            DetectConcept,
            EvaluateErasure,
            SuggestConcepts,
            TrainEraser,
            PruneConcept,
            UnlearnTextEncoder,
            ShapeEraser,
            BalanceConcept,
        ]
