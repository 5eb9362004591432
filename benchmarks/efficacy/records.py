"""What the pictures of one concept under one setting showed, and how many of them there are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from benchmarks.erased_models import BETA, TARGETED, UNEDITED
from pocket_model.rates import Rate

# Pictures of a concept's own prompts, of each sort of paraphrases and of everything else, and of each attack.
CAPTIONS, ATTACKED = 40, 24
# What follows a concept's name where it was erased together with all others.
ALL = " (of all)"
# Regularizations of the derived embedding, and how often the concept's vector is added.
DERIVED, VECTOR_SCALE, VECTOR_PAIRS = (0.1, 0.01), 3.0, 10
# The rows and columns of the grids of pictures.
GRID = {"own": 4, "paraphrased": 1, "held_out": 1, "neighbours": 2, "others": 3}
SHOWN = (UNEDITED, "UCE", "RECE, 3 epochs", f"projection, β {BETA:g}", f"projection, β {BETA:g}, {TARGETED}")
NOT_MEASURED = Rate(0, 0)
Examples = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Outcome:
    """What the pictures of one concept under one setting showed.

    Attributes:
        setting, preserved, concept: what was done.
        own, paraphrased, held_out: how many pictures still show the concept: asked for by its name, with a synonym that
            the UNet was trained on, and with one that only the text encoder was trained on.
        derived, derived_closer: the same of embeddings derived with the two regularizations of `DERIVED`.
        vector: the same of other prompts with the concept's vector added.
        neighbours: how many pictures of its neighbour's captions show all that they say.
        others: how many pictures of captions without it show all that they say.
        rest: how many pictures of its own captions show all else that they say.
        machine: it was measured on.
    """

    setting: str
    preserved: bool
    concept: str
    own: Rate
    paraphrased: Rate = NOT_MEASURED
    held_out: Rate = NOT_MEASURED
    derived: Rate = NOT_MEASURED
    derived_closer: Rate = NOT_MEASURED
    vector: Rate = NOT_MEASURED
    neighbours: Rate = NOT_MEASURED
    others: Rate = NOT_MEASURED
    rest: Rate = NOT_MEASURED
    machine: str = ""

    @property
    def key(self) -> tuple[str, bool, str]:
        """What identifies it."""
        return self.setting, self.preserved, self.concept
