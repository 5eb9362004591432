"""One inversion of an erased model, and how many of them there are."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.erased_models import BETA, TARGETED, UNEDITED
from pocket_model.rates import Rate
from pocket_model.trials import concept_named

# Concepts that the model does not draw by habit, so that a picture of one says that it was found.
CONCEPTS = tuple(map(concept_named, ("striped", "green", "rain", "Zorro Quill")))
PROJECTION = f"projection, β {BETA:g}, {TARGETED}"
ATTACKED = (UNEDITED, f"UCE, {TARGETED}", f"RECE, 3 epochs, {TARGETED}", PROJECTION)
FED_BACK = (f"UCE, {TARGETED}", PROJECTION)
# Numbers of learned tokens; those of the rounds; how often what was found is erased.
TOKENS, TOKENS_OF_ROUNDS, ROUNDS = (1, 4, 16), 4, 2
# An attacker tries several times and keeps the best.
STARTS = 3
PICTURES, CAPTIONS, STEPS, BATCH = 16, 24, 100, 8


@dataclass(frozen=True)
class Attack:
    """Inversions of one model, each from another seed, and what the attacked model makes by itself.

    Attributes:
        setting, concept: what was erased, and how.
        rounds: how often what an inversion found was erased as well.
        tokens: how many embeddings were learned.
        inverted: how many pictures of the embedding that makes the concept most often show it.
        every: the same of the embeddings that all starts found.
        own: how many pictures of the concept's own prompts do.
        neighbours, others: how many of its neighbour's and of other captions show all that they say.
        machine: it was measured on.
    """

    setting: str
    concept: str
    rounds: int
    tokens: int
    inverted: Rate
    every: Rate
    own: Rate
    neighbours: Rate
    others: Rate
    machine: str = ""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What identifies it."""
        return self.setting, self.concept, self.rounds, self.tokens
