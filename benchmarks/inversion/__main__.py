"""Does white-box inversion bring an erased concept back, and how far does erasing what it found get?

    python -m benchmarks.inversion [--out benchmarks/results] [--concepts NAME ...] [--fresh]

The attacker has the erased weights and pictures of the concept from before the erasure, and learns token embeddings by
gradient, as the node Invert Concept does. The defender then erases what was found together with the concept, and every
such round is attacked afresh, with another seed. What was measured is kept in a JSON file, so that a run can be stopped
and gone on with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.erased_models import Bench, bench_sampler
from benchmarks.inversion.records import CONCEPTS, Attack
from benchmarks.inversion.report import has_rounds, save_curve, write_report
from benchmarks.inversion.run import run
from benchmarks.records import RESULTS, gather_records, read_records
from pocket_model.trials import concept_named


def main() -> int:
    """Measure what is missing, then write the tables and the curve."""
    parser = argparse.ArgumentParser(description="Attack erasures of the pocket model by inversion.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    names = [concept.name for concept in CONCEPTS]
    parser.add_argument("--concepts", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--gather", nargs="+", type=Path, default=[], metavar="FOLDER", help="that other runs wrote to")
    parser.add_argument("--report", action="store_true", help="measure nothing, write about what was measured")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    path = arguments.out / "inversion.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    gather_records(path, [folder / path.name for folder in arguments.gather], Attack)
    if not arguments.report:
        run(Bench(bench_sampler()), path, list(map(concept_named, arguments.concepts)))
    attacks = read_records(path, Attack)
    if has_rounds(attacks):
        save_curve(attacks, path.with_suffix(".png"))
    write_report(attacks, path.with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
