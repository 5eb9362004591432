"""Closed-form concept erasure for text-to-image models: mathematics on tensors, without ComfyUI."""

from .derivation import Derivation, Regenerated, WeightMoments, derive_embedding, regenerate
from .directions import Differences, concept_spectrum
from .erase import Epoch, Erasure, edit, erase, iterate
from .eraser import POOLED_STREAM, Eraser, EraserSet
from .errors import EraserFileError, InputError, NumericalError, RECEError
from .gram import gram_matrix
from .limits import Limits, keep_within
from .lora import lora_factors
from .measures import ConceptMeasures, GivenErasure, Measures, measure, measure_steps, relative_changes, worst
from .pairs import ConceptPair, Contrast
from .projection import Projection, ProjectionSettings, project, project_differences
from .provenance import Provenance
from .settings import PRESETS, RECESettings

__version__ = "0.1.0"

__all__ = [
    "POOLED_STREAM",
    "PRESETS",
    "ConceptMeasures",
    "ConceptPair",
    "Contrast",
    "Derivation",
    "Differences",
    "Epoch",
    "Eraser",
    "EraserFileError",
    "EraserSet",
    "Erasure",
    "GivenErasure",
    "InputError",
    "Limits",
    "Measures",
    "NumericalError",
    "Projection",
    "ProjectionSettings",
    "Provenance",
    "RECEError",
    "RECESettings",
    "Regenerated",
    "WeightMoments",
    "concept_spectrum",
    "derive_embedding",
    "edit",
    "erase",
    "gram_matrix",
    "iterate",
    "keep_within",
    "lora_factors",
    "measure",
    "measure_steps",
    "project",
    "project_differences",
    "regenerate",
    "relative_changes",
    "worst",
]
