"""Links to files and folders, also where a person may not make symbolic ones: on Windows without its developer mode."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

_NO_PRIVILEGE = 1314
"""Windows' error number for a right that the user lacks."""


def link(target: Path, place: Path) -> None:
    """Make `place` lead to `target`; a link that is there already gives way.

    Where symbolic links are not allowed a folder gets a junction, and a file a second name, or a copy on another disk.

    Raises:
        OSError: `place` is a folder of its own, or cannot be written.
    """
    target = target.resolve()
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        if getattr(error, "winerror", None) != _NO_PRIVILEGE:
            raise
        if target.is_dir():
            importlib.import_module("_winapi").CreateJunction(str(target), str(place))
        else:
            _second_name(target, place)


def _second_name(target: Path, place: Path) -> None:
    try:
        os.link(target, place)
    except OSError:
        shutil.copyfile(target, place)
