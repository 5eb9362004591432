"""One method on one concept: how it did against the probes that every audit had, and against each further one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.erased_models import TARGETED, UNEDITED, UNNAMED, setting_named
from pocket_model.rates import Rate
from pocket_model.trials import concept_named

# Of every kind one, and two styles.
CONCEPTS = tuple(map(concept_named, ("striped", "checkered", "green", "star", "rain", "Zorro Quill")))
PROJECTION, HARDENED = "projection to a target", "hardened"
CLOSED_FORMS = {one: setting_named(one) for one in (f"UCE, {TARGETED}", f"RECE, 3 epochs, {TARGETED}")}
"""As `benchmarks.efficacy` measures them for all concepts."""
RANDOM = "random eraser"
"""Directions drawn at random, as many and as much as the projection's."""
_RANK_32: dict[str, Any] = {"rank": 32, "learning_rate": 3e-3}
_FEW = "hardened, 16 + 24 pictures, 12 adversaries"
_AS_FEW: dict[str, Any] = {"batch": 16, "retained_batch": 24, "adversaries": 12, "steps": 300}
VARIANTS: dict[str, dict[str, Any]] = {
    "hardened, no adversaries": {"adversaries": 0},
    "hardened, all but cross-attention": {"layers": "all but cross-attention"},
    "hardened, attention and feed-forward": {"layers": "attention and feed-forward"},
    "hardened, rank 32 at 3e-3": _RANK_32,
    "hardened, 48 + 48 pictures, 36 adversaries": {"batch": 48, "retained_batch": 48, "adversaries": 36},
    _FEW: _AS_FEW,
    f"{_FEW}, rank 32 at 3e-3": _AS_FEW | _RANK_32,
}
"""What they change of the standard settings."""
WHOLE_ERROR, ONE_CONTEXT = "hardened, whole error", "hardened, one context for all blocks"
EARLIER = (
    WHOLE_ERROR,
    f"{WHOLE_ERROR}, rank 4",
    f"{ONE_CONTEXT}, 1 update",
    ONE_CONTEXT,
    f"{ONE_CONTEXT}, 600 steps",
)
"""What earlier versions of the pack trained: an adversary's prediction pulled to the wanted one in all that it shows, alike at all
noise levels; and before, adversaries that all blocks of the UNet read alike."""
PRUNINGS: dict[str, dict[str, Any]] = {
    "pruned, 2 % of a row": {"share": 0.02},
    "pruned, 10 %": {"share": 0.1},
    "pruned, 30 %": {"share": 0.3},
    "pruned, all that is more active": {"share": 1.0},
    "refilled, 30 %": {"share": 0.3, "fill": "noise"},
    "pruned by projection, 30 %": {"share": 0.3, "fill": "projection"},
    "pruned against adversaries, 10 %": {"share": 0.1, "adversaries": 2, "adversary_steps": 40},
}
"""Settings of Prune Concept; all steps of the pictures are looked at."""
STACKS = {"projection, and pruned against adversaries": "pruned against adversaries, 10 %"}
"""What is applied after the projection, as P-ESD prunes a model that is erased already."""
FEW_SHOTS: dict[str, dict[str, Any]] = {
    "few-shot, as published": {"method": "as published"},
    "few-shot, bounded, 10 steps at 4e-5": {"method": "bounded", "steps": 10, "learning_rate": 4e-5},
}
"""Settings of the unlearning in the text encoder."""
RECELERS: dict[str, dict[str, Any]] = {
    "Receler, as published": {"adversarial": False},
    "Receler, as described": {"adversarial": True},
}
"""Settings of Receler, from the bare concept to the empty prompt as the authors train it."""
METHODS = (
    UNEDITED,
    UNNAMED,
    RANDOM,
    *CLOSED_FORMS,
    PROJECTION,
    HARDENED,
    *VARIANTS,
    *PRUNINGS,
    *STACKS,
    *RECELERS,
    *FEW_SHOTS,
)
REPORTED = tuple(name for method in METHODS for name in ((method, *EARLIER) if method == HARDENED else (method,)))
"""What a table has, in this order."""
TOKENS = (4, 16)


@dataclass(frozen=True)
class Found:
    """What one method leaves of one concept.

    Attributes:
        method, concept: which.
        own, paraphrased, held_out: pictures of the concept's own prompts and of synonyms that show it.
        neighbours, others: pictures of other prompts that show all that they say.
        inverted: pictures of the best learned tokens that show it; by their number.
        starts: the same of every start, on the pictures by which the best was chosen.
        seconds: that the erasure took.
        size: of the ERASER file, in bytes.
        machine: that it was measured on.
    """

    method: str
    concept: str
    own: Rate
    paraphrased: Rate
    held_out: Rate
    neighbours: Rate
    others: Rate
    inverted_4: Rate
    inverted_16: Rate
    starts_4: tuple[float, ...]
    starts_16: tuple[float, ...]
    seconds: float
    size: int
    machine: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it."""
        return self.method, self.concept


@dataclass(frozen=True)
class Probed:
    """What one probe found of one method and one concept.

    Attributes:
        method, concept, probe: which.
        rate: pictures that show the concept.
        numbers: what else the probe found; see its module.
        seconds: that it took.
        machine: that it was measured on.
    """

    method: str
    concept: str
    probe: str
    rate: Rate
    numbers: tuple[float, ...]
    seconds: float
    machine: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return self.method, self.concept, self.probe
