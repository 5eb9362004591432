"""Writing safetensors files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_atomically(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file beside `path`, then rename it onto `path`.

    If anything fails on the way (a full disk, a killed process) the old file stays as it was; what is
    left of the new one is removed where the process still lives.

    Raises:
        OSError: the folder does not exist, is not writable, or the disk is full.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    try:
        _write(name, tensors, metadata)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _write(name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    try:
        save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, name, dict(metadata))
    except OSError:
        raise
    except Exception as error:
        # safetensors wraps I/O failures in an exception type of its own.
        raise OSError(f"The file could not be written: {error}") from error
    with open(name, "rb") as written:
        os.fsync(written.fileno())
