"""A change of named weights: W' = W + up @ down, as trained erasers and other tools' files have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import InputError
from .formats.parts import WEIGHT_CHANGE, StoredPart
from .linear.finite import check_change
from .settings import check_strength
from .texts import quoted


class LowRank(NamedTuple):
    """up @ down, [rows, r] times [r, columns], of a weight that is seen as a matrix [rows, all other sizes together]."""

    up: Tensor
    down: Tensor


class WeightChange:
    """Low-rank changes of weights by their state-dict keys. It never changes after it is made.

    Args:
        changes: at least one.

    Raises:
        InputError: there is none, or factors do not fit together or are not finite.
    """

    __slots__ = ("changes",)

    kind: ClassVar[str] = WEIGHT_CHANGE

    def __init__(self, changes: Mapping[str, LowRank]) -> None:
        if not changes:
            raise InputError("A change of weights needs at least one weight.")
        for key, (up, down) in changes.items():
            if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0] or up.dtype != down.dtype:
                raise InputError(
                    f"The factors {list(up.shape)} and {list(down.shape)} of {quoted(key)} do not fit together: give up "
                    "[rows, rank] and down [rank, columns] of one dtype."
                )
            check_change(up, down, f"The change of {quoted(key)}")
        self.changes: dict[str, LowRank] = dict(changes)

    def of_weight(self, key: str, weight: Tensor) -> Tensor:
        """up @ down of that weight, in its shape and on its device, in float32 at least.

        Raises:
            InputError: the weight has another size.
        """
        up, down = self.changes[key]
        if (up.shape[0], up.shape[0] * down.shape[1]) != (weight.shape[0], weight.numel()):
            raise InputError(
                f"The change of {quoted(key)} is for {up.shape[0]}×{down.shape[1]} numbers, but the weight is "
                f"{list(weight.shape)}: it belongs to another model."
            )
        dtype = torch.promote_types(torch.promote_types(weight.dtype, up.dtype), torch.float32)
        return (up.to(weight.device, dtype) @ down.to(weight.device, dtype)).reshape(weight.shape)

    def scaled(self, strength: float) -> WeightChange:
        """The same change, `strength` times.

        Raises:
            InputError: the strength is not finite, or so large that the change is not.
        """
        check_strength(strength)
        return WeightChange({key: LowRank(up * strength, down) for key, (up, down) in self.changes.items()})

    def __matmul__(self, second: WeightChange) -> WeightChange:
        """Both changes; they add up, so that the order does not matter."""
        if not isinstance(second, WeightChange):
            return NotImplemented
        joined = dict(self.changes)
        for key, (up, down) in second.changes.items():
            if key in joined:
                first = joined[key]
                dtype = torch.promote_types(first.up.dtype, up.dtype)
                ups = torch.cat([first.up.to(dtype), up.to(first.up.device, dtype)], dim=1)
                joined[key] = LowRank(ups, torch.cat([first.down.to(dtype), down.to(first.down.device, dtype)]))
            else:
                joined[key] = LowRank(up, down)
        return WeightChange(joined)

    def stored(self) -> StoredPart:
        """As a file holds it."""
        named = {
            f"{key}/{name}": factor for key, pair in self.changes.items() for name, factor in pair._asdict().items()
        }
        return StoredPart(self.kind, named)

    @classmethod
    def from_stored(cls, part: StoredPart) -> WeightChange:
        """The change in a part that was read."""
        keys = dict.fromkeys(name.rpartition("/")[0] for name in part.tensors)
        return cls({key: LowRank(part.tensors[f"{key}/up"], part.tensors[f"{key}/down"]) for key in keys})

    def describe(self) -> str:
        """As in '16 weights, rank 4 at most'."""
        ranks = [change.up.shape[1] for change in self.changes.values()]
        return f"{len(ranks)} weight{'s' if len(ranks) > 1 else ''}, rank {max(ranks)} at most"
