"""The templates that `python -m tools.templates` writes."""

from .other_models import TEMPLATES as OTHER_MODELS
from .sd15 import TEMPLATES as SD15
from .training import TEMPLATES as TRAINING

TEMPLATES = (*SD15, *OTHER_MODELS, *TRAINING)
