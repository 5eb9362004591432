"""Errors about what a person connected, or has not installed; each sentence says what to do about it."""

from __future__ import annotations

from ...rece_ops import InputError


class MissingPackageError(InputError):
    """A package or file that is no part of ComfyUI is needed, and is not there."""


class NotFiniteError(InputError):
    """What a patch would write is NaN or infinite."""


class UnsupportedModelError(InputError):
    """The MODEL reads no text, or reads it where this pack cannot follow exactly."""


class WrongConnectionError(InputError):
    """CLIP, MODEL and ERASER do not belong together, or one of them is missing."""
