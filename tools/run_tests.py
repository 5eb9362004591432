"""Everything that must pass, from nothing: ``python3 -m tools.run_tests [pytest's arguments]``.

Runs on a bare Python 3.10 or later: makes its own environment, ComfyUI and Chromium first (see `tools.host`), then
runs the linter, the formatter's check, the type checker and all tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.host import REPOSITORY, HostError, ensure_chromium, host_folder, prepare
from tools.links import link
from tools.pack import PACK

# Most tests wait for one core: for a server to start, a page to load, a file to be written. Two at a time share the
# cores between them, and do not spin while they wait for each other. A file's tests share a server.
WORKERS = ("--numprocesses=2", "--dist=loadfile")
THREADS = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)), "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> int:
    """Run every step, also after one that failed; 0 only where all passed."""
    try:
        python = str(prepare(extras=True).python)
    except HostError as error:
        print(f"[tests] {error}", file=sys.stderr)
        return 1
    ensure_chromium()
    types = {"MYPYPATH": str(_pack_as_a_package())}
    steps = [
        ("linter", [python, "-m", "ruff", "check", "."], {}),
        ("formatter", [python, "-m", "ruff", "format", "--check", "."], {}),
        ("types of rece_ops, benchmarks and tools", [python, "-m", "mypy"], {}),
        ("types of the nodes", [python, "-m", "mypy", "-p", f"{PACK}.nodes"], types),
        ("tests", [python, "-m", "pytest", *WORKERS, *sys.argv[1:]], THREADS),
    ]
    failed = [name for name, command, environment in steps if not _step(name, command, environment)]
    print(f"[tests] failed: {', '.join(failed)}" if failed else "[tests] all passed", flush=True)
    return 1 if failed else 0


def _step(name: str, command: list[str], environment: dict[str, str]) -> bool:
    print(f"[tests] {name}", flush=True)
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, check=False).returncode == 0


def _pack_as_a_package() -> Path:
    """A folder that holds the repository under a name that can be imported, whatever the checkout is called."""
    folder = host_folder() / "types"
    folder.mkdir(parents=True, exist_ok=True)
    link(REPOSITORY, folder / PACK)
    return folder


if __name__ == "__main__":
    sys.exit(main())
