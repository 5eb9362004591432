"""The words that choices of the main node offer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CUSTOM = "custom"
"""Opens the numbers behind a choice of words."""

ROBUSTNESS: Mapping[str, float] = MappingProxyType({"gentle": 0.3, "balanced": 3.0, "robust": 30.0, "strict": 300.0})
"""β of the projection in words, from keeping everything else to holding against every embedding."""
DEFAULT_ROBUSTNESS = "robust"

PUBLISHED, ANCHORED = "published", "anchored"
ITERATIONS = (PUBLISHED, ANCHORED)

WEIGHED, EXACTLY = "weighed", "exactly"
PRESERVATIONS = (WEIGHED, EXACTLY)
