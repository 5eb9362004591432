"""An erasure written into a copy of a model on the disk, tensor by tensor."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ....rece_ops import EraserSet, InputError
from ....rece_ops.formats.checkpoint_file import Change, CheckpointFile
from ....rece_ops.texts import quoted
from ..stored.model import StoredSession, changes_of

NOTE = "rece_erasure"
"""Under what the new file's metadata tell of the erasure; a further one gets a number."""
Report = Callable[[int, int, str], None]


def rewrite_file(
    session: StoredSession, file: CheckpointFile, out: Path, eraser: EraserSet, strength: float, report: Report
) -> int:
    """Write the erased checkpoint; returns how many tensors changed.

    Raises:
        InputError: a weight cannot be changed exactly, or would not be finite.
        WrongConnectionError: the eraser belongs to another architecture.
        OSError: it cannot be written; what was there stays.
    """
    changes = changes_of(session, eraser, strength).get(file.name, {})
    _copy(file, out, changes, eraser, strength, report)
    return len(changes)


def rewrite_folder(
    session: StoredSession,
    folder: Path,
    files: Mapping[str, CheckpointFile],
    out: Path,
    eraser: EraserSet,
    strength: float,
    report: Report,
) -> int:
    """The same for a diffusers folder: everything else in it is copied, and the new folder appears at once.

    Args:
        files: open weights by their path below the folder.
        out: a folder that is not there yet.

    Raises:
        InputError: there is something at `out`, or see `rewrite_file`.
    """
    if out.exists():
        raise InputError(f"There is something at {quoted(str(out))}: give a folder that does not exist yet.")
    changes = changes_of(session, eraser, strength)
    unfinished = out.parent / f".rece-{secrets.token_hex(8)}.tmp"
    changed = {place: file for place, file in files.items() if file.name in changes}
    try:
        shutil.copytree(folder, unfinished, ignore=_leaving_out({folder / place for place in changed}))
        for place, file in changed.items():
            _copy(file, unfinished / place, changes[file.name], eraser, strength, report)
        os.replace(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return sum(len(changes[file.name]) for file in changed.values())


def _copy(
    file: CheckpointFile,
    out: Path,
    changes: Mapping[str, Change],
    eraser: EraserSet,
    strength: float,
    report: Report,
) -> None:
    notes = {_free_note(file.metadata): eraser.scaled(strength).provenance_as_applied().as_json()}
    file.copy_with(out, changes, notes, lambda done, total: report(done, total, f"writing {file.name}"))


def _free_note(metadata: Mapping[str, str]) -> str:
    number, name = 1, NOTE
    while name in metadata:
        number += 1
        name = f"{NOTE}_{number}"
    return name


def _leaving_out(paths: set[Path]) -> Callable[[str, list[str]], list[str]]:
    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) / name in paths]

    return left_out
