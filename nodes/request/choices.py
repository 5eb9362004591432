"""Combo values that come from a saved workflow or the API: older hosts do not check them."""

from __future__ import annotations

from collections.abc import Iterable

from ...rece_ops import InputError
from ...rece_ops.texts import quoted


def check_choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raise InputError unless `value` is one of the `options` of the input `name`."""
    known = list(options)
    if value not in known:
        raise InputError(f"The input '{name}' is {quoted(value)}, which is no choice: take one of {', '.join(known)}.")
