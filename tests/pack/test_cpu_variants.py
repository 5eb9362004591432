"""The numbers hold on other makes of CPU: the libraries can be told to sum up as another processor would.

`MKL_ENABLE_INSTRUCTIONS` does so on a processor of Intel's, and nothing on AMD's (products and decompositions stay the same to
the bit). There, `MKL_CBWR` and `ATEN_CPU_CAPABILITY` make others of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Products, decompositions and solves of every kind.
FILES = ("test_eraser.py", "test_low_rank.py", "test_literal.py", "test_preserved_subspace.py")
VARIANTS = [
    ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ATEN_CPU_CAPABILITY": "default"}, 1),
    ({"MKL_CBWR": "COMPATIBLE"}, 2),
]
INSIDE = "RECE_INSIDE_A_VARIANT"


@pytest.mark.skipif(INSIDE in os.environ, reason="this is such a run")
@pytest.mark.parametrize(("variables", "threads"), VARIANTS)
def test_the_mathematics_hold_with_other_instructions(root: Path, variables: dict[str, str], threads: int) -> None:
    environment = {
        **os.environ,
        **variables,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        INSIDE: "1",
    }
    files = [str(root / "tests" / "math" / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
