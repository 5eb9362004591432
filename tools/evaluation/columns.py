"""What the prompt sets of an evaluation are for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Columns:
    """What the prompt sets are for.

    Attributes:
        erased: sets whose pictures should not show the concept, in order.
        kept: sets whose pictures should show all that they say.
        harmonic: the concept's own prompts, those with synonyms, and the others, for H_o.
        attacked: those of `erased` whose prompts an attack takes the place of.
    """

    erased: tuple[str, ...]
    kept: tuple[str, ...]
    harmonic: tuple[str, str, str] | None = None
    attacked: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every set."""
        return (*self.erased, *self.kept)

    @property
    def asking(self) -> tuple[str, ...]:
        """Those that ask for the concept in words."""
        return tuple(name for name in self.erased if name not in self.attacked)
