"""Time and memory of an erasure, compared with the paper's equations written down layer by layer, in one run.

    python -m benchmarks.erase_benchmark [--device cuda] [--sizes SD1 SD2 SDXL Flux] [--concepts 1 10 100 1000]
        [--methods NAME …] [--out benchmarks/results]

Every row of the table is measured in a process of its own (on a GPU in one). Timed is what turns projections and token embeddings into edited
projections: `erase` (or `project`) and W·T for every projection. Encoding texts is not part of it. Writes a JSON file, a table and a
plot, and names the machine. What is left out stays as an earlier run on the same machine measured it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.erase_benchmark.records import CONCEPTS, METHODS, Batch
from benchmarks.erase_benchmark.report import write_report
from benchmarks.erase_benchmark.run import batches, machine, measure_batch, merged, read_machines, run_all
from benchmarks.erase_benchmark.stacks import SIZES
from benchmarks.records import RESULTS


def main() -> None:
    """Measure one batch (a child) or all of them."""
    parser = argparse.ArgumentParser(description="Measure the time and memory of an erasure.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--concepts", nargs="+", type=int, default=list(CONCEPTS), choices=list(CONCEPTS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    parser.add_argument("--tensors", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        batch = Batch(**json.loads(arguments.batch))
        found = measure_batch(batch, torch.device(arguments.device), arguments.tensors)
        print(json.dumps([asdict(one) for one in found]))
        return
    path = arguments.out / ("erase_gpu" if arguments.device == "cuda" else "erase_cpu")
    chosen = [
        batch
        for batch in batches(arguments.sizes)
        if batch.concepts in arguments.concepts and batch.method in arguments.methods
    ]
    measured = run_all(chosen, arguments.device)
    machines = read_machines(path.with_suffix(".json"))
    write_report(merged(machines, machine(arguments.device), measured), path)


if __name__ == "__main__":
    main()
