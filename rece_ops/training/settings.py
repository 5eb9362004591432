"""How an eraser is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from ..errors import InputError
from ..settings import MAX_SEED, check_coefficient, check_count
from ..texts import quoted

LAYERS = ("all", "all but cross-attention", "attention and feed-forward")
"""Which weights are changed."""

# AdamW's first steps go by signs alone: at the full rate they would cost more than hundreds of steps mend.
_WARM_UP = 20
_COUNTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "steps": (1, 100_000),
        "rank": (1, 512),
        "batch": (1, 256),
        "retained_batch": (1, 256),
        "adversaries": (0, 1024),
        "adversary_updates": (1, 1000),
        "pictures_at_once": (1, 4096),
        "seed": (0, MAX_SEED),
    }
)


@dataclass(frozen=True)
class HardenedSettings:
    """Settings of the method 'hardened'; the defaults are those that `benchmarks.audit` measures.

    Attributes:
        steps: updates of the weights.
        learning_rate: of AdamW for the factors; after a short rise it falls to zero along half a cosine.
        rank: of the change of each weight.
        layers: which weights are changed, one of `LAYERS`.
        batch, retained_batch: pictures a step that show a concept (with adversaries at least two), and that show something else.
        retain_weight: of the retain loss, relative to the erasing loss.
        push: how far beyond the anchor the prediction is pulled, in units of what sets the concept apart from it.
        adversaries: contexts that are kept and learned against the weights; 0 trains without any.
        adversary_rate: of Adam for them, relative to the root mean square of their start.
        adversary_updates: of each adversary that a step uses, before the weights are updated against it.
        retain_limit: training stops where the retain loss, relative to the error that the MODEL itself makes on what is
            retained, stays above it; 0 never stops.
        seed: of pictures, noise and adversaries.
        pictures_at_once: how many go through the MODEL together, forwards and backwards; fewer where memory does not suffice. What is
            learned is the same but for rounding.
        low_memory: keep what the backward pass needs in main memory instead of on the compute device.

    Raises:
        InputError: a value is out of range.
    """

    steps: int = 250
    learning_rate: float = 1e-3
    rank: int = 128
    layers: str = "all"
    batch: int = 64
    retained_batch: int = 96
    retain_weight: float = 4.0
    push: float = 1.0
    adversaries: int = 48
    adversary_rate: float = 0.05
    adversary_updates: int = 5
    retain_limit: float = 0.0
    seed: int = 0
    pictures_at_once: int = 16
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _COUNTS.items():
            check_count(name, getattr(self, name), low, high)
        for name in ("learning_rate", "adversary_rate"):
            value = getattr(self, name)
            check_coefficient(name, value)
            if value > 10:
                raise InputError(f"{name} is {value}: give a number above 0, at most 10.")
        for name in ("retain_weight", "push", "retain_limit"):
            check_coefficient(name, getattr(self, name), zero_allowed=True)
        if self.batch == 1 and self.adversaries:
            raise InputError(
                "batch is 1, which an adversary would take every time: give at least 2, or set 'adversaries' to 0."
            )
        if self.layers not in LAYERS:
            raise InputError(f"layers is {quoted(self.layers)}: take one of {', '.join(LAYERS)}.")

    def rate_at(self, step: int) -> float:
        """The learning rate of update number `step`, from 0."""
        rising = min(1.0, (step + 1) / max(1, min(_WARM_UP, self.steps // 10)))
        return self.learning_rate * rising * (1 + math.cos(math.pi * step / self.steps)) / 2

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for provenance."""
        return asdict(self)


HARDENED = "hardened"
"""The method by which low-rank changes of weights are trained."""

STARTS = ("projection", "RECE", "nothing")
"""The closed-form eraser that such a training begins from, where none is connected."""

AS_PUBLISHED, AS_DESCRIBED = "Receler (as published)", "Receler (as described)"
"""The methods by which adapters are trained, as people choose them and erasers tell."""

