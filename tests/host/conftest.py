"""What the tests against a real ComfyUI share. They run in the host's own interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.host import Host, host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer
from tools.tiny_checkpoints import build

COMFYUI = prepare_comfyui()
# Before any test module here is imported: they import ComfyUI's modules as the pack does.
make_importable(COMFYUI)


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of the ComfyUI that is tested against; its modules can be imported in this process."""
    return COMFYUI


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Path]:
    """The small checkpoint of a kind (`tools.tiny_checkpoints.KINDS`), built when it is first asked for."""
    return lambda kind: build(kind, host_folder() / "checkpoints" / f"{kind}.safetensors")


@pytest.fixture(scope="session")
def host(comfyui: Path) -> Host:
    """This interpreter and the ComfyUI under test, for tests that start a server of their own."""
    return Host(python=Path(sys.executable), comfyui=comfyui)


@pytest.fixture(scope="session")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server with the pack in it, shared by all tests."""
    with ComfyServer(host, tmp_path_factory.mktemp("comfyui")) as server:
        yield server
