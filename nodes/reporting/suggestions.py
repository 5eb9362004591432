"""What was found next to a concept: as lines for the fields of 'Erase Concepts', in words and as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ...rece_ops.texts import printable, quoted
from ..host.jobs.suggest import Found, Suggestion, Suggestions
from ..request.concept_lines import text_key
from ..request.suggestion_request import SuggestionRequest, concept_line
from .figure import BLUE, GREY, MISSING, RED, percent, picture_of, picture_of_sentence, plain, shortened

_MOST_SHOWN = 24
_MOST_FIGURES = 6


def concept_lines(suggestions: Suggestions) -> str:
    """Every concept, its synonyms and its leaks, each once, with their targets."""
    lines: dict[str, str] = {}
    for one in suggestions.found:
        target = target_of(one)
        for word in (one.line.concept, *(found.word for found in (*one.synonyms, *one.leaks))):
            if text_key(word) != text_key(target):
                lines.setdefault(text_key(word), concept_line(word, target, one.line.weight))
    return "\n".join(lines.values())


def preserve_lines(suggestions: Suggestions) -> str:
    """The neighbours and kin of all concepts, each once; none that a line cannot hold."""
    words = {
        text_key(found.word): found.word for one in suggestions.found for found in (*one.neighbours, *(one.kin or ()))
    }
    return "\n".join(word for word in words.values() if "#" not in word)


def target_lines(suggestions: Suggestions) -> str:
    """Every concept and where it is sent."""
    return "\n".join(concept_line(one.line.concept, target_of(one), one.line.weight) for one in suggestions.found)


def target_of(one: Suggestion) -> str:
    """As it was typed, or else as it was found; empty where nothing was."""
    return one.line.target or ("" if one.target is None else one.target.word)


def suggestion_report(request: SuggestionRequest, suggestions: Suggestions) -> str:
    """What was looked at, what was found, and what it means."""
    words = suggestions.words
    how = "many at a time" if words.fast else "one at a time, as its text encoder allows no more"
    cached = len(words.words) - words.encoded
    lines = [
        f"Looked at {len(words.words):,} words, of which {cached:,} were encoded before; {words.encoded:,} were encoded {how}, in "
        f"{words.seconds:.0f} s."
    ]
    lines += [f"Note: {note}" for note in words.notes]
    for one in suggestions.found:
        lines += _told(request, one)
    if suggestions.price is not None:
        lines.append(
            f"Price: through the eraser, half of all words drift by more than {suggestions.price.median:.0%}, and one in twenty by "
            f"more than {suggestions.price.most:.0%}."
        )
    lines.append(
        "Read the lists before you use them: a word that says the same to the text encoder may say more to you. Only pictures show "
        "what is gone."
    )
    return "\n".join(lines)


def _told(request: SuggestionRequest, one: Suggestion) -> Iterator[str]:
    yield f"{quoted(one.line.concept)}:"
    yield f"  to erase with it (likeness at least {request.alike:.0%}): {_listed(one.synonyms)}"
    yield f"  to preserve (likeness at least {request.near:.0%}): {_listed(one.neighbours)}"
    if one.kin is not None:
        yield f"  to preserve, as words of the same kind: {_listed(one.kin)}"
    yield f"  target: {_target(one)}"
    if one.left is not None:
        yield f"  after the eraser: {one.left:.0%} of it is left in its own word"
        yield f"  words that still have at least {request.leak:.0%} of it: {_listed(one.leaks, share=True)}"


def _target(one: Suggestion) -> str:
    if one.line.target:
        return f"{quoted(one.line.target)}, as typed"
    if one.target is None:
        return "none of the common words comes near; the empty prompt"
    told = f"{quoted(one.target.word)}, which has {max(0.0, one.target.share):.0%} of it"
    if one.kin is None:
        return f"{told}; what kind of word it is cannot be told here, so look at pictures, or type a target of the same kind"
    if not one.kin:
        return f"{told}; no word of the same kind was found, so look at pictures, or type a target of the same kind"
    return f"{told} and is of the same kind"


def _listed(found: Sequence[Found], share: bool = False) -> str:
    if not found:
        return "none"
    shown = [f"{printable(one.word)} {one.share if share else one.likeness:.0%}" for one in found[:_MOST_SHOWN]]
    more = [f"… and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
    return ", ".join(shown + more)


def suggestion_figure(suggestions: Suggestions) -> Tensor:
    """One picture [1, height, width, 3] in 0 … 1: for each concept its synonyms, neighbours and leaks as bars."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return picture_of_sentence(MISSING)
    shown = suggestions.found[:_MOST_FIGURES]
    leaking = any(one.left is not None for one in shown)
    drawing = Figure(figsize=(12 if leaking else 7, 5 * len(shown)), dpi=80, layout="constrained")
    panels = drawing.subplots(len(shown), 1 + leaking, squeeze=False)
    for row, one in zip(panels, shown, strict=True):
        _bars(row[0], one, f"Words like {printable(one.line.concept, 40)}")
        if leaking:
            _leaks(row[1], one)
    return picture_of(drawing)


def _bars(axes: Any, one: Suggestion, title: str) -> None:
    found = [(word, RED) for word in one.synonyms] + [(word, BLUE) for word in one.neighbours]
    found = found[:_MOST_SHOWN]
    names = [f"{place + 1}. {shortened(word.word)}" for place, (word, _) in enumerate(found)]
    axes.barh(names, [word.likeness for word, _ in found], color=[colour for _, colour in found])
    axes.set_title(plain(f"{title} (red: erase, blue: preserve)"))
    axes.set_xlim(0, 1)
    percent(axes.xaxis)
    axes.invert_yaxis()


def _leaks(axes: Any, one: Suggestion) -> None:
    names = [f"{place + 1}. {shortened(word.word)}" for place, word in enumerate(one.leaks[:_MOST_SHOWN])]
    axes.barh(names, [word.share for word in one.leaks[:_MOST_SHOWN]], color=GREY)
    axes.set_title("What still has a share of it after the eraser")
    percent(axes.xaxis)
    axes.invert_yaxis()
