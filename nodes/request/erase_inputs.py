"""The optional inputs that choose a method and its settings, and what they say together.

Saved workflows hold these inputs by name and place: append new ones, never reorder or rename.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ...rece_ops import InputError
from ...rece_ops.methods.projection import MAX_DIRECTIONS
from ...rece_ops.settings import DEFAULT_SETTINGS, MAX_EPOCHS
from ...rece_ops.texts import quoted
from . import vocabulary as words
from .choices import check_choice
from .input_specs import ChoiceSpec, CountSpec, InputSpec, NumberSpec, TextSpec
from .methods import DEFAULT_METHOD, METHODS, Plan, methods_with

_CUSTOM_PRESET: Mapping[str, tuple[str, ...]] = MappingProxyType({"preset": (words.CUSTOM,)})


def _coefficient(name: str, after: str, tooltip: str) -> NumberSpec:
    default = getattr(DEFAULT_SETTINGS, name)
    return NumberSpec(name=name, default=default, tooltip=tooltip, when=_CUSTOM_PRESET, advanced=False, after=after)


NUMBERS: tuple[InputSpec, ...] = (
    CountSpec(
        name="epochs",
        default=DEFAULT_SETTINGS.epochs,
        high=MAX_EPOCHS,
        tooltip="How often to derive the embedding that brings the concepts back and erase it too. 0 is UCE alone.",
        when=_CUSTOM_PRESET,
        advanced=False,
        after="target",
    ),
    _coefficient(
        "regularization",
        "epochs",
        "λ_r of the derivation. A smaller value finds stronger embeddings to erase, and changes other prompts more.",
    ),
    _coefficient(
        "edit_regularization",
        "regularization",
        "λ of the edit. A larger value keeps the weights closer to the original.",
    ),
    _coefficient("erase_scale", "edit_regularization", "η, the weight of the concepts in the edit."),
    _coefficient("preserve_scale", "erase_scale", "μ, the weight of the preserved prompts in the edit."),
)
"""The numbers that the preset 'custom' opens."""

CHOICES: tuple[InputSpec, ...] = (
    ChoiceSpec(
        name="method",
        default=DEFAULT_METHOD,
        options=tuple(METHODS),
        tooltip=" ".join(method.price for method in METHODS.values()),
        advanced=False,
        after="concepts",
        explained=MappingProxyType({name: method.price for name, method in METHODS.items()}),
    ),
    ChoiceSpec(
        name="robustness",
        default=words.DEFAULT_ROBUSTNESS,
        options=(*words.ROBUSTNESS, words.CUSTOM),
        tooltip="From 'gentle' (changes other prompts least) to 'strict' (keeps every embedding as far from the concept as "
        "possible). 'custom' uses beta.",
        advanced=False,
        after="method",
    ),
    NumberSpec(
        name="beta",
        default=words.ROBUSTNESS[words.DEFAULT_ROBUSTNESS],
        low=0.0001,
        step=0.01,
        tooltip="β: a larger value is more robust and changes other prompts more.",
        when=MappingProxyType({"robustness": (words.CUSTOM,)}),
        advanced=False,
        after="robustness",
    ),
    CountSpec(
        name="directions",
        default=0,
        high=MAX_DIRECTIONS,
        tooltip="How many directions to remove. 0 takes as many as hold 90 % of what sets the concepts apart from other "
        "words.",
        exclusive=True,
    ),
    ChoiceSpec(
        name="iteration",
        default=words.PUBLISHED,
        options=words.ITERATIONS,
        tooltip="published: every epoch edits the weights that the previous one left. anchored: every epoch edits the original "
        "weights, with all pairs found so far.",
    ),
    ChoiceSpec(
        name="preservation",
        default=words.WEIGHED,
        options=words.PRESERVATIONS,
        tooltip="weighed: preserved prompts are weighed against the erasure. exactly: they and the empty prompt do not change at "
        "all, so less of the concepts can be erased.",
    ),
    NumberSpec(
        name="regeneration_limit",
        default=0.0,
        high=1.0,
        step=0.01,
        tooltip="Stop as soon as the derived embedding brings no concept back by more than this. 0 never stops early.",
        exclusive=True,
    ),
    NumberSpec(
        name="drift_limit",
        default=0.0,
        high=1.0,
        step=0.01,
        tooltip="How far everyday prompts may drift. Fewer epochs or a lower erase_scale keep them below it. 0 is no limit.",
        exclusive=True,
    ),
)
"""The choice of a method, and what belongs to each."""

TARGET = TextSpec(
    name="target",
    default="",
    tooltip="What concepts without an arrow are mapped to. Leave it empty for the empty prompt. The other presets bring their own target.",
    when=_CUSTOM_PRESET,
    advanced=False,
    after="preset",
)

_BY_NAME: Mapping[str, InputSpec] = MappingProxyType({spec.name: spec for spec in (*NUMBERS, *CHOICES)})


def plan_of(inputs: Mapping[str, Any]) -> Plan:
    """The method that a person chose, with its settings.

    Args:
        inputs: 'preset', and any of the inputs above; those left out have their default.

    Raises:
        InputError: a value does not fit its input, does not count for the method, or contradicts another.
    """
    values = {name: inputs.get(name, spec.default) for name, spec in _BY_NAME.items()}
    for name, spec in _BY_NAME.items():
        if isinstance(spec, ChoiceSpec):
            check_choice(name, values[name], spec.options)
    method = METHODS[values["method"]]
    for name, spec in _BY_NAME.items():
        _check_counts(spec, values[name], method.name)
    return method.plan({**values, "preset": inputs["preset"]})


def tooltip_of(spec: InputSpec) -> str:
    """When the input counts, and what it does."""
    only = [*_only_methods(spec.name), *(f"the {choice} '{value}'" for choice, value in _only_choices(spec))]
    return f"Only with {' and '.join(only)}. {spec.tooltip}" if only else spec.tooltip


def counts_for(spec: InputSpec) -> dict[str, list[str]]:
    """The values of every choice with which the input counts, by the choice's name; for the front end."""
    methods = methods_with(spec.name)
    found = {choice: list(values) for choice, values in spec.when.items()}
    return {**found, "method": list(methods)} if methods and len(methods) < len(METHODS) else found


