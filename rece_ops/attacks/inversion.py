"""How embeddings are learned that bring an erased concept back."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..settings import check_count

# What torch's generators take.
_SEEDS = (-(2**63), 2**64 - 1)


@dataclass(frozen=True)
class InversionSettings:
    """How embeddings are learned.

    Attributes:
        tokens: how many of them.
        steps: of Adam.
        learning_rate: relative to the root mean square of the start's token embeddings.
        seed: of noise levels, noise, and the choice of images.
        batch: pictures a step.
        low_memory: keep what the backward pass needs in main memory instead of on the compute device.

    Raises:
        InputError: a value is out of range.
    """

    tokens: int = 4
    steps: int = 300
    learning_rate: float = 0.05
    seed: int = 0
    batch: int = 1
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a whole number of at least 1.")
        check_count("seed", self.seed, *_SEEDS)
        if not 0 < self.learning_rate <= 10:
            raise InputError(f"learning_rate is {self.learning_rate}: give a number above 0, at most 10.")
