"""Prompt sets: what the columns of the field's files mean, and which of their prompts are wanted.

Known are the headings of I2P, UnlearnDiffAtk, COCO, Receler, ConceptPrune, Ring-A-Bell, MMA, Six-CD, HUB, and Lu et al.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...rece_ops import InputError
from ...rece_ops.texts import quoted
from .choices import check_choice
from .concept_examples import Example, examples_text
from .prompt_tables import PROMPT, WITH, WITHOUT, PromptTable, read_table

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl")
AUTOMATIC = "automatic"
MAX_SEED = 2**64 - 1
MAX_GUIDANCE = 100.0
SIDES = (16, 16_384)

# Of several columns of prompts, the first is meant unless a person chooses another.
PROMPT_COLUMNS = (
    *(PROMPT, "adv_prompt", WITH, "target_prompt", "text", "original", "noun"),
    *(WITHOUT, "clean_prompt", "sanitized_adv_prompt", "spanish", "french", "german", "italian", "portuguese"),
    # Names, for lists of what to preserve.
    "artist",
)
SEED_COLUMNS = ("evaluation_seed", "sd_seed", "seed")
GUIDANCE_COLUMNS = ("evaluation_guidance", "sd_guidance_scale", "guidance")
SIZE_COLUMNS = ("sd_image_width", "sd_image_height")
LABEL_COLUMNS = ("class", "artist", "categories", "target")
MEASURE_COLUMNS = (
    *("inappropriate_percentage", "nudity_percentage", "q16_percentage", "sd_safety_percentage"),
    *("prompt_toxicity", "similarity"),
)
_HARD = "hard"
_OTHERS = (
    *(_HARD, "case_number", "image_id", "coco_id", "index", "lexica_url", "sd_model", "source", "base"),
    "success_against_sanitization_defense",
)
KNOWN = tuple(
    dict.fromkeys(
        (
            *(*PROMPT_COLUMNS, *SEED_COLUMNS, *GUIDANCE_COLUMNS, *SIZE_COLUMNS),
            *(*LABEL_COLUMNS, *MEASURE_COLUMNS, *_OTHERS),
        )
    )
)
_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


@dataclass(frozen=True)
class PromptEntry:
    """One prompt of a set; None where the file does not say.

    Attributes:
        place: of its row in the file, from 0.
        prompt: as the file has it.
        seed, guidance, width, height: of the picture.
        labels: its class, artist, or categories.
        hard: whether I2P calls it hard.
        without: the same prompt without the concept, where the file has pairs and the prompt is the one with it.
    """

    place: int
    prompt: str
    seed: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    labels: tuple[str, ...] = ()
    hard: bool | None = None
    without: str | None = None


@dataclass(frozen=True)
class Drawing:
    """How the picture of a prompt is made where the file does not say; a seed is that of the first row, and counts up.

    Raises:
        InputError: a number is out of range.
    """

    seed: int = 0
    guidance: float = 7.5
    width: int = 512
    height: int = 512

    def __post_init__(self) -> None:
        ranges = {"seed": (0, MAX_SEED), "guidance": (0, MAX_GUIDANCE), "width": SIDES, "height": SIDES}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"'{name}' is {getattr(self, name)}: give a number from {low:g} to {high:g}.")

    def completed(self, entry: PromptEntry) -> PromptEntry:
        """`entry` with nothing left open. A row has the same seed whichever others are chosen."""
        return replace(
            entry,
            seed=(self.seed + entry.place) % (MAX_SEED + 1) if entry.seed is None else entry.seed,
            guidance=self.guidance if entry.guidance is None else entry.guidance,
            width=entry.width or self.width,
            height=entry.height or self.height,
        )


@dataclass(frozen=True)
class Selection:
    """Which prompts of a set are wanted, in this order: of a category, hard ones, every k-th, the first n.

    Attributes:
        category: one of a prompt's labels, in any case of letters; empty for all.
        hard_only: only those that I2P calls hard.
        every: 1 for all, 2 for every other, …
        first: how many; 0 for all.
    """

    category: str = ""
    hard_only: bool = False
    every: int = 1
    first: int = 0


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a file.

    Attributes:
        name: of the file.
        column: that the prompts are from.
        entries: in the file's order.
        notes: what was read otherwise than it stands there, as sentences.
    """

    name: str
    column: str
    entries: tuple[PromptEntry, ...]
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> str:
        """The prompts as the text that `parse_examples` reads."""
        return examples_text(Example(entry.prompt, entry.without) for entry in self.entries)

    def selected(self, selection: Selection) -> PromptSet:
        """The set with only the prompts that are wanted.

        Raises:
            InputError: a number is out of range, or no prompt is left; the message says what there was.
        """
        if selection.every < 1 or selection.first < 0:
            raise InputError(
                f"'every' is {selection.every} and 'first' is {selection.first}: 'every' is at least 1, 'first' at least 0."
            )
        kept = [entry for entry in self.entries if _fits(entry, selection)]
        if not kept:
            raise InputError(
                f"No prompt of {quoted(self.name)} is left of {len(self.entries)}. {self._told(selection)} Choose another "
                "'category', or turn off 'hard_only'."
            )
        kept = kept[:: selection.every]
        return replace(self, entries=tuple(kept[: selection.first] if selection.first else kept))

    def without(self, category: str) -> PromptSet:
        """The prompts of every other category.

        Raises:
            InputError: there is none.
        """
        left = tuple(entry for entry in self.entries if not _fits(entry, Selection(category)))
        if not left:
            raise InputError(
                f"All prompts of {quoted(self.name)} are of the category {quoted(category)}: give another file."
            )
        return replace(self, entries=left)

    def _told(self, selection: Selection) -> str:
        labels = sorted({label for entry in self.entries for label in entry.labels})
        has = (
            f"Its categories are {', '.join(quoted(one, 30) for one in labels[:20])}."
            if labels
            else "It has no categories."
        )
        hard = sum(bool(entry.hard) for entry in self.entries)
        return f"{has} {hard} of its prompts are called hard." if selection.hard_only else has


