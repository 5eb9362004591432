"""A trial on the pocket model: erasing on the image side, from what the model draws, next to text-side methods.

    python -m benchmarks.image_side [--concepts NAME ...] [--ways WAY ...] [--pictures N] [--seconds N]

Can be stopped and gone on with: --seconds says after how long it ends by itself.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

from benchmarks.erased_models import Bench, bench_sampler
from benchmarks.image_side.run import WAYS, Outcome, Trial, report
from benchmarks.records import RESULTS, measure_missing


def main() -> int:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description="Try erasing on the image side, on the pocket model.")
    parser.add_argument("--concepts", nargs="*", default=["star", "red", "outlined"])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    wanted = [(name, way, arguments.pictures) for name in arguments.concepts for way in arguments.ways]
    path = arguments.out / "image_side.json"
    print(report(measure_missing(path, Outcome, wanted, lambda key: _trial().measured(key), arguments.seconds)))
    return 0


@cache
def _trial() -> Trial:
    """With the model, once something is to be measured."""
    return Trial(Bench(bench_sampler()))


if __name__ == "__main__":
    sys.exit(main())
