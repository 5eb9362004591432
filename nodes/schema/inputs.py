"""Inputs that several nodes have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from comfy_api.latest import io

from ...rece_ops import EraserSet
from ..host.errors import WrongConnectionError
from ..request.erase_inputs import counts_for, tooltip_of
from ..request.input_specs import ChoiceSpec, CountSpec, InputSpec, NumberSpec, TextSpec
from ..request.presets import DEFAULT, NAMES, values_of
from ..request.vocabulary import CUSTOM
from .compat import build
from .sockets import Eraser

COUNTS_FOR = "rece_counts_for"
"""What an input's options carry: the values of other choices with which it counts."""

PRESETS = "rece_presets"
"""What the options of 'preset' carry: the values that the inputs of 'custom' begin with, by the preset before it."""

AFTER = "rece_after"
"""What an input's options carry: the input that it is shown below."""

EXPLAINED = "rece_explained"
"""What a choice's options carry: when to take each of them."""


def model_input() -> io.Input:
    """The MODEL of a node that gives it back erased."""
    return io.Model.Input("model", tooltip="The model to erase from. It is not changed; the output is a patched clone.")


def clip_input() -> io.Input:
    """The CLIP of a node that reads prompts as the MODEL's text encoder does."""
    return io.Clip.Input("clip", tooltip="The text encoder that belongs to the model.")


def eraser_input() -> io.Input:
    """The ERASER of a node that puts it on something."""
    return Eraser.Input("eraser", tooltip="From 'Erase Concepts', 'Load Eraser' or 'Combine Erasers'.")


def strength_input(name: str, tooltip: str, optional: bool = False) -> io.Input:
    """How much of an erasure: 0 is none of it, 1 all of it, and up to 2 goes beyond."""
    return io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.01, optional=optional, tooltip=tooltip)


def schedule_inputs() -> list[io.Input]:
    """From which step to which an erasure counts, as on ControlNet's nodes."""
    return [
        number_input(
            "start_percent",
            0.0,
            "From where in the sampling the erasure counts: 0 is the first step, 0.5 the middle of the noise schedule.",
            high=1.0,
            step=0.001,
            advanced=False,
        ),
        number_input(
            "end_percent",
            1.0,
            "Up to where in the sampling the erasure counts: 1 is the last step.",
            high=1.0,
            step=0.001,
            advanced=False,
        ),
    ]


def number_input(
    name: str,
    default: float,
    tooltip: str,
    low: float = 0.0,
    high: float = 1e6,
    step: float = 0.0001,
    advanced: bool = True,
) -> io.Input:
    """An optional number, mostly among a node's advanced inputs, not rounded to its steps."""
    made = build(
        io.Float.Input,
        name,
        default=default,
        min=low,
        max=high,
        step=step,
        round=False,
        optional=True,
        advanced=advanced,
        tooltip=tooltip,
    )
    return _advanced(made) if advanced else made


def preset_input() -> io.Input:
    """The choice of the authors' settings."""
    made = io.Combo.Input(
        "preset",
        options=NAMES,
        default=DEFAULT,
        tooltip="The authors' settings for each kind of concept. 'custom' starts from the preset chosen before it and lets you change "
        "its numbers.",
    )
    return _with(made, PRESETS, {name: values_of(name) for name in NAMES if name != CUSTOM})


def _advanced(made: io.Input) -> io.Input:
    """`made`, marked for hosts whose schema does not know the word: their frontend does."""
    return _with(made, "advanced", True)


def _with(made: io.Input, key: str, value: object) -> io.Input:
    made.extra_dict = {**(made.extra_dict or {}), key: value}
    return made


def counting_with(made: io.Input, choice: str, values: Sequence[str]) -> io.Input:
    """`made`, which the front end shows only while that choice of the node has one of those values."""
    return _with(made, COUNTS_FOR, {choice: list(values)})


def choice_input(name: str, options: Sequence[str], default: str, tooltip: str, advanced: bool = False) -> io.Input:
    """An optional choice, plain or among a node's advanced inputs."""
    made = build(
        io.Combo.Input,
        name,
        options=list(options),
        default=default,
        optional=True,
        advanced=advanced,
        tooltip=tooltip,
    )
    return _advanced(made) if advanced else made


def switch_input(name: str, default: bool, tooltip: str) -> io.Input:
    """An optional yes or no among a node's advanced inputs."""
    return _advanced(build(io.Boolean.Input, name, default=default, optional=True, advanced=True, tooltip=tooltip))


def text_input(name: str, tooltip: str) -> io.Input:
    """An optional line of text among a node's advanced inputs."""
    return _advanced(build(io.String.Input, name, default="", optional=True, advanced=True, tooltip=tooltip))


def count_input(
    name: str, default: int, tooltip: str, low: int = 0, high: int = 100, advanced: bool = True
) -> io.Input:
    """An optional whole number, mostly among a node's advanced inputs."""
    made = build(
        io.Int.Input, name, default=default, min=low, max=high, optional=True, advanced=advanced, tooltip=tooltip
    )
    return _advanced(made) if advanced else made


def erase_inputs(specs: Iterable[InputSpec]) -> list[io.Input]:
    """The optional inputs that choose a method and its settings, as the front end shows them.

    Each carries the choices with which it counts, for `web/js/choices.js`.
    """
    return [_of_spec(spec) for spec in specs]


def _of_spec(spec: InputSpec) -> io.Input:
    tooltip = tooltip_of(spec)
    match spec:
        case NumberSpec():
            found = number_input(spec.name, spec.default, tooltip, spec.low, spec.high, spec.step, spec.advanced)
        case CountSpec():
            found = count_input(spec.name, spec.default, tooltip, spec.low, spec.high, spec.advanced)
        case ChoiceSpec():
            found = choice_input(spec.name, spec.options, spec.default, tooltip, spec.advanced)
            if spec.explained:
                _with(found, EXPLAINED, dict(spec.explained))
        case TextSpec():
            found = io.String.Input(spec.name, default=spec.default, optional=True, tooltip=tooltip)
        case _:
            found = switch_input(spec.name, spec.default, tooltip)
    counts = counts_for(spec)
    for key, value in ((COUNTS_FOR, counts), (AFTER, spec.after)):
        if value:
            _with(found, key, value)
    return found


def connected(eraser: EraserSet | None) -> EraserSet:
    """`eraser` itself; raises WrongConnectionError where there is none."""
    if eraser is None:
        raise WrongConnectionError("ERASER is None: connect that of an 'Erase Concepts' or 'Load Eraser' node.")
    return eraser
