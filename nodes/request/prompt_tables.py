"""Tables of prompts as the field writes them: CSV with a line of headings or without, plain text, and JSON lines.

Nothing here knows what a column means, only which names are known. Files come from the web: all of it is bounded and checked.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...rece_ops import InputError
from ...rece_ops.texts import printable, quoted
from .typed_text import MAX_LINE

MAX_BYTES = 64 << 20
MAX_ROWS = 100_000
MAX_COLUMNS = 64
PROMPT = "prompt"
WITH, WITHOUT = "sensitive prompt", "normal prompt"

# What pandas calls the row numbers that it writes in front.
_ROW_NUMBERS = re.compile(r"(unnamed: \d+)?")
_HEADING = re.compile(r"[^\W\d][\w.-]*( [\w.-]+)?")
_SHOWN = 12


class PromptTable(NamedTuple):
    """Rows of texts by the name of their column.

    Attributes:
        columns: their names in lower case, without those of row numbers.
        rows: by column; cells that a row lacks are empty.
        notes: what was read otherwise than it stands there, as sentences.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    notes: tuple[str, ...] = ()


def read_table(path: Path, known: Collection[str], texts: Sequence[str]) -> PromptTable:
    """The table in a file, by the ending of its name: `.csv`, `.tsv`, `.jsonl`, and anything else is a prompt a line.

    Args:
        path: of the file.
        known: all names of columns that mean something.
        texts: those of them that hold prompts.

    Raises:
        InputError: the file is too large, no UTF-8 text, of a wrong form, or has none of the known columns.
    """
    name = quoted(path.name)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{name} has {size:,} bytes: a prompt set has at most {MAX_BYTES:,}. Cut it into several files."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no text in UTF-8 ({printable(str(error))}): save it as UTF-8.") from None
    read = _READERS.get(path.suffix.lower(), _lines)
    table = read(name, text, known, texts)
    if not table.rows:
        raise InputError(f"{name} holds no prompts: choose another file, or write one prompt a line.")
    return table


def _lines(name: str, text: str, known: Collection[str], texts: Sequence[str]) -> PromptTable:
    lines = (line.strip() for line in text.splitlines())
    return PromptTable((PROMPT,), list(_bounded(name, ({PROMPT: line} for line in lines if line))))


def _json_lines(name: str, text: str, known: Collection[str], texts: Sequence[str]) -> PromptTable:
    lines = ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())
    rows = list(_bounded(name, (_object(name, number, line) for number, line in lines)))
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    if rows and not set(columns) & set(known):
        raise _unknown(name, columns, texts)
    return PromptTable(columns, [{column: row.get(column, "") for column in columns} for row in rows])


def _object(name: str, number: int, line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
        row = (
            {PROMPT: found} if isinstance(found, str) else {key.strip().lower(): value for key, value in found.items()}
        )
        if len(row) > MAX_COLUMNS:
            raise ValueError("too many names")
        return {key: _cell(value) for key, value in row.items() if not _ROW_NUMBERS.fullmatch(key)}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InputError(
            f"Line {number} of {name} ({quoted(line)}) is no row: write a JSON object of texts and numbers on each line, as in "
            '{"prompt": "a photo of a church", "seed": 1}.'
        ) from None


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value if not isinstance(one, list))
    if value is None:
        return ""
    if not isinstance(value, (str, int, float)):
        raise TypeError("neither text nor number")
    return str(value)


def _tabs(name: str, text: str, known: Collection[str], texts: Sequence[str]) -> PromptTable:
    return _csv(name, text, known, texts, "\t")