def read_prompt_set(path: Path, column: str = AUTOMATIC) -> PromptSet:
    """The prompt set in a file.

    Args:
        path: a CSV file, JSON lines (`.jsonl`), or text with one prompt a line.
        column: which one has the prompts; 'automatic' takes the first of `PROMPT_COLUMNS` that is there.

    Raises:
        InputError: the file cannot be understood, or lacks the column; the message says what it has and what is known.
    """
    check_choice("column", column, (AUTOMATIC, *PROMPT_COLUMNS))
    name = path.name
    table = read_table(path, KNOWN, PROMPT_COLUMNS)
    present = [one for one in PROMPT_COLUMNS if one in table.columns]
    chosen = column if column != AUTOMATIC else next(iter(present), "")
    if chosen not in present:
        what = f"no column '{column}'" if chosen else "no column of prompts"
        raise InputError(
            f"{quoted(name)} has {what}, only {', '.join(quoted(one, 30) for one in table.columns[:20])}. Known columns of "
            f"prompts are {', '.join(PROMPT_COLUMNS)}."
        )
    entries = tuple(_entry(name, place, row, chosen) for place, row in enumerate(table.rows) if row[chosen].strip())
    if not entries:
        raise InputError(f"{quoted(name)} holds no prompts in its column '{chosen}': choose another file or 'column'.")
    return PromptSet(name, chosen, entries, (*table.notes, *_left_out(table)))


def _left_out(table: PromptTable) -> list[str]:
    unknown = [column for column in table.columns if column not in KNOWN]
    if not unknown:
        return []
    return [f"Not read: {', '.join(quoted(column, 30) for column in unknown[:12])}, which this pack does not know."]


def _fits(entry: PromptEntry, selection: Selection) -> bool:
    wanted = selection.category.strip().casefold()
    labelled = not wanted or wanted in (label.casefold() for label in entry.labels)
    return labelled and (bool(entry.hard) or not selection.hard_only)


def _entry(name: str, place: int, row: Mapping[str, str], column: str) -> PromptEntry:
    where = f"Prompt {place + 1} of {quoted(name)}"
    width, height = (_whole(where, row, (one,), *SIDES) for one in SIZE_COLUMNS)
    return PromptEntry(
        place,
        row[column],
        _whole(where, row, SEED_COLUMNS, 0, MAX_SEED),
        _guidance(where, row),
        width,
        height,
        _labels(row),
        _hard(where, row),
        (row.get(WITHOUT, "").strip() or None) if column == WITH else None,
    )


def _filled(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, str]:
    """Name and text of the first of the columns that has something in this row."""
    return next(((one, row[one].strip()) for one in columns if row.get(one, "").strip()), ("", ""))


def _whole(where: str, row: Mapping[str, str], columns: Sequence[str], low: int, high: int) -> int | None:
    column, text = _filled(row, columns)
    if not text:
        return None
    # Pandas writes whole numbers as 1.0 where others in the column are missing.
    digits = text.removesuffix(".0")
    value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else -1
    if not low <= value <= high:
        raise InputError(f"{where} has the {column} {quoted(text)}: give a whole number from {low} to {high}.")
    return value


def _guidance(where: str, row: Mapping[str, str]) -> float | None:
    column, text = _filled(row, GUIDANCE_COLUMNS)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_GUIDANCE:
        raise InputError(f"{where} has the {column} {quoted(text)}: give a number from 0 to {MAX_GUIDANCE:g}.")
    return value


def _labels(row: Mapping[str, str]) -> tuple[str, ...]:
    column, text = _filled(row, LABEL_COLUMNS)
    parts = text.split(",") if column == "categories" else [text]
    return tuple(part.strip() for part in parts if part.strip())


def _hard(where: str, row: Mapping[str, str]) -> bool | None:
    if _HARD not in row:
        return None
    text = row[_HARD].strip().lower()
    if text not in (*_YES, *_NO):
        raise InputError(f"{where} has {quoted(text)} in the column 'hard': give 1 or 0.")
    return text in _YES
