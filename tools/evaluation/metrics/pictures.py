"""Pictures as metrics take them, from the files that were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

BATCH = 16
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def read_picture(path: Path) -> Tensor:
    """[3, height, width] of whole numbers 0 … 255, uint8."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).movedim(-1, 0)


def batches(paths: Sequence[Path]) -> Iterator[Tensor]:
    """[n, 3, height, width], uint8, in the order of the paths; pictures of one size go together."""
    waiting: list[Tensor] = []
    for path in paths:
        picture = read_picture(path)
        if waiting and (len(waiting) == BATCH or picture.shape != waiting[0].shape):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(picture)
    if waiting:
        yield torch.stack(waiting)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder and its sub-folders, in order of their paths.

    Raises:
        InputError: there is no such folder, no picture in it, or a file that is called one and is none.
    """
    from rece_pack.rece_ops import InputError

    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"'{folder}' is no folder with pictures ({', '.join(SUFFIXES)}): give another as --reference.")
    for path in found:
        try:
            with Image.open(path):
                pass
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"'{path}' is no picture that can be read ({error}): remove it from the folder.") from None
    return found
