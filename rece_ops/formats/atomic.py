"""Writing safetensors files so that a reader never sees half of one, and nobody's file is lost."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from .tensor_file import write_tensors

UNFINISHED_KEPT_SECONDS = 24 * 60 * 60
LONGEST_UNFINISHED = len(".rece-0123456789abcdef.tmp")
"""Characters in the name of a file that is being written."""
# The second form is that of version 0.1.0.
_UNFINISHED = re.compile(r"\.rece-[0-9a-f]{16}\.tmp|\..+\.safetensors\.[a-z0-9_]{8}\.tmp")


def save_atomically(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    keep_existing: bool = False,
) -> Path:
    """Write a safetensors file in the folder of `path`, then rename it onto `path`.

    If anything fails on the way (a full disk, a killed process) the old file stays as it was. What is left of the new
    one is removed where the process still lives, else by a save into the same folder a day later. The file's mode is
    that of any new file of this process.

    Args:
        path: where to; its folder exists.
        tensors: floats, by name.
        metadata: texts, by name.
        keep_existing: whether a file of that name stays, and the new one gets a number: `name_2`. Of several processes
            that save under one name at a time, each gets a name of its own.

    Returns:
        The path of the new file.

    Raises:
        OSError: the folder does not exist, is not writable, the disk is full, or (on Windows) the old file is open.
    """
    return write_atomically(path, lambda file: write_tensors(file, tensors, metadata), keep_existing)


def write_atomically(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], None], keep_existing: bool = False
) -> Path:
    """The same with anything that `write` writes into the open file."""
    target = Path(path)
    _sweep(target.parent)
    unfinished = target.parent / f".rece-{secrets.token_hex(8)}.tmp"
    reserved: Path | None = None
    try:
        with open(unfinished, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep_existing:
            target = reserved = _reserve(target)
        os.replace(unfinished, target)
    except BaseException:
        for left in (unfinished, reserved):
            if left is not None:
                with contextlib.suppress(OSError):
                    os.unlink(left)
        raise
    return target


def _reserve(path: Path) -> Path:
    """An empty file that was not there before, under `path` or its first free number."""
    for candidate in _numbered(path):
        with contextlib.suppress(FileExistsError):
            open(candidate, "xb").close()
            return candidate
    raise AssertionError("numbers do not end")


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in `folder` a day ago or earlier."""
    latest = time.time() - UNFINISHED_KEPT_SECONDS
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _UNFINISHED.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < latest:
                    os.unlink(entry.path)
