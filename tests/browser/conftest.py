"""What the tests in the browser share: a real server, headless Chromium, and one page for each renderer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.frontend import PACK, Frontend, launch
from tools.host import CHROMIUM_NAMES, Host
from tools.server import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RENDERERS = {"canvas": False, "nodes2": True}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium."""
    reason = "the browser tests need playwright (pip install -r tools/requirements-test.txt)"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        pytest.skip("the browser tests need Chromium (python -m tools.host --chromium)")
    with playwright.sync_playwright() as driver:
        browser = launch(driver, executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(
    chromium: Browser,
    host: Host,
    root: Path,
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """A running server with the pack under another name and a small checkpoint; not without a browser.

    It loads small T5 text encoders.
    """
    server = ComfyServer(host, tmp_path_factory.mktemp("browser"), pack_name=PACK)
    server.link_model(checkpoint("sd15"))
    server.link_custom_node(root / "tools" / "sized_text_encoders.py")
    with server:
        yield server


@pytest.fixture(scope="session", params=RENDERERS)
def opened(request: pytest.FixtureRequest, chromium: Browser, server: ComfyServer) -> Iterator[Frontend]:
    """The frontend with one of its renderers, started once for all tests."""
    nodes2 = RENDERERS[request.param]
    # A person who has been here before sees no tutorial.
    server.request("/settings", {"Comfy.VueNodes.Enabled": nodes2, "Comfy.TutorialCompleted": True})
    with chromium.new_context(viewport={"width": 1400, "height": 1000}) as context:
        frontend = Frontend(context.new_page(), nodes2)
        frontend.open(server.address)
        assert frontend.page.evaluate("() => Boolean(LiteGraph.vueNodesMode)") == nodes2
        yield frontend


@pytest.fixture
def frontend(opened: Frontend) -> Iterator[Frontend]:
    """The frontend with an empty graph; neither its start nor any test may give it anything to complain about."""
    opened.clear()
    yield opened
    problems, opened.problems = opened.problems, []
    assert problems == []
