"""How an eraser was made, as it says itself: typed and bounded, wherever it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .errors import InputError
from .texts import code_point, unseen_character, without_unseen

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 64
"""How often erasers can be combined with combined ones."""
MAX_ENTRIES = 100_000
MAX_TEXT = 20_000
MAX_NAME = 200
MAX_WHOLE_NUMBER = 2**53
_MAX_PLAIN_DEPTH = 8

_Cleaner = Callable[[str], str]


@dataclass(frozen=True)
class Provenance:
    """How an eraser was made, as it says itself; None where it does not say.

    Attributes:
        method: as reports call it: RECE, UCE, projection, combined.
        concepts: what was erased.
        targets: what each concept was erased towards, '' for the empty prompt; as many as concepts.
        weights: of the concepts, as many.
        embeddings: how many prompts were erased that were given as CONDITIONING.
        examples: how many prompts said what the first concept is.
        preserve: the prompts that were to stay.
        templates: the name of the templates inside which the concepts were erased too.
        preserve_exactly: whether what was to stay was kept exactly.
        settings: of the method, plain JSON values; or such a mapping for each text stream.
        architecture: what it was made on.
        dimensions: of the text streams, by name.
        fronts: the text streams that reach the text readers through a norm or a network.
        pack_version: of the pack that made it.
        parts: of a combined eraser, in the order in which they are applied.
        strength: of a part in its whole.
        shape: where and when it counts, in words, where that is not everywhere and always.
        others: what a newer version of the pack added, plain JSON values.

    Raises:
        InputError: a value has the wrong type, is too large or nested too deep, is not finite, or is a text with
            characters that nobody can see.
    """

    method: str | None = None
    concepts: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    embeddings: int | None = None
    examples: int | None = None
    preserve: tuple[str, ...] | None = None
    templates: str | None = None
    preserve_exactly: bool | None = None
    settings: Mapping[str, Any] | None = None
    architecture: str | None = None
    dimensions: Mapping[str, int] | None = None
    fronts: tuple[str, ...] | None = None
    pack_version: str | None = None
    parts: tuple[Provenance, ...] | None = None
    strength: float | None = None
    shape: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, checked in _FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
        object.__setattr__(self, "others", _plain_mapping("others", self.others))
        counts = {len(told) for told in (self.concepts, self.targets, self.weights) if told is not None}
        if len(counts) > 1:
            raise InputError(
                f"The provenance has lists of concepts, targets and weights of the lengths {sorted(counts)}."
            )
        _check_depth(self, MAX_DEPTH)

    @classmethod
    def of(cls, told: Mapping[str, Any] | Provenance | None) -> Provenance:
        """`told` itself, or a mapping of plain JSON values as a Provenance.

        Raises:
            InputError: see `Provenance`.
        """
        if isinstance(told, Provenance):
            return told
        return _from_mapping(told or {}, str, MAX_DEPTH)

    @classmethod
    def from_json(cls, text: str, clean: bool = False) -> Provenance:
        """The provenance in a file.

        Args:
            text: a JSON object.
            clean: take characters out that nobody can see, where otherwise they are refused.

        Raises:
            InputError: the text is too long or no JSON object; for the rest see `Provenance`.
        """
        if len(text) > MAX_BYTES:
            raise InputError(f"The provenance has {len(text)} characters, which cannot be right.")
        try:
            told = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise InputError("The provenance is no JSON that can be read.") from None
        return _from_mapping(told, cleaned if clean else str, MAX_DEPTH)

    def as_dict(self) -> dict[str, Any]:
        """What is told, as plain JSON values of the caller's own."""
        told = {name: _plain_copy(getattr(self, name)) for name in _FIELDS if getattr(self, name) is not None}
        return {**_plain_copy(self.others), **told}

    def erased(self) -> dict[str, str]:
        """Every concept with its target, those of the parts of a combined eraser too; of two, the one applied last."""
        found = dict(zip(self.concepts or (), self.targets or (), strict=False))
        for part in self.parts or ():
            if part.strength != 0:
                found.update(part.erased())
        return found

    def as_json(self) -> str:
        """What is told, as a JSON object.

        Raises:
            InputError: it would be too long to be read again.
        """
        text = json.dumps(self.as_dict(), ensure_ascii=False, sort_keys=True, allow_nan=False)
        if len(text) > MAX_BYTES:
            raise InputError(
                f"The eraser's provenance has {len(text)} characters, more than the {MAX_BYTES} that a file may have: erase "
                "or combine fewer concepts at once."
            )
        return text


def cleaned(text: str) -> str:
    """`text` as a provenance can hold it: not too long, and without characters that nobody can see."""
    return without_unseen(text[:MAX_TEXT])