_RECELER_COUNTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "steps": (1, 100_000),
        "adapter_width": (1, 4096),
        "sampling_steps": (1, 1000),
        "learned_tokens": (1, 75),
        "inner_steps": (1, 1000),
        "seed": (0, MAX_SEED),
    }
)


@dataclass(frozen=True)
class RecelerSettings:
    """Settings of Receler (arXiv:2311.17717); the defaults are the authors', but for the number of steps (500).

    Attributes:
        adversarial: whether token embeddings are learned against the adapters, as the paper describes. The published code assigns
            them to a temporary tensor, so that they never reach the model: as published, there are none.
        steps: updates of the adapters.
        adapter_rate: learning rate of Adam.
        adapter_width: what is between the two layers of an adapter.
        push: how far beyond the anchor the prediction is pulled, in units of what sets the concept apart from it.
        sampling_steps: of the DDIM sampling that makes each picture, as far as its noise level.
        sampling_guidance: classifier-free guidance of it.
        mask_weight: of what adapters add where the concept is not, relative to the erasing loss.
        mask_threshold: from which share of its largest value on the concept's attention counts.
        learned_tokens: tokens that an adversary learns, behind the prompt.
        inner_steps: updates of the adversary for each one of the adapters.
        seed: of pictures, noise and adversaries.
        low_memory: keep what the backward pass needs in main memory instead of on the compute device.

    Raises:
        InputError: a value is out of range.
    """

    adversarial: bool = True
    steps: int = 400
    adapter_rate: float = 3e-4
    adapter_width: int = 128
    push: float = 1.0
    sampling_steps: int = 50
    sampling_guidance: float = 3.0
    mask_weight: float = 0.1
    mask_threshold: float = 0.1
    learned_tokens: int = 16
    inner_steps: int = 50
    seed: int = 0
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _RECELER_COUNTS.items():
            check_count(name, getattr(self, name), low, high)
        check_coefficient("adapter_rate", self.adapter_rate)
        for name in ("push", "sampling_guidance", "mask_weight"):
            check_coefficient(name, getattr(self, name), zero_allowed=True)
        if not 0 <= self.mask_threshold <= 1:
            raise InputError(f"mask_threshold is {self.mask_threshold}: give a number from 0 to 1.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for provenance."""
        return asdict(self)


UNLEARNING = ("bounded", "as published")
"""How far the error on the concept may rise."""

_UNLEARNING_COUNTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"steps": (1, 10_000), "batch": (1, 256), "retained_batch": (1, 256), "seed": (0, MAX_SEED)}
)


@dataclass(frozen=True)
class UnlearningSettings:
    """Settings of few-shot unlearning in the text encoder (Fuchi and Takagi, arXiv:2405.07288).

    Attributes:
        method: one of `UNLEARNING`. As published the error on the concept's pictures rises without a bound, and nothing is
            retained; 'bounded' stops each picture's error at `limit`, and holds other pictures.
        steps: updates.
        learning_rate: of Adam.
        batch, retained_batch: pictures a step that show the concept, and that show something else.
        limit: of the error, in units of that which the MODEL makes with the target in the concept's place.
        retain_weight: of the retain loss, relative to the error.
        seed: of pictures and noise.
        low_memory: keep what the backward pass needs in main memory instead of on the compute device.

    Raises:
        InputError: a value is out of range.
    """

    method: str = UNLEARNING[0]
    steps: int = 8
    learning_rate: float = 1e-5
    batch: int = 2
    retained_batch: int = 2
    limit: float = 1.0
    retain_weight: float = 10.0
    seed: int = 0
    low_memory: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _UNLEARNING_COUNTS.items():
            check_count(name, getattr(self, name), low, high)
        for name in ("learning_rate", "limit"):
            check_coefficient(name, getattr(self, name))
        check_coefficient("retain_weight", self.retain_weight, zero_allowed=True)
        if self.method not in UNLEARNING:
            raise InputError(f"method is {quoted(self.method)}: take one of {', '.join(UNLEARNING)}.")

    @property
    def bounded(self) -> bool:
        """Whether the error has a bound and other pictures are held."""
        return self.method == UNLEARNING[0]
