"""An ERASER: everything that one erasure does to a model, in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from .adapters import Adapters
from .eraser import POOLED_STREAM, Eraser
from .errors import EraserFileError, InputError
from .formats.eraser_file import read_eraser_file, write_eraser_file
from .formats.parts import ADAPTERS, SPARSE_CHANGE, TEXT_TRANSFORM, WEIGHT_CHANGE, StoredPart
from .provenance import Provenance
from .shape import WHOLE, Shape
from .sparse_change import SparseChange
from .texts import printable, quoted
from .weight_change import WeightChange

P = TypeVar("P", bound="Part")


class Part(Protocol):
    """One thing that an erasure does; it knows its kind, and never changes after it is made.

    How each kind is put on a MODEL, `nodes.host.jobs.apply` says.
    """

    @property
    def kind(self) -> str:
        """One of `formats.parts.LAYOUTS`."""
        ...

    def scaled(self: P, strength: float) -> P:
        """The same at another strength: 0 does nothing, 1 is the part itself."""
        ...

    def __matmul__(self: P, second: P) -> P:
        """First this part, then `second`, which attaches to the same."""
        ...

    def stored(self) -> StoredPart:
        """As a file holds it."""
        ...

    def describe(self) -> str:
        """What it is, in a few words for a report."""
        ...


_READERS: Mapping[str, Callable[[StoredPart, Provenance], Part]] = MappingProxyType(
    {
        TEXT_TRANSFORM: Eraser.from_stored,
        WEIGHT_CHANGE: lambda part, provenance: WeightChange.from_stored(part),
        SPARSE_CHANGE: lambda part, provenance: SparseChange.from_stored(part),
        ADAPTERS: lambda part, provenance: Adapters.from_stored(part),
    }
)
"""What makes a part of every kind that a file may hold."""


class EraserSet(Mapping[str, Part]):
    """The parts of an erasure under their names, in the order in which they are applied: an ERASER.

    The transform of a text stream has the stream's name. SD1, SD2 and SDXL have the one stream `text`; other
    architectures have several, each with a transform and a dimension of its own.

    Args:
        parts: by name; at least one.
        metadata: provenance of the whole, typed or as plain JSON values.
        notes: sentences about the file it comes from, for the person who loads it.
        shape: where and when it counts.

    Attributes:
        provenance: how the whole was made.
        notes: as given.
        shape: as given. It is no part of the provenance, which tells of the making; `provenance_as_applied` tells of both.

    Raises:
        InputError: there is no part, or the metadata are none that a file may have.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        metadata: Mapping[str, Any] | Provenance | None = None,
        notes: tuple[str, ...] = (),
        shape: Shape = WHOLE,
    ) -> None:
        if not parts:
            raise InputError("An ERASER needs at least one part.")
        self._parts = dict(parts)
        self.provenance = Provenance.of(metadata)
        self.notes = notes
        self.shape = shape

    @property
    def metadata(self) -> dict[str, Any]:
        """The provenance as plain JSON values, a copy."""
        return self.provenance.as_dict()

    @property
    def transforms(self) -> dict[str, Eraser]:
        """The transforms of text streams, by the streams' names."""
        return {name: part for name, part in self._parts.items() if isinstance(part, Eraser)}

    @property
    def weight_changes(self) -> dict[str, WeightChange]:
        """The low-rank changes of weights, by the parts' names."""
        return {name: part for name, part in self._parts.items() if isinstance(part, WeightChange)}

    @property
    def sparse_changes(self) -> dict[str, SparseChange]:
        """The changes of single numbers in weights, by the parts' names."""
        return {name: part for name, part in self._parts.items() if isinstance(part, SparseChange)}

    @property
    def changes(self) -> list[WeightChange | SparseChange]:
        """All changes of weights, in the order in which they are applied, which counts where two kinds change one number."""
        return [part for part in self._parts.values() if isinstance(part, (WeightChange, SparseChange))]

    @property
    def adapters(self) -> dict[str, Adapters]:
        """The adapters after cross-attentions, by the parts' names."""
        return {name: part for name, part in self._parts.items() if isinstance(part, Adapters)}

    @property
    def changes_weights(self) -> bool:
        """Whether it changes weights in another way than by transforms of text streams."""
        return bool(self.changes)

    @property
    def has_other_parts(self) -> bool:
        """Whether there is more in it than transforms of text streams."""
        return len(self.transforms) < len(self)

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def scaled(self, strength: float) -> EraserSet:
        """Every part at another strength: T_s = I + s(T − I) of a text stream."""
        scaled = {name: part.scaled(strength) for name, part in self.items()}
        return EraserSet(scaled, self.provenance, shape=self.shape)

    def shaped(self, shape: Shape) -> EraserSet:
        """The same that counts only where `shape` says, and where its own shape did."""
        return EraserSet(self._parts, self.provenance, self.notes, self.shape * shape)

    def provenance_as_applied(self) -> Provenance:
        """The provenance, with the shape in words."""
        return self.provenance if self.shape.is_whole else replace(self.provenance, shape=self.shape.describe())

    def combined(self, second: EraserSet, metadata: Mapping[str, Any] | Provenance) -> EraserSet:
        """First this ERASER, then `second`, part by part; one that leaves the pooled stream alone does nothing there.

        Raises:
            InputError: the two have different streams or dimensions, or parts of one name and two kinds, or one has a shape.
        """
        if not (self.shape.is_whole and second.shape.is_whole):
            raise InputError(
                "An ERASER that 'Shape Eraser' made cannot be combined with another, because each has its own blocks and steps: "
                "apply them one after the other instead."
            )
        # One that changes weights alone, such as a pruning, has no text streams to agree on.
        if self.transforms and second.transforms and (set(self.transforms) ^ set(second.transforms)) - {POOLED_STREAM}:
            raise InputError(
                f"An ERASER with the text streams {_listed(self.transforms)} cannot be combined with one that has "
                f"{_listed(second.transforms)}: combine erasers of the same architecture."
            )
        joined = {**self._parts, **{name: part for name, part in second.items() if name not in self}}
        for name in self.keys() & second.keys():
            if self[name].kind != second[name].kind:
                raise InputError(
                    f"The part {quoted(name)} is a {self[name].kind} in one ERASER and a {second[name].kind} in the other: "
                    "apply them one after the other instead."
                )
            joined[name] = self[name] @ second[name]
        return EraserSet({name: joined[name] for name in dict.fromkeys([*self, *second])}, metadata)

    def save(
        self,
        path: str | os.PathLike[str],
        keep_existing: bool = False,
        attached: Mapping[str, str] = MappingProxyType({}),
    ) -> Path:
        """Write all parts and the provenance to one safetensors file, in one step.

        Args:
            path: of the file.
            keep_existing: give the new file a number where there is one of that name, instead of taking its place.
            attached: texts that other programs look for in the header, such as ComfyUI's workflow; `load` does not read them.

        Returns:
            The path of the new file.

        Raises:
            InputError: the provenance is longer than a file may hold, or has other dimensions.
            OSError: the file could not be written; an old one is left as it was.
        """
        stored = {name: part.stored() for name, part in self.items()}
        return write_eraser_file(path, stored, self.provenance, keep_existing, self.shape, attached)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EraserSet:
        """Read a file with any number of parts.

        Raises:
            EraserFileError: see `read_eraser_file`.
        """
        parts, provenance, notes, shape = read_eraser_file(path)
        try:
            read = {name: _READERS[part.kind](part, provenance) for name, part in parts.items()}
        except InputError as error:
            raise EraserFileError(f"{quoted(os.path.basename(path))} cannot be used. {error}") from error
        return cls(read, provenance, notes, shape)


def _listed(streams: Mapping[str, Eraser]) -> str:
    return printable(", ".join(sorted(streams))) or "none"
