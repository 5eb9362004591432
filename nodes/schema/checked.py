"""The inputs of a node, checked by its own schema before it does any work.

Hosts let through what they do not expect: literals in place of links, NaN, anything at all as the value of a choice, and
whatever another pack's node sends.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ...rece_ops import InputError
from ...rece_ops.texts import quoted
from ..host.connections import check_connection
from ..request.typed_text import check_text


def checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a node's method look at its inputs first: those that it names, and those in its `**inputs`.

    Raises (from the method):
        InputError: a value is not of its input's type, not finite, or cannot be encoded.
        WrongConnectionError: something else than the type of the input is connected to it.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def with_checks(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(cls, *args, **kwargs).arguments
        given = {**bound.pop("inputs", {}), **bound}
        schema = cls.define_schema()
        for declared in schema.inputs:
            for value in _values(given, declared.id, schema.is_input_list):
                _check(declared, value)
        return method(cls, *args, **kwargs)

    return with_checks


def _values(given: Mapping[str, Any], name: str, lists: bool) -> Sequence[Any]:
    """What an input got: one value, several where the node takes lists, or none."""
    if name not in given:
        return ()
    return given[name] if lists and isinstance(given[name], list) else [given[name]]


def _check(declared: io.Input, value: Any) -> None:
    match str(declared.get_io_type()):
        case "INT":
            _check_number(declared, value, whole=True)
        case "FLOAT":
            _check_number(declared, value, whole=False)
        case "BOOLEAN":
            if not isinstance(value, bool):
                raise InputError(f"'{declared.id}' is {quoted(value)}: give true or false.")
        case "STRING":
            if not isinstance(value, str):
                raise InputError(f"'{declared.id}' is {quoted(value)}, which is no text: type one.")
            check_text(declared.id, value)
        case "COMBO":
            # Whether it is one of the choices, or the name of a file, is checked where it is used.
            if not isinstance(value, str):
                raise InputError(f"'{declared.id}' is {quoted(value)}, which is no choice: take one from the list.")
            check_text(declared.id, value)
        case kind:
            check_connection(kind, declared.id, value)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # a whole number beyond all floats


def _check_number(declared: Any, value: Any, whole: bool) -> None:
    """What is linked may lie outside the widget's range: whether a node can do with it is the node's own question."""
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not _is_finite(value):
        what = "a whole number" if whole else "a number"
        raise InputError(f"{declared.id} is {quoted(value)}: give {what} from {declared.min} to {declared.max}.")
