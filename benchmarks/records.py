"""What a benchmark measured, in a JSON file, so that a run can be stopped and gone on with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pocket_model.rates import Rate

Record = TypeVar("Record")
Key = TypeVar("Key")

RESULTS = Path(__file__).with_name("results")
"""Where tables, plots and what was measured go."""


def read_records(path: Path, kind: Callable[..., Record]) -> list[Record]:
    """The dataclasses of that kind that earlier runs measured; mappings in the file are `Rate`s."""
    if not path.is_file():
        return []
    return [kind(**_values(one)) for one in json.loads(path.read_text(encoding="utf-8"))]


def write_records(path: Path, records: Sequence[Any]) -> None:
    """Keep what was measured, one line each, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    lines = ",\n".join(json.dumps(asdict(record), ensure_ascii=False) for record in records)
    unfinished.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
    unfinished.replace(path)


def measure_missing(
    path: Path,
    kind: Callable[..., Record],
    wanted: Sequence[Key],
    measure: Callable[[Key], Record],
    seconds: float = math.inf,
) -> list[Record]:
    """Every record at `path` after those of the keys `wanted` that were not there were measured, or the time was over.

    Args:
        path: of the records, which have a `key`; it is written after each.
        kind: of the records.
        wanted: keys of records, in order.
        measure: the record of a key.
        seconds: no record is begun later.
    """
    known: list[Any] = list(read_records(path, kind))
    keys = {record.key for record in known}
    end = time.perf_counter() + seconds
    for key in wanted:
        if key in keys:
            continue
        if time.perf_counter() > end:
            break
        known.append(measure(key))
        write_records(path, known)
        print(known[-1], flush=True)
    return known


def gather_records(path: Path, others: Sequence[Path], kind: Callable[..., Any]) -> None:
    """Add to the records at `path` what `others` hold."""
    if others:
        records = [record for one in (path, *others) for record in read_records(one, kind)]
        write_records(path, list({record.key: record for record in records}.values()))


def machines(records: Sequence[Any]) -> str:
    """What those records were measured on."""
    return "; ".join(dict.fromkeys(record.machine for record in records))


def finding(path: Path) -> str:
    """What a person who looked at the figures wrote about them; nothing until then."""
    return path.read_text(encoding="utf-8").strip() if path.is_file() else "(Nobody has written about them yet.)"


def _values(read: dict[str, Any]) -> dict[str, Any]:
    return {name: Rate(**one) if isinstance(one, dict) else one for name, one in read.items()}
