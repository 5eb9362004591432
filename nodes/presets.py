"""The `preset` choice: the authors' settings by kind of concept, or numbers of one's own."""

from __future__ import annotations

from ..rece_ops import PRESETS, RECESettings

CUSTOM = "custom"
DEFAULT = "nudity"
NAMES = [*PRESETS, CUSTOM]

_TARGETS = {"artistic style": "art"}


def settings_of(preset: str, custom: RECESettings) -> RECESettings:
    """The settings of a preset; `custom` for the preset of that name."""
    return custom if preset == CUSTOM else PRESETS[preset]


def default_target(preset: str) -> str:
    """What a concept without an arrow is mapped to: "art" for styles, else the empty prompt."""
    return _TARGETS.get(preset, "")
