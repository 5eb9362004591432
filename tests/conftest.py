"""What all tests share: the pack, importable as ComfyUI imports it, and the ComfyUI to run it in.

ComfyUI is made ready when a fixture here is first asked for, so that the tests of the mathematics do without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.windows_rules import windows
from tools.host import REPOSITORY, Host, host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack
from tools.tiny_checkpoints import build

settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci")

import_pack()

__all__ = ["windows"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the fuzzer in `tests/fuzz`."""
    parser.addoption(
        "--fuzz-seconds", type=float, default=0.0, help="go on with each test in tests/fuzz for so long, at random"
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of the ComfyUI that is tested against; its modules can be imported in this process."""
    folder = prepare_comfyui()
    make_importable(folder)
    return folder


@pytest.fixture(scope="session")
def host(comfyui: Path) -> Host:
    """This interpreter and the ComfyUI under test, for tests that start a server of their own."""
    return Host(python=Path(sys.executable), comfyui=comfyui)


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Path]:
    """The small checkpoint of a kind (`tools.tiny_checkpoints.KINDS`), built when it is first asked for."""
    return lambda kind: build(kind, host_folder() / "checkpoints" / f"{kind}.safetensors")


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    """All tests compute with the machine's cores, shared among those who test, whatever a test before them set."""
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(max(1, cores // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))))
