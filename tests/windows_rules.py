"""A double of Windows' rules for files, on Linux: what Windows would refuse fails here too.

- `fsync` needs a descriptor that is open for writing.
- A file that this process has open or mapped can be neither removed nor renamed nor replaced.
- `rename` does not replace.
- Text that this pack opens without an encoding would be read in the code page of the machine.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


class WindowsRefusal(PermissionError):
    """What Windows would have refused."""


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this test, files behave as on Windows."""
    if not Path("/proc/self/maps").is_file():
        pytest.skip("needs Linux's /proc")
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, _moving(getattr(os, name), replaces=name == "replace"))
    for name in ("remove", "unlink"):
        monkeypatch.setattr(os, name, _removing(getattr(os, name)))
    monkeypatch.setattr(os, "fsync", _fsync(os.fsync))
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", _opening(io.open))


def holds(path: str | os.PathLike[str]) -> bool:
    """Whether this process has the file at `path` open or mapped."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # the descriptor of the listing itself
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return any(line.endswith(f" {os.path.realpath(path)}") for line in mapped)


def _refuse_held(path: str | os.PathLike[str]) -> None:
    if holds(path):
        raise WindowsRefusal(errno.EACCES, "The process cannot access the file because it is being used", str(path))


def _moving(real: Callable[..., None], replaces: bool) -> Callable[..., None]:
    def move(source: Any, target: Any, **options: Any) -> None:
        _refuse_held(source)
        _refuse_held(target)
        if not replaces and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(target))
        real(source, target, **options)

    return move


def _removing(real: Callable[..., None]) -> Callable[..., None]:
    def remove(path: Any, **options: Any) -> None:
        # tempfile removes by descriptor of the folder, which Windows does not know.
        if "dir_fd" not in options:
            _refuse_held(path)
        real(path, **options)

    return remove


def _fsync(real: Callable[[int], None]) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor)

    return fsync


def _opening(real: Callable[..., Any]) -> Callable[..., Any]:
    def open_as_on_windows(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        encoding = options.get("encoding", args[1] if len(args) > 1 else None)
        if "b" not in mode and encoding in (None, "locale") and _is_ours(sys._getframe(1)):
            raise AssertionError(f"{file} is opened as text without an encoding")
        return real(file, mode, *args, **options)

    return open_as_on_windows


def _is_ours(frame: Any) -> bool:
    """Whether this repository asked for it, be it by way of pathlib."""
    while frame is not None and "pathlib" in frame.f_code.co_filename:
        frame = frame.f_back
    path = Path(frame.f_code.co_filename) if frame is not None else Path("/")
    return path.is_relative_to(REPOSITORY) and ".host" not in path.parts