def _csv(name: str, text: str, known: Collection[str], texts: Sequence[str], delimiter: str = ",") -> PromptTable:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        filled = [row for row in _bounded(name, reader) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(
            f"{name} is no CSV file ({printable(str(error))}): prompts that hold quotation marks or commas stand in quotation "
            'marks, and those in them are doubled ("").'
        ) from None
    if not filled:
        return PromptTable((PROMPT,), [])
    columns = [cell.strip().lower() for cell in filled[0]]
    if set(columns) & set(known):
        return _headed(name, columns, filled[1:], texts, delimiter)
    if all(_HEADING.fullmatch(column) or _ROW_NUMBERS.fullmatch(column) for column in columns):
        raise _unknown(name, columns, texts)
    return _headless(name, filled)


def _headed(
    name: str, columns: Sequence[str], cells: Sequence[list[str]], texts: Sequence[str], delimiter: str
) -> PromptTable:
    kept = [column for column in columns if not _ROW_NUMBERS.fullmatch(column)]
    if len(set(kept)) < len(kept) or len(kept) > MAX_COLUMNS:
        raise InputError(
            f"{name} has a heading twice, or more than {MAX_COLUMNS} columns ({_listed(kept)}): leave out what is not needed."
        )
    places = [place for place, column in enumerate(columns) if column in texts]
    rows, joined = [], 0
    for number, row in enumerate(cells, start=2):
        fitted = _fitted(name, number, row, len(columns), places, delimiter)
        joined += len(fitted) < len(row)
        filled = zip(columns, [*fitted, *[""] * (len(columns) - len(fitted))], strict=True)
        rows.append({column: cell for column, cell in filled if not _ROW_NUMBERS.fullmatch(column)})
    return PromptTable(tuple(kept), rows, (_joined(joined),) if joined else ())


def _fitted(name: str, number: int, row: list[str], width: int, places: Sequence[int], delimiter: str) -> list[str]:
    """`row` with the cells of a prompt whose commas are not in quotation marks joined again.

    Published sets have such rows; with one column of prompts there is only one way to read them.
    """
    surplus = len(row) - width
    if surplus <= 0:
        return row
    if len(places) != 1:
        raise InputError(
            f"Row {number} of {name} has {len(row)} columns where the heading has {width} ({quoted(row[0])}, …): put "
            "prompts that hold commas in quotation marks."
        )
    (place,) = places
    return [*row[:place], delimiter.join(row[place : place + surplus + 1]), *row[place + surplus + 1 :]]


def _joined(count: int) -> str:
    return f"{count} row{'s have' if count > 1 else ' has'} commas outside quotation marks, which were taken as part of the prompt."


def _headless(name: str, cells: Sequence[list[str]]) -> PromptTable:
    """Of a file without headings only the columns of texts: one is prompts, two are prompts with and without a concept."""
    widths = {len(row) for row in cells}
    places = [place for place in range(min(widths)) if any(not _is_number(row[place]) for row in cells)]
    if len(widths) > 1 or len(places) not in (1, 2):
        raise InputError(
            f"{name} has no line of headings, and {_listed(map(str, sorted(widths)))} columns a row: what is a prompt is "
            f"not clear. Write the names of the columns into its first line, such as '{PROMPT},seed', and put prompts that "
            "hold commas in quotation marks."
        )
    names = (PROMPT,) if len(places) == 1 else (WITH, WITHOUT)
    rows = [{column: row[place] for column, place in zip(names, places, strict=True)} for row in cells]
    return PromptTable(names, rows, ("It has no line of headings.",))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _bounded(name: str, rows: Iterator[Any]) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number > MAX_ROWS:
            raise InputError(f"{name} has more than {MAX_ROWS:,} rows: cut it into several files.")
        cells = row.values() if isinstance(row, Mapping) else row
        if any(len(cell) > MAX_LINE for cell in cells):
            longest = max(cells, key=len)
            raise InputError(
                f"Row {number + 1} of {name} has a cell of {len(longest):,} characters ({quoted(longest)}): at most "
                f"{MAX_LINE:,} are read."
            )
        yield row


def _unknown(name: str, found: Sequence[str], texts: Sequence[str]) -> InputError:
    return InputError(
        f"{name} has the columns {_listed(found)}, none of which is known: call the one with the prompts '{PROMPT}'. Known "
        f"columns of prompts are {', '.join(texts)}."
    )


def _listed(names: Any) -> str:
    listed = [quoted(name, 30) for name in names]
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


Reader = Callable[[str, str, Collection[str], Sequence[str]], PromptTable]
_READERS: Mapping[str, Reader] = {".csv": _csv, ".tsv": _tabs, ".jsonl": _json_lines}
