"""What is measured, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.erase_benchmark.stacks import SIZES

OURS, TIDY, PUBLISHED = "ours", "layer by layer", "layer by layer, published loops"
PROJECTION, DOUBLE = "projection", "ours, weights in float64"
DOUBLE_PROJECTION = "projection, weights in float64"
METHODS = (OURS, PROJECTION, DOUBLE_PROJECTION, DOUBLE, TIDY, PUBLISHED)
CONCEPTS = (1, 10, 100, 1000)
# Fewer where a run takes long.
CONCEPTS_OF = {"Flux": (1, 10)}
EPOCHS = (0, 1, 2, 3, 4, 5)
# Four of the six are left out where a run takes long.
EPOCHS_OF = {"SDXL": (0, 3), "Flux": (0, 3)}


@dataclass(frozen=True)
class Case:
    """One measurement to make."""

    method: str
    size: str
    concepts: int
    epochs: int


@dataclass(frozen=True)
class Batch:
    """The measurements of one process."""

    method: str
    size: str
    concepts: int
    epochs: tuple[int, ...]

    def cases(self) -> list[Case]:
        """One case for every number of epochs."""
        return [Case(self.method, self.size, self.concepts, epochs) for epochs in self.epochs]


@dataclass(frozen=True)
class Measured:
    """What it gave: median seconds (erasing, applying, both), peak extra memory in bytes, and three figures of ours.

    `float64_operations`: multiplications and additions in float64 of erasing. `change_error`: ‖δΔW‖ / ‖ΔW‖ compared with the
    same erasure of weights in float64. `tensor_bytes`: what of the peak extra memory tensors take at most.
    """

    case: Case
    erase_seconds: float
    apply_seconds: float
    total_seconds: float
    repeats: int
    extra_bytes: int
    float64_operations: float = 0.0
    change_error: float = 0.0
    tensor_bytes: int = 0

    @property
    def extra_matrices(self) -> float:
        """Peak extra memory in d×d float64 matrices."""
        return self._matrices(self.extra_bytes)

    @property
    def tensor_matrices(self) -> float:
        """The same of tensors."""
        return self._matrices(self.tensor_bytes)

    def _matrices(self, count: int) -> float:
        return count / (SIZES[self.case.size].dimension ** 2 * 8)
