"""Examples of a concept: prompts that have it, typed or from a file, each alone or with the same prompt without it.

a nude woman on a beach                         a prompt with the concept
a nude woman -> a woman in a dress              the same prompt with and without it
"a sign that says -> exit"                      between quotes, everything is part of the prompt
# a comment, on a line of its own
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...rece_ops import InputError
from ...rece_ops.texts import quoted
from .concept_lines import text_key
from .quotations import masked_quotations, unquoted
from .typed_text import LineError, content_lines

MAX_EXAMPLES = 1000
_ARROW = "->"


@dataclass(frozen=True)
class Example:
    """A prompt with a concept, and the same without it where a person gave it; the empty prompt counts as given."""

    prompt: str
    without: str | None = None


def parse_examples(text: str) -> list[Example]:
    """The examples of a text, one a line, as the module's head shows.

    Raises:
        LineError: a line has two arrows, nothing before its arrow, or the same on both sides. The message names the line.
        InputError: there are too many.
    """
    found: list[Example] = []
    for number, line in content_lines("examples", text, inline_comments=False):
        if len(found) == MAX_EXAMPLES:
            raise InputError(
                f"'examples' has more than {MAX_EXAMPLES:,} prompts: give fewer, with 'first' or 'every' of Load Prompt Set."
            )
        found.append(_example(number, line))
    return found


def examples_text(examples: Iterable[Example]) -> str:
    """The text that `parse_examples` reads as these, with every run of blanks and line ends as one blank."""
    return "\n".join(_line(example) for example in examples)


def _example(number: int, line: str) -> Example:
    masked = masked_quotations(line)
    if masked.count(_ARROW) > 1:
        raise LineError(
            number,
            f"Line {number} of 'examples' ({quoted(line)}) has two arrows: write one pair a line, and put prompts that hold an "
            "arrow in double quotes.",
        )
    place = masked.find(_ARROW)
    if place < 0:
        return Example(_side(line))
    example = Example(_side(line[:place]), _side(line[place + len(_ARROW) :]))
    if not example.prompt or text_key(example.prompt) == text_key(example.without or ""):
        raise LineError(
            number,
            f"Line {number} of 'examples' ({quoted(line)}) is no pair of prompts: write 'with the concept -> without it', as in "
            "'a nude woman -> a woman in a dress'.",
        )
    return example


def _side(text: str) -> str:
    return unquoted(text.strip()) or text.strip()


def _line(example: Example) -> str:
    sides = [example.prompt] if example.without is None else [example.prompt, example.without]
    return f" {_ARROW} ".join(map(_written, sides)).strip()


def _written(prompt: str) -> str:
    """`prompt` on one line, between quotes where it would be read as something else."""
    line = " ".join(prompt.split())
    if _ARROW not in line and not line.startswith(("#", '"', "“")):
        return line
    return '"' + line.replace('"', "'") + '"'
