"""Time and memory of an erasure beside the paper's equations written down layer by layer, in one run.

    python -m benchmarks.erase_benchmark [--device cuda] [--sizes SD1 SD2 SDXL] [--out benchmarks/results]

Every case runs in a process of its own. Timed is what turns projections and token embeddings into edited
projections: `erase` and W·T for every projection. Encoding texts is not part of it. Writes a JSON file, a table and a
plot, and names the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.literal import literal_erase
from benchmarks.memory import PeakMemory, release_free_memory
from benchmarks.stacks import SIZES, Size, random_pairs, random_projections
from rece_ops import RECESettings, erase

OURS, TIDY, PUBLISHED = "ours", "layer by layer", "layer by layer, published loops"
CONCEPTS = (1, 10, 100, 1000)
EPOCHS = (0, 1, 2, 3, 4, 5)
ENOUGH_SECONDS = 4.0


@dataclass(frozen=True)
class Case:
    """One measurement to make."""

    method: str
    size: str
    concepts: int
    epochs: int


@dataclass(frozen=True)
class Measured:
    """What it gave: median seconds (erasing, applying, both), and peak extra memory in bytes."""

    case: Case
    erase_seconds: float
    apply_seconds: float
    total_seconds: float
    repeats: int
    extra_bytes: int

    @property
    def extra_matrices(self) -> float:
        """Peak extra memory in d×d float64 matrices."""
        return self.extra_bytes / (SIZES[self.case.size].dimension ** 2 * 8)


def cases(sizes: list[str]) -> Iterator[Case]:
    """Ours everywhere; layer by layer for one concept, where that ends within minutes."""
    for size in sizes:
        for concepts in CONCEPTS:
            for epochs in EPOCHS:
                yield Case(OURS, size, concepts, epochs)
        for epochs in (0, 3) if size != "SDXL" else (3,):
            yield Case(TIDY, size, 1, epochs)
        for epochs in {"SD1": (0, 3), "SD2": (3,)}.get(size, ()):
            yield Case(PUBLISHED, size, 1, epochs)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next counts its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def warm_up(size: Size, device: torch.device) -> None:
    """Let the linear algebra libraries allocate what they keep for good, and give back all else."""
    some = dict(list(random_projections(size, device=device).items())[:2])
    eraser = erase(some, *random_pairs(1, size.dimension, device=device), RECESettings(epochs=1)).eraser
    for weight in some.values():
        eraser.apply_to_weight(weight)
    del some, eraser
    release_free_memory()


def measure_case(case: Case, device: torch.device) -> Measured:
    """Run one case in this process."""
    size = SIZES[case.size]
    projections = random_projections(size, device=device)
    pairs, preserve = random_pairs(case.concepts, size.dimension, device=device)
    settings = RECESettings(epochs=case.epochs)

    def ours() -> tuple[float, float]:
        started = time.perf_counter()
        eraser = erase(projections, pairs, preserve, settings).eraser
        synchronize(device)
        erased = time.perf_counter()
        for weight in projections.values():
            eraser.apply_to_weight(weight)
        synchronize(device)
        return erased - started, time.perf_counter() - erased

    def literal() -> tuple[float, float]:
        started = time.perf_counter()
        literal_erase(projections, pairs, preserve, settings, published_form=case.method == PUBLISHED)
        synchronize(device)
        return time.perf_counter() - started, 0.0

    run: Callable[[], tuple[float, float]] = ours if case.method == OURS else literal
    warm_up(size, device)
    with PeakMemory(device) as memory:
        times = [run()]
    if case.method == OURS:
        while len(times) < 5 and sum(map(sum, times)) < ENOUGH_SECONDS:
            times.append(run())
    erasing, applying = (statistics.median(part) for part in zip(*times, strict=True))
    total = statistics.median(map(sum, times))
    return Measured(case, erasing, applying, total, len(times), memory.extra_bytes)


def run_all(sizes: list[str], device: str) -> list[Measured]:
    """Every case in a process of its own, so that none finds another's memory."""
    found = []
    for case in cases(sizes):
        command = [sys.executable, "-m", "benchmarks.erase_benchmark", "--case", json.dumps(asdict(case))]
        answer = subprocess.run([*command, "--device", device], capture_output=True, text=True, check=True)
        values = json.loads(answer.stdout.splitlines()[-1])
        measured = Measured(**{**values, "case": Case(**values["case"])})
        print(f"{case}: {measured.total_seconds:.3f} s, {measured.extra_matrices:.1f} matrices", flush=True)
        found.append(measured)
    return found


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()} ({name})"
    return {"name": name, "cores": os.cpu_count(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}


def main() -> None:
    """Measure one case (a child) or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measured = measure_case(Case(**json.loads(arguments.case)), torch.device(arguments.device))
        print(json.dumps(asdict(measured)))
        return
    found = run_all(arguments.sizes, arguments.device)
    from benchmarks.erase_report import write_report

    write_report(found, machine(arguments.device), arguments.out / f"erase_{arguments.device}")


if __name__ == "__main__":
    main()
