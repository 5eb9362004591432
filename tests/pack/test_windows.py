"""What Windows does differently, looked for in the sources: nobody here can run it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tools.links import link

FOLDERS = ("rece_ops", "nodes", "tools", "pocket_model", "benchmarks", "tests")
TEXT_CALLS = {"read_text", "write_text"}
RUN_CALLS = {"run", "Popen", "check_output"}
# Names that there are on Linux alone, or that ask for a right that people on Windows lack.
ELSEWHERE_MISSING = {"killpg", "setsid", "getpgid", "geteuid", "fork", "SIGKILL", "mkfifo", "symlink_to", "symlink"}


def calls(root: Path, *folders: str) -> Iterator[tuple[str, ast.Call, str, dict[str, ast.expr]]]:
    """Place, call, its function's last name and its named arguments."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    named = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
                    yield f"{path.relative_to(root)}:{node.lineno}", node, name, named


def opens_text(node: ast.Call, name: str, named: dict[str, ast.expr]) -> bool:
    if name in TEXT_CALLS:
        return True
    if name != "open" or (
        isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in {"Image", "os"}
    ):
        return False
    place = 1 if isinstance(node.func, ast.Name) else 0
    mode = named.get("mode", node.args[place] if len(node.args) > place else ast.Constant("r"))
    return isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rwxa+t")


def test_text_is_opened_with_an_encoding(root: Path) -> None:
    """Windows takes its code page otherwise, which cannot hold every concept."""
    found = [
        place
        for place, node, name, named in calls(root, *FOLDERS)
        if (opens_text(node, name, named) or (name in RUN_CALLS and "text" in named)) and "encoding" not in named
    ]
    # The double of Windows' rules is shown text that is opened without.
    assert [place for place in found if not place.startswith("tests/math/test_files.py")] == []


def test_text_is_written_with_plain_line_ends(root: Path) -> None:
    """Windows would turn every line end of a report or a README around."""
    assert [
        place for place, _, name, named in calls(root, *FOLDERS[:-1]) if name == "write_text" and "newline" not in named
    ] == []


def test_what_windows_does_not_have_is_not_used(root: Path) -> None:
    found = set()
    for folder in FOLDERS[:-1]:
        for path in (root / folder).rglob("*.py"):
            names = {
                node.attr
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Attribute)
            }
            found |= {(path.relative_to(root).as_posix(), name) for name in names & ELSEWHERE_MISSING}
    # The one asks first whether there is such a thing, the other has a way around.
    assert found == {("tools/host.py", "geteuid"), ("tools/links.py", "symlink_to")}


def test_line_ends_stay_as_they_are_in_a_clone_on_windows(root: Path) -> None:
    """Help pages are compared byte by byte, and an eraser with its line ends turned around is none."""
    question = ["git", "check-attr", "text", "eol", "--", "README.md", "tests/golden/plain.safetensors"]
    answer = subprocess.run(question, cwd=root, capture_output=True, text=True, encoding="utf-8", check=False)
    if answer.returncode:
        pytest.skip("needs git and a checkout")
    assert answer.stdout.splitlines() == [
        "README.md: text: auto",
        "README.md: eol: lf",
        "tests/golden/plain.safetensors: text: unset",
        "tests/golden/plain.safetensors: eol: unset",
    ]


@pytest.mark.parametrize("other_disk", [False, True])
def test_links_do_without_the_right_to_make_symbolic_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    """A file gets a second name or a copy, a folder a junction; each twice, since a base folder serves again."""
    junctions: list[tuple[str, str]] = []
    windows = ModuleType("_winapi")
    monkeypatch.setattr(windows, "CreateJunction", lambda *names: junctions.append(names), raising=False)
    monkeypatch.setitem(sys.modules, "_winapi", windows)

    def refuse(*_: object, **__: object) -> None:
        error = OSError("A required privilege is not held by the client")
        error.winerror = 1314
        raise error

    monkeypatch.setattr(Path, "symlink_to", refuse)
    if other_disk:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    for _ in range(2):
        link(tmp_path / "file", tmp_path / "linked")
        assert (tmp_path / "linked").read_bytes() == b"content"
    assert (tmp_path / "file").samefile(tmp_path / "linked") is not other_disk
    link(tmp_path / "folder", tmp_path / "joined")
    assert junctions == [(str(tmp_path / "folder"), str(tmp_path / "joined"))]


def test_a_report_can_be_printed_into_a_pipe_of_any_code_page(root: Path) -> None:
    script = "from tools.console import allow_any_text; allow_any_text(); print('nudity → art, λ')"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    answer = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, check=True)
    assert answer.stdout.strip() == b"nudity ? art, ?"


def test_a_link_that_fails_for_another_reason_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        link(tmp_path / "file", tmp_path / "missing" / "link")
