"""How much of a concept is left and what that cost: see `tools.evaluation.command`.

    python -m tools.evaluate --pocket --concept green --out results/green

On an interpreter without torch it makes the environment of `tools.host` first, and runs there.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from tools.host import HostError, prepare_python


def main() -> int:
    """Run from the command line."""
    if find_spec("torch") is None:
        return _run_in_the_host()
    from tools.evaluation.command import main as run

    return run()


def _run_in_the_host() -> int:
    try:
        python = prepare_python(extras=True)
    except HostError as error:
        print(f"[evaluate] {error}", file=sys.stderr)
        return 1
    return subprocess.run([python, "-m", "tools.evaluate", *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
