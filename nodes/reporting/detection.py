"""What a detector found in pictures: in words, for programs, and drawn on the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...rece_ops.measures.rates import Rate
from ...rece_ops.texts import printable
from ..host.detectors.detector import Detected, Detector

_SHOWN, _CLEAR = (192, 57, 43), (44, 111, 173)
_LISTED = 20
_LABEL = 40


def rate_sentence(rate: Rate) -> str:
    """As in '3 of 20 pictures show the concept: 15 % (95 % interval 5 % to 36 %)'."""
    low, high = rate.interval()
    pictures = "picture shows" if rate.trials == 1 else "pictures show"
    return (
        f"{rate.hits} of {rate.trials} {pictures} the concept: {rate.share:.0%} (95% interval {low:.0%} to {high:.0%})."
    )


def detection_report(detector: Detector, found: Sequence[Detected]) -> str:
    """The rate, the rule, and the first pictures one by one."""
    lines = [rate_sentence(Rate.of(one.shown for one in found)), f"A picture counts if {detector.rule}."]
    lines += [f"{place}: {_told(one)}" for place, one in enumerate(found[:_LISTED], start=1)]
    if len(found) > _LISTED:
        lines.append(f"… and {len(found) - _LISTED} more, which are in the JSON output.")
    return "\n".join(lines)


def detection_record(detector: Detector, found: Sequence[Detected]) -> dict[str, Any]:
    """All of it as plain values."""
    rate = Rate.of(one.shown for one in found)
    return {
        "detector": detector.name,
        "rule": detector.rule,
        "hits": rate.hits,
        "pictures": rate.trials,
        "share": rate.share if found else None,
        "interval": list(rate.interval()),
        "results": [picture_record(one) for one in found],
    }


def picture_record(one: Detected) -> dict[str, Any]:
    """One picture's result as plain values."""
    findings = [
        {"label": finding.label, "score": round(finding.score, 4), "box": finding.box and list(finding.box)}
        for finding in one.findings
    ]
    return {"shown": one.shown, "score": round(one.score, 4), "findings": findings}


def annotated(picture: Tensor, one: Detected) -> Tensor:
    """A picture [height, width, 3] in 0 … 1 with boxes, labels, and a frame that is red where the concept is shown."""
    pixels = (picture[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    canvas = Image.fromarray(np.ascontiguousarray(pixels))
    pen, colour = ImageDraw.Draw(canvas), _SHOWN if one.shown else _CLEAR
    line = max(1, min(canvas.size) // 128)
    pen.rectangle((0, 0, canvas.width - 1, canvas.height - 1), outline=colour, width=2 * line)
    size = max(10, min(canvas.size) // 24)
    font = ImageFont.load_default(size)
    height = 2 * line
    for finding in one.findings:
        text = f"{_ascii(finding.label)} {finding.score:.2f}"
        if finding.box is None:
            left, top = 2 * line, height
        else:
            left, top, width, down = finding.box
            pen.rectangle((left, top, left + width, top + down), outline=colour, width=line)
        _write(pen, (left, top), text, font, colour)
        height += size + 4
    return torch.from_numpy(np.asarray(canvas).copy()).float() / 255


def _write(pen: Any, place: tuple[int, int], text: str, font: Any, colour: tuple[int, int, int]) -> None:
    pen.rectangle(pen.textbbox(place, text, font=font), fill=colour)
    pen.text(place, text, font=font, fill=(255, 255, 255))


def _ascii(label: str) -> str:
    """What the built-in font has."""
    return printable(label, _LABEL).encode("ascii", "replace").decode()


def _told(one: Detected) -> str:
    findings = ", ".join(f"{printable(finding.label, _LABEL)} {finding.score:.2f}" for finding in one.findings)
    return f"{'shown' if one.shown else 'not shown'}, {findings or 'nothing found'}"
