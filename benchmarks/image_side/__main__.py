"""A trial on the pocket model: erasing on the image side, from what the model draws, next to text-side methods.

    python -m benchmarks.image_side [--concepts NAME ...] [--ways WAY ...] [--pictures N] [--seconds N]

Can be stopped and gone on with: --seconds says after how long it ends by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.erased_models import Bench, bench_sampler
from benchmarks.image_side.run import WAYS, Outcome, Trial, report
from benchmarks.records import RESULTS, read_records, write_records


def main() -> int:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description="Try erasing on the image side, on the pocket model.")
    parser.add_argument("--concepts", nargs="*", default=["star", "red", "outlined"])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = arguments.out / "image_side.json"
    found = {outcome.key: outcome for outcome in read_records(path, Outcome)}
    wanted = [(name, way, arguments.pictures) for name in arguments.concepts for way in arguments.ways]
    missing = [one for one in wanted if one not in found]
    started = time.perf_counter()
    trial = Trial(Bench(bench_sampler()), arguments.pictures) if missing else None
    for name, way, _ in missing:
        if trial is None or time.perf_counter() - started > arguments.seconds:
            break
        outcome = trial.measured(name, way)
        found[outcome.key] = outcome
        write_records(path, list(found.values()))
        print(outcome, flush=True)
    print(report(list(found.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
