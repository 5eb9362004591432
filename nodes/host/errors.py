"""Errors about what a person connected; each sentence says what to connect instead."""

from __future__ import annotations

from ...rece_ops import InputError


class NotFiniteError(InputError):
    """What a patch would write is NaN or infinite."""


class UnsupportedModelError(InputError):
    """The MODEL reads no text, or reads it where this pack cannot follow exactly."""


class WrongConnectionError(InputError):
    """CLIP, MODEL and ERASER do not belong together, or one of them is missing."""
