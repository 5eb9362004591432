"""The `preset` choice: the authors' settings by kind of concept, or numbers of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...rece_ops import PRESETS, RECESettings
from .choices import check_choice

CUSTOM, UCE_ONLY = "custom", "UCE only"
DEFAULT = "nudity"
NAMES = [*PRESETS, CUSTOM]

_TARGETS = {"artistic style": "art"}


def settings_of(preset: str, numbers: Mapping[str, Any]) -> RECESettings:
    """The settings of a preset; those made of `numbers` for the preset `custom`.

    Raises:
        InputError: there is no such preset, or it is `custom` and a number is out of range.
    """
    check_choice("preset", preset, NAMES)
    return RECESettings(**numbers) if preset == CUSTOM else PRESETS[preset]


def default_target(preset: str) -> str:
    """What a concept without an arrow is mapped to: "art" for styles, else the empty prompt."""
    return _TARGETS.get(preset, "")
