"""Pictures that a person connects to be learned from."""

from __future__ import annotations

from torch import Tensor

from ....rece_ops import InputError

SMALLEST_SIDE, MULTIPLE = 32, 8


def checked_images(images: Tensor | None) -> Tensor:
    """`images` [n, height, width, 3] themselves.

    Raises:
        InputError: there are none, or their size is none that the VAE can halve three times.
    """
    if images is None or images.shape[0] == 0:
        raise InputError(
            "There are no images: connect some that show the concept, made before the erasure for example."
        )
    height, width = images.shape[1:3]
    if min(height, width) < SMALLEST_SIDE or height % MULTIPLE or width % MULTIPLE:
        raise InputError(
            f"The images are {width}×{height} pixels: give sides of at least {SMALLEST_SIDE} that are multiples of "
            f"{MULTIPLE}, best the size that the model was trained on."
        )
    return images
