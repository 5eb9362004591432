"""RECE and UCE: the closed-form edit, alone or followed by epochs that erase what would bring the concept back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ....rece_ops import Erasure, Limits, Projection, RECESettings, erase, iterate, keep_limits
from ....rece_ops.progress import Progress
from .. import presets
from ..everyday_prompts import TUNING
from ..vocabulary import ANCHORED, EXACTLY
from .method import Advice, EncodedRequest, Inputs, Needs, Outcome, Remedies, counted

_RECE_ADVICE = Advice(
    milder="Lower 'epochs' or 'erase_scale', or raise 'regularization' or 'edit_regularization'",
    stronger="Later epochs can undo the first edit: lower 'epochs', or 'edit_regularization'",
    steadier="Raise 'edit_regularization' or 'regularization'",
    remedies=Remedies(
        left="Set 'method' to 'UCE', which has no epochs that undo the first edit, or give the concept a target.",
        drifted="Set 'method' to 'UCE', which changes other prompts less, or lower 'strength'.",
        back="Set 'method' to 'projection' where people can choose embeddings.",
    ),
)
_UCE_ADVICE = Advice(
    milder="Lower 'erase_scale' or raise 'edit_regularization'",
    stronger="Lower 'edit_regularization' or raise 'erase_scale'",
    steadier="Raise 'edit_regularization'",
    remedies=Remedies(
        left="Give the concept a target, or another one: 'concepts' takes 'a -> b'.",
        drifted="Lower 'strength', or give the concepts targets that are close to them.",
        back="Set 'method' to 'projection' where people can choose embeddings.",
    ),
)

_NO_LIMITS = Limits()


@dataclass(frozen=True)
class EditPlan:
    """The first edit and `settings.epochs` epochs.

    Attributes:
        method: RECE or UCE.
        settings: coefficients.
        limits: what the iteration must not exceed.
        exactly: whether preserved prompts must not move at all.
    """

    method: RECE | UCE
    settings: RECESettings
    limits: Limits = _NO_LIMITS
    exactly: bool = False

    def needs(self, templates: Sequence[str]) -> Needs:
        """Prompts for choosing epochs and scale, where the drift has a limit."""
        return Needs(tuning=TUNING if self.limits.drift is not None else ())

    def run(self, weights: Mapping[str, Tensor], encoded: EncodedRequest, progress: Progress | None) -> Outcome:
        """See `rece_ops.erase` and `rece_ops.keep_limits`."""
        preserved = list(encoded.preserved.values())
        exactly = encoded.preserved if self.exactly else {}
        erasure = erase(weights, encoded.pairs, preserved, self.settings, preserve_exactly=exactly, progress=progress)
        kept = keep_limits(
            erasure,
            self.limits,
            encoded.tuning,
            lambda settings: iterate(erasure.gram, encoded.pairs, preserved, settings, preserved, exactly),
        )
        return Outcome(kept.erasure, kept)


@dataclass(frozen=True)
class RECE:
    """RECE (arXiv:2407.12383)."""

    name: str = "RECE"
    summary: str = (
        "RECE: the first edit, then epochs that derive the embedding that would bring the concept back and erase it too. "
        "Changes other prompts more than UCE; anchored, with preserved prompts, it leaves the least of a concept."
    )
    price: str = (
        "RECE: set 'iteration' to 'anchored' and type what should stay into 'preserve': on this pack's small test model, with a "
        "target, 1 % of the concept's pictures then still showed it, and 99 % of other prompts came out right (99 % before). "
        "With neither it was 18 % and 69 %."
    )
    guarantee: str = "The transform can be inverted, so some embedding still makes the concept."
    inputs: tuple[str, ...] = (
        "epochs",
        "regularization",
        "edit_regularization",
        "erase_scale",
        "preserve_scale",
        "iteration",
        "preservation",
        "regeneration_limit",
        "drift_limit",
    )
    advice: Advice = _RECE_ADVICE

    def plan(self, inputs: Inputs) -> EditPlan:
        """The preset's settings, and the limits."""
        settings = replace(presets.settings_of(inputs["preset"], inputs), anchored=inputs["iteration"] == ANCHORED)
        limits = Limits(inputs["regeneration_limit"] or None, inputs["drift_limit"] or None)
        # A preset without epochs is UCE, whatever the choice above it says.
        method = self if settings.epochs else UCE()
        return EditPlan(method, settings, limits, inputs["preservation"] == EXACTLY)

    def describe(self, erasures: Sequence[Erasure | Projection]) -> str:
        """The number of epochs, and whether they were anchored."""
        edits = [erasure for erasure in erasures if isinstance(erasure, Erasure)]
        epochs = [erasure.settings.epochs for erasure in edits]
        if not max(epochs):
            return UCE().describe(erasures)
        return f"RECE with {counted(epochs, 'epoch')}{', anchored' if edits[0].settings.anchored else ''}"


@dataclass(frozen=True)
class UCE:
    """UCE's edit (arXiv:2308.14761), which is RECE without epochs."""

    name: str = "UCE"
    summary: str = (
        "UCE: the first edit alone, without epochs. Quick, and the one to begin with; derived embeddings get past it."
    )
    price: str = (
        "UCE: the one to begin with: on this pack's small test model, with a target, 6 % of the concept's pictures still showed "
        "it, and 95 % of other prompts came out right (99 % before)."
    )
    guarantee: str = "The transform can be inverted, so some embedding still makes the concept."
    inputs: tuple[str, ...] = (
        "regularization",
        "edit_regularization",
        "erase_scale",
        "preserve_scale",
        "preservation",
        "drift_limit",
    )
    advice: Advice = _UCE_ADVICE

    def plan(self, inputs: Inputs) -> EditPlan:
        """The preset's settings without its epochs, and the limit of the drift."""
        settings = replace(presets.settings_of(inputs["preset"], inputs), epochs=0)
        return EditPlan(self, settings, Limits(drift=inputs["drift_limit"] or None), inputs["preservation"] == EXACTLY)

    def describe(self, erasures: Sequence[Erasure | Projection]) -> str:
        """There is nothing to count."""
        return "UCE (first edit only)"
