"""What the frontend asks the server for: help pages, scripts, translations, example workflows."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tools.server import ComfyServer


def text(server: ComfyServer, path: str) -> str:
    with urllib.request.urlopen(f"http://{server.address}{path}", timeout=60) as response:
        return str(response.read().decode())


def test_help_pages_and_scripts_are_served(server: ComfyServer, root: Path) -> None:
    listed = server.request("/extensions")
    for script in (root / "web" / "js").glob("*.js"):
        assert f"/extensions/rece/js/{script.name}" in listed
    for page in (root / "web" / "docs").glob("*.md"):
        assert text(server, f"/extensions/rece/docs/{page.name}") == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_translations_are_served(server: ComfyServer, language: str) -> None:
    translated = server.request("/i18n")[language]["nodeDefs"]["RECE_EraseConcepts"]
    assert translated["display_name"]
    assert translated["inputs"]["concepts"]["tooltip"]


def test_example_workflows_are_offered_as_templates(server: ComfyServer, root: Path) -> None:
    offered = server.request("/workflow_templates")["rece"]
    assert set(offered) == {path.stem for path in (root / "example_workflows").glob("*.json")}
