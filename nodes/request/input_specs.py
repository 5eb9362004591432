"""What an input of a node is, in plain values: its default, its range, and when it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

ALWAYS: Mapping[str, tuple[str, ...]] = MappingProxyType({})
NOT_EXPLAINED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input that a person can leave alone.

    Attributes:
        name: its id in saved workflows.
        default: its value where it is left alone.
        tooltip: what it does. For which method it is, the registry of methods says.
        when: values of other choices under which it counts; with none, it always does.
        exclusive: whether a value other than the default is an error where the input does not count. Otherwise the value
            has no effect there.
        advanced: whether it is folded away until a person asks for it.
        after: the input that it is shown below, where that is not the one before it. Saved workflows keep its old place.
    """

    name: str
    default: Any
    tooltip: str
    when: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ALWAYS)
    exclusive: bool = False
    advanced: bool = True
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class NumberSpec(InputSpec):
    """A number from `low` to `high`; a control moves it by `step`."""

    low: float = 0.0
    high: float = 1e6
    step: float = 0.0001


@dataclass(frozen=True, kw_only=True)
class CountSpec(InputSpec):
    """A whole number from `low` to `high`."""

    low: int = 0
    high: int = 100


@dataclass(frozen=True, kw_only=True)
class ChoiceSpec(InputSpec):
    """One of `options`; `explained` says of an option when to take it, in one sentence."""

    options: Sequence[str]
    explained: Mapping[str, str] = field(default_factory=lambda: NOT_EXPLAINED)


@dataclass(frozen=True, kw_only=True)
class TextSpec(InputSpec):
    """A line of text."""


@dataclass(frozen=True, kw_only=True)
class SwitchSpec(InputSpec):
    """Yes or no."""
