"""Closed-form concept erasure for text-to-image models: mathematics on tensors, without ComfyUI."""

from .adapters import Adapter, Adapters
from .attacks.derivation import Regenerated, WeightMoments, derive_embedding, regenerate
from .eraser import POOLED_STREAM, Eraser
from .eraser_set import EraserSet, Part
from .errors import EraserFileError, InputError, NumericalError, RECEError
from .linear.directions import Differences, concept_spectrum
from .linear.gram import gram_matrix
from .low_rank import lora_factors
from .measures.erasure import measure
from .measures.limits import KeptLimits, Limits, keep_limits
from .measures.outputs import relative_changes
from .measures.records import ConceptMeasures, ExistingErasure, Measures, worst_case
from .methods.projection import Projection, ProjectionSettings, project, project_differences
from .methods.rece import Epoch, Erasure, edit, erase, iterate
from .pairs import ConceptPair, Contrast
from .provenance import Provenance
from .schedule import ALWAYS, Schedule
from .settings import PRESETS, RECESettings
from .shape import WHOLE, Shape
from .sparse_change import SparseChange, SparseNumbers
from .weight_change import LowRank, WeightChange

__version__ = "0.1.0"

__all__ = [
    "ALWAYS",
    "POOLED_STREAM",
    "PRESETS",
    "WHOLE",
    "Adapter",
    "Adapters",
    "ConceptMeasures",
    "ConceptPair",
    "Contrast",
    "Differences",
    "Epoch",
    "Eraser",
    "EraserFileError",
    "EraserSet",
    "Erasure",
    "ExistingErasure",
    "InputError",
    "KeptLimits",
    "Limits",
    "LowRank",
    "Measures",
    "NumericalError",
    "Part",
    "Projection",
    "ProjectionSettings",
    "Provenance",
    "RECEError",
    "RECESettings",
    "Regenerated",
    "Schedule",
    "Shape",
    "SparseChange",
    "SparseNumbers",
    "WeightChange",
    "WeightMoments",
    "concept_spectrum",
    "derive_embedding",
    "edit",
    "erase",
    "gram_matrix",
    "iterate",
    "keep_limits",
    "lora_factors",
    "measure",
    "project",
    "project_differences",
    "regenerate",
    "relative_changes",
    "worst_case",
]
