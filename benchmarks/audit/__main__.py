"""Every method against every probe, on the pocket model.

    python -m benchmarks.audit --concept striped [--methods NAME ...] [--probes NAME ...] [--out FOLDER]     # one process a concept
    python -m benchmarks.audit --report [--out FOLDER]                                                       # the table of all

What was measured is kept in one JSON file a concept (further probes in the folder `probes` beside it), and erasures that take long in the
machine's folder for temporary files, so that a run can be stopped and gone on with. With `--piece 180`, a training of Receler stops
after 180 seconds, and no other work is begun later; the process ends with status 75: run it again until it ends with 0.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

from benchmarks.audit.probes import PROBES
from benchmarks.audit.records import CONCEPTS, METHODS
from benchmarks.audit.report import write_report
from benchmarks.audit.run import run
from benchmarks.audit.sizes import Sizes
from benchmarks.erased_models import Bench, machine
from benchmarks.records import RESULTS
from pocket_model.sampling import Sampler
from pocket_model.trials import concept_named


def main() -> int:
    """Measure what is missing of one concept, or write the table of all."""
    parser = argparse.ArgumentParser(description="Probe erasures of the pocket model.")
    parser.add_argument("--out", type=Path, default=RESULTS / "audit")
    parser.add_argument("--concept", choices=[concept.name for concept in CONCEPTS])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="NAME")
    parser.add_argument("--probes", nargs="*", choices=PROBES, default=(), metavar="NAME", help=", ".join(PROBES))
    parser.add_argument("--file", help="the name of the JSON file; that of the concept by default")
    parser.add_argument("--report", action="store_true", help="write the table instead")
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, default=size.default)
    arguments = parser.parse_args()
    if arguments.report:
        write_report(arguments.out, RESULTS / "audit.md")
        return 0
    if not arguments.concept:
        parser.error("give --concept, or --report")
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = replace(Sizes(), **{size.name: getattr(arguments, size.name) for size in fields(Sizes)})
    path = arguments.out / f"{arguments.file or arguments.concept.replace(' ', '_')}.json"
    bench = Bench(Sampler(steps=10, batch=128))
    print(machine(), sizes, flush=True)
    seconds = float(sizes.piece or math.inf)
    run(bench, path, concept_named(arguments.concept), arguments.methods, arguments.probes, sizes, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
