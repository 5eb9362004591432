"""The `preset` choice: the authors' settings by kind of concept, or numbers of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...rece_ops import PRESETS, RECESettings
from .choices import check_choice
from .vocabulary import CUSTOM

UCE_ONLY = "UCE only"
DEFAULT = "nudity"
NAMES = [*PRESETS, CUSTOM]

_TARGETS = {"artistic style": "art", "artistic style, as the authors' scripts": "art"}
# What the node has an input for.
_NUMBERS = tuple(field.name for field in fields(RECESettings) if field.name not in ("anchored", "first_preserve_scale"))


def settings_of(preset: str, numbers: Mapping[str, Any]) -> RECESettings:
    """The settings of a preset; for 'custom', those among `numbers` that have their names.

    Raises:
        InputError: there is no such preset, or it is 'custom' and a number is out of range.
    """
    check_choice("preset", preset, NAMES)
    if preset != CUSTOM:
        return PRESETS[preset]
    return RECESettings(**{name: numbers[name] for name in _NUMBERS if name in numbers})


def default_target(preset: str, custom: str = "") -> str:
    """What a concept without an arrow is mapped to: "art" for styles, `custom` for numbers of one's own, else nothing."""
    return custom.strip() if preset == CUSTOM else _TARGETS.get(preset, "")


def values_of(preset: str) -> dict[str, Any]:
    """What the inputs of 'custom' are in a preset, by their names."""
    settings = settings_of(preset, {})
    return {**{name: getattr(settings, name) for name in _NUMBERS}, "target": default_target(preset)}
