"""A change of single numbers in named weights: some share of each is taken away, something else is put in its place.

W'_i = (1 − r_i)·W_i + a_i for the places i of a weight that is listed. Pruned is r = 1, a = 0, whatever stood there, so that two
prunings of one place are one, and a fine-tune's own number goes as the base model's does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import InputError
from .formats.parts import MAX_NUMBERS, SPARSE_CHANGE, StoredPart
from .linear.finite import is_finite
from .settings import check_strength
from .texts import quoted


class SparseNumbers(NamedTuple):
    """Some numbers of one weight, seen as a matrix.

    Attributes:
        shape: rows of the weight, and all its other sizes together.
        places: [n] int32, in rising order; row · columns + column.
        removed: [n], what share of the number is taken away.
        added: [n], what is put there.
    """

    shape: tuple[int, int]
    places: Tensor
    removed: Tensor
    added: Tensor

    def difference(self, weight: Tensor) -> Tensor:
        """a − r·W [n] at the places, in float32 at least, on the device of the weight.

        Raises:
            InputError: the weight has another size.
        """
        if self.shape != flat_shape(weight.shape):
            raise InputError(
                f"A sparse change is for {self.shape[0]}×{self.shape[1]} numbers, but the weight is {list(weight.shape)}: it "
                "belongs to another model."
            )
        dtype = torch.promote_types(torch.promote_types(weight.dtype, self.added.dtype), torch.float32)
        removed, added = (one.to(weight.device, dtype) for one in (self.removed, self.added))
        return added - removed * weight.reshape(-1)[self.places.to(weight.device, torch.long)].to(dtype)

    def scaled(self, strength: float) -> SparseNumbers:
        """`strength` times that change."""
        return self._replace(removed=self.removed * strength, added=self.added * strength)

    def then(self, second: SparseNumbers) -> SparseNumbers:
        """First this change, then `second`, of the same weight."""
        places, where = torch.unique(torch.cat([self.places, second.places]), return_inverse=True)
        dtype = torch.promote_types(self.added.dtype, second.added.dtype)
        # Where only one of them changes something, the other takes nothing away and adds nothing.
        mine, theirs = (torch.zeros(2, len(places), dtype=dtype) for _ in range(2))
        for filled, one, there in (
            (mine, self, where[: len(self.places)]),
            (theirs, second, where[len(self.places) :]),
        ):
            filled[0, there], filled[1, there] = one.removed.to(dtype), one.added.to(dtype)
        left = 1 - theirs[0]
        return SparseNumbers(self.shape, places, 1 - left * (1 - mine[0]), left * mine[1] + theirs[1])


class SparseChange:
    """Changes of single numbers, by the state-dict keys of their weights. It never changes after it is made.

    Args:
        changes: at least one, each of at least one number.

    Raises:
        InputError: there is none, places are out of range or out of order, or numbers are not finite.
    """

    __slots__ = ("changes",)

    kind: ClassVar[str] = SPARSE_CHANGE

    def __init__(self, changes: Mapping[str, SparseNumbers]) -> None:
        if not changes:
            raise InputError("A sparse change needs at least one weight.")
        for key, change in changes.items():
            _check(key, change)
        self.changes: dict[str, SparseNumbers] = dict(changes)

    def of_weight(self, key: str, weight: Tensor) -> Tensor:
        """W' − W of that weight, in its shape and on its device, in float32 at least.

        Raises:
            InputError: the weight has another size.
        """
        change = self.changes[key]
        return dense_change(change.difference(weight), change.places, weight.shape)

    def scaled(self, strength: float) -> SparseChange:
        """The same change, `strength` times.

        Raises:
            InputError: the strength is not finite, or so large that the change is not.
        """
        check_strength(strength)
        return SparseChange({key: change.scaled(strength) for key, change in self.changes.items()})

    def __matmul__(self, second: SparseChange) -> SparseChange:
        """First this change, then `second`; where the two are of one number, it goes through both.

        Raises:
            InputError: they are of weights of one name and two sizes.
        """
        if not isinstance(second, SparseChange):
            return NotImplemented
        joined = {**self.changes, **second.changes}
        for key in self.changes.keys() & second.changes.keys():
            first, then = self.changes[key], second.changes[key]
            if first.shape != then.shape:
                raise InputError(
                    f"The weight {quoted(key)} has {first.shape[0]}×{first.shape[1]} numbers in one ERASER and "
                    f"{then.shape[0]}×{then.shape[1]} in the other: combine erasers of the same architecture."
                )
            joined[key] = first.then(then)
        return SparseChange(joined)

    @property
    def count(self) -> int:
        """How many numbers are changed."""
        return sum(len(change.places) for change in self.changes.values())

    def stored(self) -> StoredPart:
        """As a file holds it."""
        named = {
            f"{key}/{name}": tensor
            for key, change in self.changes.items()
            for name, tensor in (
                ("shape", torch.tensor(change.shape, dtype=torch.int32)),
                ("places", change.places),
                ("removed", change.removed),
                ("added", change.added),
            )
        }
        return StoredPart(self.kind, named)

    @classmethod
    def from_stored(cls, part: StoredPart) -> SparseChange:
        """The change in a part that was read."""
        keys = dict.fromkeys(name.rpartition("/")[0] for name in part.tensors)
        found = {}
        for key in keys:
            shape, *others = (part.tensors[f"{key}/{name}"] for name in ("shape", "places", "removed", "added"))
            rows, columns = shape.tolist()
            found[key] = SparseNumbers((rows, columns), *others)
        return cls(found)

    def describe(self) -> str:
        """As in '1,024 numbers of 16 weights'."""
        count = len(self.changes)
        return f"{self.count:,} number{'s' if self.count > 1 else ''} of {count} weight{'s' if count > 1 else ''}"


def flat_shape(shape: torch.Size | tuple[int, ...]) -> tuple[int, int]:
    """Rows of a weight of that shape, and all its other sizes together."""
    return (shape[0], math.prod(shape[1:])) if shape else (0, 0)


def dense_change(difference: Tensor, places: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """A tensor of `shape` that is zero but for `difference` [n] at the `places` [n]."""
    found = difference.new_zeros(math.prod(shape))
    found[places.to(difference.device, torch.long)] = difference
    return found.reshape(shape)


def _check(key: str, change: SparseNumbers) -> None:
    (rows, columns), places, removed, added = change
    sizes = {tensor.shape for tensor in (places, removed, added)}
    if places.dtype != torch.int32 or len(sizes) > 1 or places.ndim != 1 or removed.dtype != added.dtype:
        raise InputError(
            f"The sparse change of {quoted(key)} does not fit together: give int32 places [n], and removed [n] and added [n] "
            "of one dtype."
        )
    if len(places) == 0 or min(rows, columns) < 1 or rows * columns > MAX_NUMBERS:
        raise InputError(f"The sparse change of {quoted(key)} changes no number, or has a size that no weight has.")
    if int(places[0]) < 0 or int(places[-1]) >= rows * columns or not bool((places[1:] > places[:-1]).all()):
        raise InputError(f"The sparse change of {quoted(key)} has places that are out of range or out of order.")
    if not (is_finite(removed) and is_finite(added)):
        raise InputError(f"The sparse change of {quoted(key)} holds NaN or infinite values: lower the strength.")
