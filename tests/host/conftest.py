"""What the tests against a real ComfyUI share. They run in the host's own interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.host import Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer

# Before any test module here is imported: they import ComfyUI's modules as the pack does.
make_importable(prepare_comfyui())


@pytest.fixture(scope="session")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server with the pack in it, shared by all tests."""
    with ComfyServer(host, tmp_path_factory.mktemp("comfyui")) as server:
        yield server
