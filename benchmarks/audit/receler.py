"""Receler's training in pieces of some seconds, each of which goes on where the last one was cancelled."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from pocket_model.sampling import PocketModel
from pocket_model.trials import Concept

TO_BE_GONE_ON_WITH = 75
"""The exit status of a process whose piece is over."""
_ERASER, _SECONDS = "eraser.safetensors", "seconds.txt"


def trained(
    pocket: PocketModel, concept: Concept, settings: Any, folder: Path, sampling: int, piece: int
) -> tuple[Any, float]:
    """The ERASER and the seconds that its training took; leaves the process where the piece is over before it is done.

    Args:
        pocket: the model.
        concept: which is trained away from the bare word to the empty prompt.
        settings: `RecelerSettings`.
        folder: where the training stands.
        sampling: the pictures' steps.
        piece: seconds; 0 goes on to the end.
    """
    import comfy.model_management
    import folder_paths
    from rece_pack.nodes.host.folders import training_names
    from rece_pack.nodes.host.jobs.train_receler import train_receler
    from rece_pack.nodes.host.session import Session
    from rece_pack.nodes.request.training_request import PictureSettings, training_request
    from rece_pack.rece_ops import EraserSet

    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(folder))
    if not (folder / _ERASER).is_file():
        request = training_request(concept.name, "{}", "", settings, PictureSettings(1, 0, 64, sampling, 1.0))
        newest = max(training_names(), key=_step, default="")
        started = time.perf_counter()
        _cancel_after(piece)
        try:
            with torch.inference_mode():
                found = train_receler(Session.open(pocket.model, pocket.clip), request, resume=newest)
        except comfy.model_management.InterruptProcessingException:
            _add_seconds(folder, started)
            print(
                f"{concept.name}: the piece is over at {max(training_names(), key=_step, default='the start')}",
                flush=True,
            )
            sys.exit(TO_BE_GONE_ON_WITH)
        _add_seconds(folder, started)
        _tell(concept, found)
        found.eraser.save(folder / _ERASER)
    seconds = sum(map(float, (folder / _SECONDS).read_text(encoding="utf-8").split()))
    return EraserSet.load(folder / _ERASER), seconds


def _cancel_after(piece: int) -> None:
    """Press Cancel when the piece is over."""
    import comfy.model_management
    import comfy.utils

    end = time.monotonic() + piece

    def look(*told: Any, **more: Any) -> None:
        if piece and time.monotonic() > end:
            comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(look)


def _step(name: str) -> int:
    return int(name.removesuffix(".safetensors").rpartition("_step_")[2])


def _add_seconds(folder: Path, started: float) -> None:
    with (folder / _SECONDS).open("a", encoding="utf-8") as file:
        file.write(f"{time.perf_counter() - started:.1f}\n")


def _tell(concept: Concept, found: Any) -> None:
    record = found.record
    print(f"{concept.name}: trained {record.steps} steps, {record.stopped or 'to the end'}", flush=True)
    size = max(1, record.steps // 10)
    for name, series in record.series().items():
        marks = [sum(series[start : start + size]) / size for start in range(0, size * (len(series) // size), size)]
        print(f"  {name}: {' '.join(f'{mark:.5f}' for mark in marks)}", flush=True)
