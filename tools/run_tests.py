"""Everything that must pass, from nothing: ``python3 -m tools.run_tests [pytest's arguments]``.

Runs on a bare Python 3.10 or later: makes its own environment, ComfyUI and Chromium first (see `tools.host`), then
runs the linter, the formatter's check, the type checker and all tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from tools.host import REPOSITORY, HostError, ensure_chromium, prepare
from tools.pack import link_pack

# Most tests wait for one core: for a server to start, a page to load, a file to be written. Two at a time share the
# cores between them, and do not spin while they wait for each other, unless the environment says otherwise. A file's
# tests share a server.
WORKERS = ("--numprocesses=2", "--dist=loadfile")
# What a run writes for a while: checkpoints, servers' folders, archives.
ROOM_GB = 6
THREADS = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)), "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> int:
    """Run every step, also after one that failed; 0 only where all passed."""
    try:
        python = str(prepare(extras=True).python)
    except HostError as error:
        print(f"[tests] {error}", file=sys.stderr)
        return 1
    ensure_chromium()
    link_pack()
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < ROOM_GB:
        where = f"{free:.1f} GB are free in {tempfile.gettempdir()}, {ROOM_GB} are needed"
        print(f"[tests] {where}: tests may fail for that.", flush=True)
    steps = [
        ("linter", [python, "-m", "ruff", "check", "."], {}),
        ("formatter", [python, "-m", "ruff", "format", "--check", "."], {}),
        ("types", [python, "-m", "mypy"], {}),
        ("tests", [python, "-m", "pytest", *WORKERS, *sys.argv[1:]], THREADS),
    ]
    failed = [name for name, command, environment in steps if not _step(name, command, environment)]
    print(f"[tests] failed: {', '.join(failed)}" if failed else "[tests] all passed", flush=True)
    return 1 if failed else 0


def _step(name: str, command: list[str], environment: dict[str, str]) -> bool:
    print(f"[tests] {name}", flush=True)
    return subprocess.run(command, cwd=REPOSITORY, env={**environment, **os.environ}, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
