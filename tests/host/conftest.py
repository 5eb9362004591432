"""What the tests against a real ComfyUI share. They run in the host's own interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.host import Host, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer

# Before any test module here is imported: they import ComfyUI's modules as the pack does.
make_importable(prepare_comfyui())


@pytest.fixture(scope="session")
def server(host: Host, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server with the pack in it, shared by all tests; it loads small T5 text encoders."""
    server = ComfyServer(host, tmp_path_factory.mktemp("comfyui"))
    server.link_custom_node(root / "tools" / "sized_text_encoders.py")
    with server:
        yield server
