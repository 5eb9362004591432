"""What a person is told while typing: how the concept fields are understood, by the parser that reads them in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ...rece_ops import InputError
from ...rece_ops.texts import printable
from .balance_request import check_balanced
from .concept_lines import (
    ConceptLine,
    check_single_targets,
    numbered_concepts,
    parse_concepts,
    preserved_notes,
    text_key,
)
from .concept_lists import LISTS
from .erasure_request import first_mixed
from .presets import NAMES, default_target
from .target_mixtures import mixture_of
from .training_request import contexts_of
from .typed_text import LineError, format_notes

MAX_LIVE = 100_000
"""Characters of a field; longer ones are only read in a run."""
_FIELDS = ("node", "concepts", "concept", "contexts", "method", "preserve", "preset", "target")
_MOST_SHOWN = 12
_SHORT = 40
_KNOWN_TARGETS = {
    text_key(line.concept): line.target
    for lines in LISTS.values()
    for line in parse_concepts("\n".join(lines))
    if line.target
}


def understand(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read the concept fields of a node.

    Args:
        fields: 'node', the node's id; 'concepts', or 'concept' of the node that balances one, and where the node has them
            'contexts', 'method', 'preserve', 'preset' and 'target', as they stand on the node.

    Returns:
        'summary', a line of text; 'hint', one more or nothing; 'error', which is None or has a 'message' and a 'line' (0 for
        no line in particular).
    """
    texts = {name: fields.get(name, "") for name in _FIELDS}
    if not all(isinstance(text, str) and len(text) <= MAX_LIVE for text in texts.values()):
        return _told("", "This is too long to be checked while you type; the run will.", 0)
    preset = texts["preset"]
    default = default_target(preset, texts["target"]) if preset in NAMES else ""
    found: list[ConceptLine] = []
    try:
        found += (line for _, line in numbered_concepts(texts["concepts"] or texts["concept"], default))
        if found:
            _CHECKS.get(texts["node"], _pass)(found, texts)
        notes = preserved_notes(texts["preserve"], found)
    except InputError as error:
        return _told(_summary(found), str(error), error.line if isinstance(error, LineError) else 0)
    left_out = [note for name in ("concepts", "preserve") for note in format_notes(name, texts[name])]
    advice = "" if texts["node"] in _TARGETS_OF_ITS_OWN else _hint(found)
    return {"summary": _summary(found), "hint": " ".join([*left_out, *notes]) or advice, "error": None}


def _pass(lines: list[ConceptLine], texts: Mapping[str, str]) -> None:
    """Any concepts will do."""


def _check_erased(lines: list[ConceptLine], texts: Mapping[str, str]) -> None:
    first_mixed(lines, texts["method"])


def _check_one_balanced(lines: list[ConceptLine], texts: Mapping[str, str]) -> None:
    check_balanced(lines)


def _check_single(lines: list[ConceptLine], texts: Mapping[str, str]) -> None:
    check_single_targets(lines)
    contexts_of(texts["contexts"])


_CHECKS: Mapping[str, Callable[[list[ConceptLine], Mapping[str, str]], None]] = MappingProxyType(
    {
        "RECE_EraseConcepts": _check_erased,
        "RECE_BalanceConcept": _check_one_balanced,
        "RECE_TrainEraser": _check_single,
        "RECE_PruneConcept": _check_single,
        "RECE_UnlearnTextEncoder": _check_single,
        "RECE_SuggestConcepts": _check_single,
    }
)
"""What else a run checks before it begins, by the node."""
_TARGETS_OF_ITS_OWN = ("RECE_SuggestConcepts", "RECE_ErasureReport")
"""Where nobody needs a target: one node looks for them, the other takes the eraser's."""


def _told(summary: str, message: str, line: int) -> dict[str, Any]:
    return {"summary": summary, "hint": "", "error": {"message": message, "line": line}}


def _hint(lines: list[ConceptLine]) -> str:
    """A target for the first concept without one: the pocket model drew better pictures with one, by every method."""
    bare = next((line.concept for line in lines if not line.target), None)
    if bare is None:
        return ""
    known = _KNOWN_TARGETS.get(text_key(bare))
    example = f": {printable(bare, _SHORT)} -> {known}" if known else ""
    return f"Pictures come out better with a target, what to draw instead{example}"


def _summary(lines: list[ConceptLine]) -> str:
    if not lines:
        return ""
    shown = [_shown(line) for line in lines[:_MOST_SHOWN]]
    more = [f"… and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
    return " · ".join([f"{len(lines)} concept{'s' if len(lines) > 1 else ''}", *shown, *more])


def _shown(line: ConceptLine) -> str:
    shares = mixture_of(line.target)
    mixed = " | ".join(f"{printable(target, _SHORT)} {share:.0%}" for target, share in shares.items())
    target = f" → {mixed or printable(line.target, _SHORT)}" if line.target else ""
    weight = f" × {line.weight:g}" if line.weight != 1 else ""
    return f"{printable(line.concept, _SHORT)}{target}{weight}"
