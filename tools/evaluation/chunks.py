"""A results folder: pictures and their rows in chunks, each of which is there as a whole or not at all.

    run.json                                what the run is; another run is refused
    pictures/ERASURE/SET/0000/              a chunk: rows.json and a PNG file a picture
    reports, plots and the page             made anew from the chunks at every end

A chunk's folder gets its name in one step after all of it was written. A run that was killed goes on with the first chunk that
is not there, so that no picture is lost or there twice.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RUN, ROWS, PICTURES = "run.json", "rows.json", "pictures"
_UNFINISHED = ".unfinished-"


class WrongRunError(Exception):
    """The results folder is of another run; the message says what differs."""


@dataclass(frozen=True)
class ChunkName:
    """Which pictures: of an erasure, of a prompt set, and the number of the chunk."""

    erasure: str
    prompts: str
    number: int


def check_run(folder: Path, run: Mapping[str, Any]) -> bool:
    """Whether the folder is this run's already; False where it is new or empty. Nothing is written.

    Raises:
        WrongRunError: it holds another run, or something else.
    """
    known, wanted = read_json(folder / RUN), json.loads(json.dumps(run))
    if known is None:
        if folder.exists() and any(folder.iterdir()):
            raise WrongRunError(f"{folder} is not empty and holds no {RUN}: give a new folder.")
        return False
    if known != wanted:
        names = sorted(name for name in {*known, *wanted} if known.get(name) != wanted.get(name))
        raise WrongRunError(
            f"{folder} holds another run, which differs in {', '.join(names)}: give another folder, or the same settings."
        )
    return True


class Results:
    """A results folder that is this run's.

    Args:
        folder: made where it is not there.
        run: what identifies the run, as plain JSON values.

    Raises:
        WrongRunError: the folder holds another run, or something else.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = folder
        self.run = json.loads(json.dumps(run))
        if not check_run(folder, self.run):
            folder.mkdir(parents=True, exist_ok=True)
            save_text(folder / RUN, json.dumps(self.run, ensure_ascii=False, indent=1))
        self._sweep()

    def has(self, name: ChunkName) -> bool:
        """Whether the chunk is done."""
        return (self._place(name) / ROWS).is_file()

    def add(self, name: ChunkName, rows: Sequence[Mapping[str, Any]], pictures: Iterable[Tensor]) -> None:
        """Keep a chunk: a row for each of the pictures [height, width, 3] in 0 … 1.

        Raises:
            OSError: the disk is full, or the like; nothing of the chunk stays.
        """
        from PIL import Image

        place = self._place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
        unfinished.mkdir()
        try:
            for row, picture in zip(rows, pictures, strict=True):
                pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()
                Image.fromarray(pixels).save(unfinished / row["file"])
            save_text(unfinished / ROWS, json.dumps(list(rows), ensure_ascii=False, indent=0))
            os.replace(unfinished, place)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def rows(self, erasure: str, prompts: str) -> list[dict[str, Any]]:
        """The rows of all chunks that are done, in order; the file of each is given from the results folder."""
        return [
            {**row, "file": (chunk / row["file"]).relative_to(self.folder).as_posix()}
            for chunk in self.chunks(erasure, prompts)
            for row in self.rows_in(chunk)
        ]

    def chunks(self, erasure: str, prompts: str) -> list[Path]:
        """The folders of the chunks that are done, in order."""
        return sorted((self.folder / PICTURES / safe_name(erasure) / safe_name(prompts)).glob("[0-9]*"))

    @staticmethod
    def rows_in(chunk: Path) -> list[dict[str, Any]]:
        """The rows of one of them; the file of each is given from its folder."""
        found: list[dict[str, Any]] = json.loads((chunk / ROWS).read_text(encoding="utf-8"))
        return found

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep what was found out about an erasure."""
        save_text(self.folder / f"{safe_name(name)}.json", json.dumps(value, ensure_ascii=False, indent=1))

    def noted(self, name: str) -> dict[str, Any]:
        """The same again; empty where there is nothing."""
        return read_json(self.folder / f"{safe_name(name)}.json") or {}

    def _place(self, name: ChunkName) -> Path:
        return self.folder / PICTURES / safe_name(name.erasure) / safe_name(name.prompts) / f"{name.number:04d}"

    def _sweep(self) -> None:
        """Remove what a killed run was writing."""
        for left in (self.folder / PICTURES).glob(f"*/*/{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)


def chunked(count: int, size: int) -> Iterator[range]:
    """The numbers below `count`, in ranges of `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def safe_name(text: str) -> str:
    """A file name on every platform, another for every text that differs in letters or digits."""
    plain = re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._") or "_"
    return plain[:80]


def save_text(path: Path, text: str) -> None:
    """Write a file in one step."""
    unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None where there is no such file, or something else in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
