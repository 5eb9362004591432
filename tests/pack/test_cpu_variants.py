"""The numbers hold on other makes of CPU: MKL can be told to sum up as another processor would.

On a processor of Intel's, each variant takes other kernels; on AMD's, MKL may take the same ones whatever it is told.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Products, decompositions and solves of every kind.
FILES = ("test_eraser.py", "test_low_rank.py", "test_literal.py", "test_preserved_subspace.py")
VARIANTS = [("SSE4_2", 1), ("AVX2", 2)]
INSIDE = "RECE_INSIDE_A_VARIANT"


@pytest.mark.skipif(INSIDE in os.environ, reason="this is such a run")
@pytest.mark.parametrize(("instructions", "threads"), VARIANTS)
def test_the_mathematics_hold_with_other_instructions(root: Path, instructions: str, threads: int) -> None:
    environment = {
        **os.environ,
        "MKL_ENABLE_INSTRUCTIONS": instructions,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        INSIDE: "1",
    }
    files = [str(root / "tests" / "math" / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
