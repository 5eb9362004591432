"""The many optional inputs of the main node: the numbers of the preset 'custom', and the methods."""

from __future__ import annotations

from comfy_api.latest import io

from ...rece_ops.methods.projection import MAX_DIRECTIONS
from ...rece_ops.settings import DEFAULT_SETTINGS, MAX_EPOCHS
from .. import methods, presets
from .inputs import choice_input, count_input, number_input, switch_input


def custom_inputs() -> list[io.Input]:
    """The numbers that the preset 'custom' opens."""
    return [
        count_input(
            "epochs",
            DEFAULT_SETTINGS.epochs,
            "Only for 'custom': derive-and-erase steps after the first edit. 0 is UCE alone.",
            high=MAX_EPOCHS,
        ),
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


def method_inputs() -> list[io.Input]:
    """The choice of a method, and what belongs to each."""
    return [
        choice_input(
            "method",
            methods.METHODS,
            methods.RECE,
            "RECE: the first edit, then epochs. UCE: the first edit alone. projection: removes the concept's "
            "directions, so that no embedding brings back what lies along them.",
        ),
        choice_input(
            "robustness",
            [*methods.ROBUSTNESS, presets.CUSTOM],
            methods.DEFAULT_ROBUSTNESS,
            "Only for the projection: from 'gentle' (spares everything else) to 'strict' (as far from the concept "
            "as any embedding can be kept). 'custom' uses beta.",
        ),
        number_input(
            "beta",
            methods.ROBUSTNESS[methods.DEFAULT_ROBUSTNESS],
            "Only for the robustness 'custom': β. Larger is more robust and spares less.",
            low=0.0001,
            step=0.01,
        ),
        count_input(
            "directions",
            0,
            "Only for the projection: how many directions to remove; 0 takes those that hold 90 % of what sets the "
            "concepts apart from other words.",
            high=MAX_DIRECTIONS,
        ),
        choice_input(
            "iteration",
            methods.ITERATIONS,
            methods.PUBLISHED,
            "Only for RECE. published: every epoch edits what the one before left. anchored: every epoch edits the "
            "original weights with all pairs so far.",
            advanced=True,
        ),
        choice_input(
            "preservation",
            methods.PRESERVATIONS,
            methods.WEIGHED,
            "weighed: preserved prompts pull against the erasure. exactly: they and the empty prompt do not change "
            "at all, and less of the concepts can be erased.",
        ),
        number_input(
            "regeneration_limit",
            0.0,
            "Only for RECE: stop as soon as the derived embedding brings no concept back further than this; 0 never.",
            high=1.0,
            step=0.01,
        ),
        number_input(
            "drift_limit",
            0.0,
            "Only for RECE and UCE: how far everyday prompts may drift. Takes fewer epochs, or a lower erase_scale, to "
            "keep it; 0 is no limit.",
            high=1.0,
            step=0.01,
        ),
        io.Conditioning.Input(
            "embedding",
            optional=True,
            tooltip="An embedding to erase as well, such as one that 'Invert Concept' found.",
        ),
        switch_input(
            "pooled",
            True,
            "Erase from the pooled text embedding too, where the model reads one (SDXL, SD3, Flux, …). Without it, a "
            "concept can leak through.",
        ),
    ]


def _coefficient(setting: str, tooltip: str) -> io.Input:
    """A number with the name and the default of one of the `RECESettings`."""
    return number_input(setting, getattr(DEFAULT_SETTINGS, setting), tooltip)
