"""The routes of the pack: what the front end asks while a person types."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from rece_pack.nodes.request.concept_lists import LISTS

from tools.server import ComfyServer


def test_the_server_says_how_it_reads_what_is_typed(server: ComfyServer) -> None:
    fields = {"concepts": "red, blue\n-> art", "preset": "artistic style"}
    for path in ("/rece/parse", "/api/rece/parse"):
        found = server.request(path, fields)
        assert found["summary"] == "2 concepts · red → art · blue → art"
        assert found["error"]["line"] == 2


def test_the_lists_are_those_of_the_pack(server: ComfyServer) -> None:
    assert {name: tuple(lines) for name, lines in server.request("/rece/lists").items()} == dict(LISTS)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"concepts": "red"}', "text/plain"),  # what a page of another site could send unasked
        (b'{"concepts": "red"}', "application/x-www-form-urlencoded"),
        (b"[", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'["red"]', "application/json"),
        (b"\xff", "application/json"),
        (b'{"concepts": "' + b"x" * 4_000_000 + b'"}', "application/json"),
    ],
)
def test_anything_else_is_refused(server: ComfyServer, body: bytes, kind: str) -> None:
    request = urllib.request.Request(f"http://{server.address}/rece/parse", body, {"Content-Type": kind})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 400


def test_a_broken_value_is_answered_and_not_a_failure_of_the_server(server: ComfyServer) -> None:
    assert server.request("/rece/parse", {"concepts": "\ud800"})["error"]["line"] == 0
    assert server.request("/rece/parse", {"concepts": 7})["error"] is not None
    assert server.request("/rece/parse", {})["summary"] == ""


def test_a_file_says_what_it_is_before_its_numbers_are_read(server: ComfyServer, root: Path) -> None:
    folder = server.base / "models" / "erasers"
    folder.mkdir(parents=True, exist_ok=True)
    content = (root / "tests/golden/shaped.safetensors").read_bytes()
    (folder / "told.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = server.request("/rece/eraser?name=told.safetensors")["description"]
    assert "Counts only in part" in found
    assert "1 kB" in found
    (folder / "cut.safetensors").write_bytes(content[:50])
    assert "cut.safetensors" in server.request("/rece/eraser?name=cut.safetensors")["error"]
    for name in ("", "../secret.safetensors", "%2Fetc%2Fpasswd", "none.safetensors", "%00", "x" * 3000):
        assert server.request(f"/rece/eraser?name={name}")["error"]
