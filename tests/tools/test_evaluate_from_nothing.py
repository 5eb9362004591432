"""`python -m tools.evaluate` on an interpreter that has nothing of it yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import evaluate
from tools.host import HostError


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--pocket", "--out", "a folder"])


def test_it_runs_in_the_hosts_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[object]] = []

    def run(command: list[object], check: bool) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(evaluate, "prepare_python", lambda extras: Path("python of the host"))
    monkeypatch.setattr(subprocess, "run", run)
    assert evaluate.main() == 3
    assert ran == [[Path("python of the host"), "-m", "tools.evaluate", "--pocket", "--out", "a folder"]]


def test_a_host_that_cannot_be_made_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(extras: bool) -> Path:
        raise HostError("no room on this disk")

    monkeypatch.setattr(evaluate, "prepare_python", fail)
    assert evaluate.main() == 1
    assert "[evaluate] no room on this disk" in capsys.readouterr().err


def test_nothing_beyond_the_standard_library_is_imported_before() -> None:
    """The command must start on a bare interpreter to make its environment."""
    code = "import sys, tools.evaluate; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(evaluate.__file__).parents[1], check=False).returncode
        == 0
    )
