"""Pictures in rows and columns with their names on them, as one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...rece_ops.texts import printable

_GAP = 4
_MOST_LINES = 6
_LONGEST = 300


@dataclass(frozen=True)
class Grid:
    """A labelled grid.

    Attributes:
        image: [1, height, width, 3].
        columns, rows: the labels.
        left, top: where the first picture begins.
        width, height: of a picture.
        gap: between two.
    """

    image: Tensor
    columns: Sequence[str]
    rows: Sequence[str]
    left: int
    top: int
    width: int
    height: int
    gap: int = _GAP

    def layout(self) -> dict[str, Any]:
        """Where everything is, for the front end."""
        found = {name: getattr(self, name) for name in ("left", "top", "width", "height", "gap")}
        return {**found, "columns": list(self.columns), "rows": list(self.rows), "size": list(self.image.shape[2:0:-1])}


def draw_grid(pictures: Sequence[Sequence[Tensor]], rows: Sequence[str], columns: Sequence[str]) -> Grid:
    """Put `pictures[row][column]`, each [height, width, 3] from 0 to 1 and of one size, under their labels."""
    height, width = pictures[0][0].shape[:2]
    font = _font(min(max(width // 22, 11), 22))
    line = int(sum(font.getmetrics()) if hasattr(font, "getmetrics") else 14) + 2
    left, top = min(max(width // 2, 90), 260), min(_MOST_LINES, 3) * line + 6
    size = (left + len(columns) * (width + _GAP), top + len(rows) * (height + _GAP))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for place, label in enumerate(columns):
        text = _wrapped(draw, font, label, width - 4, 3)
        draw.multiline_text((left + place * (width + _GAP) + 2, 2), text, fill="black", font=font)
    for turn, label in enumerate(rows):
        y = top + turn * (height + _GAP)
        lines = max(min(_MOST_LINES, height // line), 1)
        draw.multiline_text((4, y + 2), _wrapped(draw, font, label, left - 8, lines), fill="black", font=font)
        for place, picture in enumerate(pictures[turn]):
            canvas.paste(_image(picture), (left + place * (width + _GAP), y))
    pixels = torch.from_numpy(np.asarray(canvas).astype(np.float32) / 255)
    return Grid(pixels[None], list(columns), list(rows), left, top, width, height)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # older Pillow, whose font has one size
        return ImageFont.load_default()


def _wrapped(draw: Any, font: Any, text: str, width: int, lines: int) -> str:
    """`text` on at most so many lines of so many pixels."""
    shown = printable(text, _LONGEST)
    letter = max(draw.textlength(shown, font=font) / max(len(shown), 1), 1)
    return "\n".join(textwrap.wrap(shown, max(int(width / letter), 4), max_lines=lines, placeholder=" …"))