def _only_methods(name: str) -> list[str]:
    methods = methods_with(name)
    return [f"the method {' or '.join(methods)}"] if 0 < len(methods) < len(METHODS) else []


def _only_choices(spec: InputSpec) -> list[tuple[str, str]]:
    return [(choice, value) for choice, values in spec.when.items() for value in values]


def _check_counts(spec: InputSpec, value: Any, method: str) -> None:
    """Raise InputError where an input that only some methods have was set for another."""
    methods = methods_with(spec.name)
    if spec.exclusive and method not in methods and value != spec.default:
        raise InputError(
            f"'{spec.name}' is {value:g}, but the method '{method}' does not use it: set it to {spec.default:g}, or choose "
            f"the method {' or '.join(repr(name) for name in methods)}."
        )


def given_inputs(settings: Iterable[str]) -> dict[str, Any]:
    """Inputs that were typed as 'name=value' on a command line, each as its kind of input.

    Raises:
        InputError: one is no such pair, or has another kind of value than its input.
    """
    return dict(_given(setting) for setting in settings)


def _given(setting: str) -> tuple[str, Any]:
    name, equals, text = setting.partition("=")
    kinds: dict[str, type] = {"templates": str, "pooled": bool, **{one: _kind(spec) for one, spec in _BY_NAME.items()}}
    if not equals or name not in kinds:
        raise InputError(f"{quoted(setting)} is no setting: give name=value, with a name out of {', '.join(kinds)}.")
    if kinds[name] is bool:
        check_choice(name, text.lower(), ("true", "false"))
        return name, text.lower() == "true"
    try:
        return name, kinds[name](text)
    except ValueError:
        raise InputError(f"'{name}' is {quoted(text)}: give a number.") from None


def _kind(spec: InputSpec) -> type:
    match spec:
        case NumberSpec():
            return float
        case CountSpec():
            return int
        case ChoiceSpec():
            return str
        case _:
            return bool
