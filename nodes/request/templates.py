"""Prompt templates inside which a concept is erased too: those of UCE's experiments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .choices import check_choice

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "artist": ("painting by {}", "art by {}", "artwork by {}", "picture by {}", "style of {}"),
        "object": ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}"),
    }
)
"""Templates by name; the concept itself always comes first."""


def expand_templates(concept: str, templates: str) -> list[str]:
    """The prompts that stand for `concept`: itself, and itself in every template.

    Raises:
        InputError: there are no templates of that name.
    """
    check_choice("templates", templates, TEMPLATES)
    return [concept, *(template.replace("{}", concept) for template in TEMPLATES[templates])]
