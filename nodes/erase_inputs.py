"""The many optional inputs of the main node: the numbers of the preset 'custom', and the methods."""

from __future__ import annotations

from comfy_api.latest import io

from ..rece_ops.projection import MAX_DIRECTIONS
from ..rece_ops.settings import DEFAULT_SETTINGS, MAX_EPOCHS
from . import methods, presets
from .host.compat import build


def custom_inputs() -> list[io.Input]:
    """The numbers that the preset 'custom' opens."""
    epochs = build(
        io.Int.Input,
        "epochs",
        default=DEFAULT_SETTINGS.epochs,
        min=0,
        max=MAX_EPOCHS,
        optional=True,
        advanced=True,
        tooltip="Only for 'custom': derive-and-erase steps after the first edit. 0 is UCE alone.",
    )
    return [
        epochs,
        _coefficient(
            "regularization",
            "Only for 'custom': λ_r of the derivation. Smaller finds stronger embeddings to erase, and spares less.",
        ),
        _coefficient(
            "edit_regularization",
            "Only for 'custom': λ of the edit. Larger keeps the weights closer to what they were.",
        ),
        _coefficient("erase_scale", "Only for 'custom': η, weight of the concepts in the edit."),
        _coefficient("preserve_scale", "Only for 'custom': μ, weight of the preserved prompts in the edit."),
    ]


def _coefficient(setting: str, tooltip: str) -> io.Input:
    """A number with the name and the default of one of the `RECESettings`."""
    return build(
        io.Float.Input,
        setting,
        default=getattr(DEFAULT_SETTINGS, setting),
        min=0.0,
        max=1e6,
        step=0.0001,
        round=False,
        optional=True,
        advanced=True,
        tooltip=tooltip,
    )


def method_inputs() -> list[io.Input]:
    """The choice of a method, and what belongs to each."""
    return [
        io.Combo.Input(
            "method",
            options=list(methods.METHODS),
            default=methods.RECE,
            optional=True,
            tooltip=(
                "RECE: the first edit, then epochs. UCE: the first edit alone. projection: removes the concept's "
                "directions, so that no embedding brings back what lies along them."
            ),
        ),
        io.Combo.Input(
            "robustness",
            options=[*methods.ROBUSTNESS, presets.CUSTOM],
            default=methods.DEFAULT_ROBUSTNESS,
            optional=True,
            tooltip=(
                "Only for the projection: from 'gentle' (spares everything else) to 'strict' (as far from the concept "
                "as any embedding can be kept). 'custom' uses beta."
            ),
        ),
        build(
            io.Float.Input,
            "beta",
            default=methods.ROBUSTNESS[methods.DEFAULT_ROBUSTNESS],
            min=0.0001,
            max=1e6,
            step=0.01,
            round=False,
            optional=True,
            advanced=True,
            tooltip="Only for the robustness 'custom': β. Larger is more robust and spares less.",
        ),
        build(
            io.Int.Input,
            "directions",
            default=0,
            min=0,
            max=MAX_DIRECTIONS,
            optional=True,
            advanced=True,
            tooltip="Only for the projection: how many directions to remove; 0 takes those that hold 90 % of the concepts.",
        ),
        build(
            io.Combo.Input,
            "iteration",
            options=list(methods.ITERATIONS),
            default=methods.PUBLISHED,
            optional=True,
            advanced=True,
            tooltip=(
                "Only for RECE. published: every epoch edits what the one before left. anchored: every epoch edits the "
                "original weights with all pairs so far."
            ),
        ),
        build(
            io.Combo.Input,
            "preservation",
            options=list(methods.PRESERVATIONS),
            default=methods.WEIGHED,
            optional=True,
            advanced=True,
            tooltip=(
                "weighed: preserved prompts pull against the erasure. exactly: they and the empty prompt do not change "
                "at all, and less of the concepts can be erased."
            ),
        ),
        _limit(
            "regeneration_limit",
            "Only for RECE: stop as soon as the derived embedding brings no concept back further than this; 0 never.",
        ),
        _limit(
            "drift_limit",
            "Only for RECE and UCE: how far everyday prompts may drift. Takes fewer epochs, or a lower erase_scale, to "
            "keep it; 0 is no limit.",
        ),
        io.Conditioning.Input(
            "embedding",
            optional=True,
            tooltip="An embedding to erase as well, such as one that 'Invert Concept' found.",
        ),
    ]


def _limit(name: str, tooltip: str) -> io.Input:
    return build(
        io.Float.Input,
        name,
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip=tooltip,
    )
