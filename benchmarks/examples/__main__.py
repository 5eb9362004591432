"""What pictures show after a projection of a bare word, of a sample of prompts, and of pairs of prompts.

    python -m benchmarks.examples [--concepts NAME ...] [--examples N] [--pictures N] [--seconds N]

Half of the examples name the concept, half say it with a synonym that the UNet was trained on; the synonyms of the measurement
(*unseen*) are in none. Can be stopped and gone on with: --seconds says after how long it ends by itself.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

from benchmarks.erased_models import Bench, bench_sampler
from benchmarks.examples.run import WAYS, Outcome, measured, report
from benchmarks.records import RESULTS, measure_missing
from pocket_model.trials import CONCEPTS
from tools.host import host_folder


def main() -> int:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description="Measure on the pocket model what examples are worth.")
    parser.add_argument("--concepts", nargs="*", default=[concept.name for concept in CONCEPTS])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    wanted = [
        (name, way, arguments.examples if way != WAYS[0] else 0, arguments.pictures)
        for name in arguments.concepts
        for way in arguments.ways
    ]
    path = arguments.out / "examples.json"
    found = measure_missing(path, Outcome, wanted, lambda key: measured(_bench(), key), arguments.seconds)
    # Of other numbers of examples the file may hold fewer concepts, which would narrow the sums.
    print(report([one for one in found if one.key in wanted]))
    return 0


@cache
def _bench() -> Bench:
    """Loaded once something is to be measured."""
    bench = Bench(bench_sampler())
    _keep_words_in(host_folder() / "words")
    return bench


def _keep_words_in(folder: Path) -> None:
    """The cache of words goes there, and not into the user folder of the ComfyUI that is tested against."""
    import folder_paths

    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.set_user_directory(str(folder))


if __name__ == "__main__":
    sys.exit(main())
