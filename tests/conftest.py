"""Makes the pack importable in tests as ComfyUI imports it: as a package with a name of the host's choosing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tools.host import REPOSITORY
from tools.pack import import_pack

settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci")

import_pack()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    """All tests compute with the machine's cores, whatever a test before them set."""
    torch.set_num_threads(os.cpu_count() or 1)
