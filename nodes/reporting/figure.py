"""The figure of an erasure report, drawn with matplotlib where that is installed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...rece_ops.measures.thresholds import HIGH_RESIDUAL, VISIBLE_DRIFT
from ...rece_ops.texts import printable
from ..host.jobs.assess import Assessment

MISSING = (
    "The figure needs matplotlib, which is not installed: run 'python -m pip install matplotlib' in ComfyUI's "
    "environment. The numbers are in the report."
)
_MOST_BARS = 16
_BAR = 0.4
_LABEL = 28
_RED, _BLUE, _GREY = "#c0392b", "#2c6fad", "#8a8f98"
_KINDS = {"keys": _BLUE, "values": _RED, "all layers": _GREY}


def figure(assessment: Assessment, title: str) -> Tensor:
    """One picture [1, height, width, 3] in 0 … 1: concepts, drift, spectrum and change per layer."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return sentence_picture(MISSING)
    drawing = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    drawing.suptitle(_plain(title), wrap=True)
    ((concepts, drift), (spectrum, layers)) = drawing.subplots(2, 2)
    _concepts(concepts, assessment)
    _drift(drift, assessment)
    _spectrum(spectrum, assessment.spectra)
    _layers(layers, assessment.changes)
    return as_picture(drawing)


def _concepts(axes: Any, assessment: Assessment) -> None:
    worst = sorted(assessment.measures.concepts, key=lambda concept: -concept.regeneration[-1])[:_MOST_BARS]
    places = np.arange(len(worst))
    axes.barh(places - _BAR / 2, [concept.residual for concept in worst], _BAR, color=_RED, label="residual")
    axes.barh(
        places + _BAR / 2, [concept.regeneration[-1] for concept in worst], _BAR, color=_GREY, label="regeneration"
    )
    axes.set_yticks(places, [_shortened(concept.name) for concept in worst])
    axes.set_title("What is left of the concepts")
    _mark(axes, HIGH_RESIDUAL, "residual of what is not erased")
    _percent(axes.xaxis)
    axes.set_xlim(0, max(1.0, *axes.get_xlim()))
    axes.invert_yaxis()
    axes.legend(loc="lower right")


def _drift(axes: Any, assessment: Assessment) -> None:
    shown = [(name or "(empty prompt)", value, _BLUE) for name, value in assessment.measures.drift.items()]
    shown += [(name, value, _GREY) for name, value in assessment.measures.held_out_drift.items()]
    shown = sorted(shown, key=lambda bar: -bar[1])[:_MOST_BARS]
    axes.barh([_shortened(name) for name, _, _ in shown], [v for _, v, _ in shown], color=[c for _, _, c in shown])
    axes.set_title("Drift of prompts that should stay (blue: preserved)")
    _mark(axes, VISIBLE_DRIFT, "visible in pictures")
    _percent(axes.xaxis)
    axes.invert_yaxis()
    axes.legend(loc="lower right")


def _spectrum(axes: Any, spectra: Mapping[str, Sequence[float]]) -> None:
    for shares in spectra.values():
        axes.plot(np.arange(1, len(shares) + 1), np.cumsum(shares), color=_RED)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_title("What sets the concepts apart")
    axes.set_xlabel("main directions")
    axes.set_ylabel("share that they hold")
    _percent(axes.yaxis)


def _layers(axes: Any, changes: Mapping[str, float]) -> None:
    for label, colour in _KINDS.items():
        chosen = [(place, value) for place, (name, value) in enumerate(changes.items()) if _kind(name) == label]
        if chosen:
            axes.plot([place for place, _ in chosen], [value for _, value in chosen], ".-", color=colour, label=label)
    axes.set_title("Relative change of each text reader")
    axes.set_xlabel("text readers, in the model's order")
    _percent(axes.yaxis)
    axes.set_ylim(bottom=0)
    axes.legend()


def _mark(axes: Any, threshold: float, meaning: str) -> None:
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=meaning)


def _percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0))


def _kind(projection: str) -> str:
    """Whether a text reader makes keys or values of an attention layer, or comes before all of them."""
    return {"to_k.weight": "keys", "to_v.weight": "values"}.get(projection[-len("to_k.weight") :], "all layers")


def _shortened(name: str) -> str:
    return _plain(printable(name, _LABEL))


def _plain(text: str) -> str:
    """`text` without the meaning that matplotlib gives to a dollar sign: what is no formula would fail."""
    return text.replace("$", r"\$")


def as_picture(drawing: Any) -> Tensor:
    """A figure of matplotlib as a picture [1, height, width, 3] in 0 … 1."""
    from PIL import Image

    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def sentence_picture(text: str) -> Tensor:
    """The same that says `text`."""
    from PIL import Image, ImageDraw

    blank = Image.new("RGB", (960, 60), "white")
    ImageDraw.Draw(blank).text((12, 22), text, fill="black")
    return torch.from_numpy(np.asarray(blank).astype(np.float32) / 255)[None]