def _from_mapping(told: Any, clean: _Cleaner, depth: int) -> Provenance:
    if not isinstance(told, Mapping):
        raise InputError(f"The provenance is no JSON object, but {type(told).__name__}.")
    if depth < 1:
        _refuse_depth()
    known = {name: _cleaned(told[name], clean) for name in _FIELDS if name != "parts" and name in told}
    others = {name: _cleaned(value, clean) for name, value in told.items() if name not in _FIELDS}
    parts = told.get("parts")
    if parts is not None:
        known["parts"] = tuple(_from_mapping(part, clean, depth - 1) for part in _list("parts", parts))
    return Provenance(**known, others=others)


def _cleaned(value: Any, clean: _Cleaner) -> Any:
    """`value` with its texts cleaned, as deep as a field may be; what is deeper is refused afterwards."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean(one) if isinstance(one, str) else one for one in value]
    return value


def _check_depth(provenance: Provenance, depth: int) -> None:
    if depth < 1:
        _refuse_depth()
    for part in provenance.parts or ():
        _check_depth(part, depth - 1)


def _refuse_depth() -> NoReturn:
    raise InputError(
        f"The eraser is combined of combined ones more than {MAX_DEPTH} deep: erase the concepts in one 'Erase Concepts' "
        "node instead."
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _text(name: str, value: Any, longest: int = MAX_TEXT) -> str:
    if not isinstance(value, str):
        raise InputError(f"'{name}' in the provenance is {type(value).__name__}, not a text.")
    if len(value) > longest:
        raise InputError(f"'{name}' in the provenance has a text of {len(value)} characters: {longest} are the most.")
    unseen = unseen_character(value)
    if unseen is not None:
        raise InputError(f"'{name}' in the provenance holds the character {code_point(unseen)}, which nobody can see.")
    return value


def _name(name: str, value: Any) -> str:
    return _text(name, value, MAX_NAME)


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"'{name}' in the provenance is {type(value).__name__}, not a list.")
    if len(value) > MAX_ENTRIES:
        raise InputError(f"'{name}' in the provenance has {len(value)} entries: {MAX_ENTRIES} are the most.")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(name, one) for one in _list(name, value))


def _names(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_name(name, one) for one in _list(name, value))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"'{name}' in the provenance is {type(value).__name__}, not a number.")
    # Compared first: a whole number can be too large to be made a float.
    if not abs(value) <= MAX_WHOLE_NUMBER:
        raise InputError(f"'{name}' in the provenance is not finite, or a number too large.")
    return value


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    return tuple(_number(name, one) for one in _list(name, value))


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WHOLE_NUMBER:
        raise InputError(f"'{name}' in the provenance is no whole number of zero or more.")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"'{name}' in the provenance is {type(value).__name__}, not true or false.")
    return value


def _mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"'{name}' in the provenance is {type(value).__name__}, not an object.")
    if len(value) > MAX_ENTRIES:
        raise InputError(f"'{name}' in the provenance has {len(value)} entries: {MAX_ENTRIES} are the most.")
    return value


def _counts(name: str, value: Any) -> dict[str, int]:
    return {_name(name, key): _count(name, one) for key, one in _mapping(name, value).items()}


def _parts(name: str, value: Any) -> tuple[Provenance, ...]:
    parts = tuple(_list(name, value))
    if not all(isinstance(part, Provenance) for part in parts):
        raise InputError(f"'{name}' in the provenance holds something that is no provenance.")
    return parts


def _plain_mapping(name: str, value: Any, depth: int = _MAX_PLAIN_DEPTH) -> dict[str, Any]:
    return {_name(name, key): _plain(name, one, depth - 1) for key, one in _mapping(name, value).items()}


def _plain(name: str, value: Any, depth: int) -> Any:
    """A copy of a JSON value, checked."""
    if depth < 0:
        raise InputError(f"'{name}' in the provenance is nested more than {_MAX_PLAIN_DEPTH} deep.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, Mapping):
        return _plain_mapping(name, value, depth)
    if isinstance(value, (list, tuple)):
        return [_plain(name, one, depth - 1) for one in _list(name, value)]
    return _number(name, value)


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Provenance):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain_copy(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_copy(one) for one in value]
    return value


_FIELDS: Mapping[str, Callable[[str, Any], Any]] = {
    "method": _name,
    "concepts": _texts,
    "targets": _texts,
    "weights": _numbers,
    "embeddings": _count,
    "examples": _count,
    "preserve": _texts,
    "templates": _name,
    "preserve_exactly": _switch,
    "settings": _plain_mapping,
    "architecture": _name,
    "dimensions": _counts,
    "fronts": _names,
    "pack_version": _name,
    "parts": _parts,
    "strength": _number,
    "shape": _text,
}
