"""Closed-form concept erasure for text-to-image models: mathematics on tensors, without ComfyUI."""

from .erase import Derivation, Epoch, Erasure, derive_embedding, edit, erase
from .eraser import Eraser, EraserSet
from .errors import EraserFileError, InputError, NumericalError, RECEError
from .gram import gram_matrix
from .lora import lora_factors
from .measures import ConceptMeasures, Measures, measure, measure_steps, relative_changes
from .pairs import ConceptPair
from .projection import Projection, ProjectionSettings, project
from .settings import PRESETS, RECESettings

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "ConceptMeasures",
    "ConceptPair",
    "Derivation",
    "Epoch",
    "Eraser",
    "EraserFileError",
    "EraserSet",
    "Erasure",
    "InputError",
    "Measures",
    "NumericalError",
    "Projection",
    "ProjectionSettings",
    "RECEError",
    "RECESettings",
    "derive_embedding",
    "edit",
    "erase",
    "gram_matrix",
    "lora_factors",
    "measure",
    "measure_steps",
    "project",
    "relative_changes",
]
