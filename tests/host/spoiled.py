"""A loss that is no number, in the middle of a training."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch


def spoil(monkeypatch: pytest.MonkeyPatch, job: ModuleType, function: str, turn: int) -> None:
    """What the job's function gives is NaN the `turn`-th time."""
    turns, sound = [], getattr(job, function)

    def spoiled(*sides: Any) -> torch.Tensor:
        turns.append(1)
        found: torch.Tensor = sound(*sides) * (float("nan") if len(turns) == turn else 1.0)
        return found

    monkeypatch.setattr(job, function, spoiled)
