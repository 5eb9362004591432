"""Time and memory of an erasure beside the paper's equations written down layer by layer, in one run.

    python -m benchmarks.erase_benchmark [--device cuda] [--sizes SD1 SD2 SDXL Flux] [--out benchmarks/results]

Every row of the table is measured in a process of its own (on a GPU in one). Timed is what turns projections and token embeddings into edited
projections: `erase` (or `project`) and W·T for every projection. Encoding texts is not part of it. Writes a JSON file, a table and a
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.float64_work import Float64Work
from benchmarks.literal import literal_erase
from benchmarks.memory import PeakMemory, release_free_memory
from benchmarks.stacks import SIZES, Size, random_pairs, random_projections
from rece_ops import ConceptPair, RECESettings, erase, project

OURS, TIDY, PUBLISHED = "ours", "layer by layer", "layer by layer, published loops"
PROJECTION, DOUBLE = "projection", "ours, weights in float64"
CONCEPTS = (1, 10, 100, 1000)
# Fewer where a run takes long.
CONCEPTS_OF = {"Flux": (1, 10)}
EPOCHS = (0, 1, 2, 3, 4, 5)
# Four of the six are left out where a run takes long.
EPOCHS_OF = {"SDXL": (0, 3), "Flux": (0, 3)}
ENOUGH_SECONDS = 2.0
# Memory that is freed goes back to the system at once (glibc), so that the peak is what was in use. That costs time,
# so memory is measured in a process apart.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1000000"}


@dataclass(frozen=True)
class Case:
    """One measurement to make."""

    method: str
    size: str
    concepts: int
    epochs: int


@dataclass(frozen=True)
class Batch:
    """The measurements of one process."""

    method: str
    size: str
    concepts: int
    epochs: tuple[int, ...]

    def cases(self) -> list[Case]:
        """One case for every number of epochs."""
        return [Case(self.method, self.size, self.concepts, epochs) for epochs in self.epochs]


@dataclass(frozen=True)
class Measured:
    """What it gave: median seconds (erasing, applying, both), peak extra memory in bytes, and two figures of ours.

    `float64_operations`: multiplications and additions in float64 of erasing. `change_error`: ‖δΔW‖ / ‖ΔW‖ beside the
    same erasure of weights in float64.
    """

    case: Case
    erase_seconds: float
    apply_seconds: float
    total_seconds: float
    repeats: int
    extra_bytes: int
    float64_operations: float = 0.0
    change_error: float = 0.0

    @property
    def extra_matrices(self) -> float:
        """Peak extra memory in d×d float64 matrices."""
        return self.extra_bytes / (SIZES[self.case.size].dimension ** 2 * 8)


def batches(sizes: list[str]) -> Iterator[Batch]:
    """Ours everywhere; a projection, and layer by layer, for one concept, the latter where that ends within minutes."""
    for size in sizes:
        for concepts in CONCEPTS_OF.get(size, CONCEPTS):
            yield Batch(OURS, size, concepts, EPOCHS_OF.get(size, EPOCHS))
        yield Batch(PROJECTION, size, 1, (0,))
        yield Batch(DOUBLE, size, 1, (3,))
        if size in ("SD1", "SD2"):
            yield Batch(TIDY, size, 1, (3,))
        if size == "SD1":
            yield Batch(PUBLISHED, size, 1, (3,))


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next counts its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def warm_up(size: Size, device: torch.device) -> None:
    """Let the linear algebra libraries allocate what they keep for good, and give back all else."""
    some = dict(list(random_projections(size, device=device).items())[:2])
    eraser = erase(some, *random_pairs(1, size, device=device), RECESettings(epochs=1)).eraser
    for weight in some.values():
        eraser.apply_to_weight(weight)
    del some, eraser
    release_free_memory()


def measure_batch(batch: Batch, device: torch.device) -> list[Measured]:
    """Run the cases of one batch in this process."""
    size = SIZES[batch.size]
    projections = random_projections(size, device=device)
    pairs, preserve = random_pairs(batch.concepts, size, device=device)
    warm_up(size, device)
    measured = []
    for case in batch.cases():
        settings = RECESettings(epochs=case.epochs)

        def ours(settings: RECESettings = settings) -> tuple[float, float]:
            started = time.perf_counter()
            if batch.method == PROJECTION:
                eraser = project(projections, pairs, preserve).eraser
            else:
                weights = InFloat64(projections) if batch.method == DOUBLE else projections
                eraser = erase(weights, pairs, preserve, settings).eraser
            synchronize(device)
            erased = time.perf_counter()
            for weight in projections.values():
                eraser.apply_to_weight(weight)
            synchronize(device)
            return erased - started, time.perf_counter() - erased

        def literal(settings: RECESettings = settings) -> tuple[float, float]:
            started = time.perf_counter()
            literal_erase(projections, pairs, preserve, settings, published_form=batch.method == PUBLISHED)
            synchronize(device)
            return time.perf_counter() - started, 0.0

        one = measure_case(case, literal if case.method in (TIDY, PUBLISHED) else ours, device)
        if case.method == OURS and case.concepts == 1:
            one = _with_errors(one, projections, pairs, preserve, settings)
        measured.append(one)
    return measured


def _with_errors(
    one: Measured,
    projections: Mapping[str, Tensor],
    pairs: Sequence[ConceptPair],
    preserve: Sequence[Tensor],
    settings: RECESettings,
) -> Measured:
    """`one` with what it takes and costs beside weights in float64."""
    with Float64Work() as work:
        ours = erase(projections, pairs, preserve, settings)
    best = erase(InFloat64(projections), pairs, preserve, settings)
    differences = [found.eraser.to(dtype=torch.float64).difference() for found in (ours, best)]
    energies = [
        float(((best.gram.to(part.device) @ part) * part).sum())
        for part in (differences[0] - differences[1], differences[1])
    ]
    return replace(one, float64_operations=work.operations, change_error=(energies[0] / energies[1]) ** 0.5)


class InFloat64(Mapping[str, Tensor]):
    """Weights, each in float64 when it is read: then all of the erasure is in float64."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name].double()

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def measure_case(case: Case, run: Callable[[], tuple[float, float]], device: torch.device) -> Measured:
    """The median of a few runs (erasing, applying), and the peak memory of the first."""
    with PeakMemory(device) as memory:
        times = [run()]
    while len(times) < 5 and sum(map(sum, times)) < ENOUGH_SECONDS:
        times.append(run())
    erasing, applying = (statistics.median(part) for part in zip(*times, strict=True))
    total = statistics.median(map(sum, times))
    return Measured(case, erasing, applying, total, len(times), memory.extra_bytes)


def run_all(sizes: list[str], device: str) -> list[Measured]:
    """Every batch in a process of its own, and its memory, for the most epochs, in another; on a GPU all in this one."""
    found = []
    for batch in batches(sizes):
        # What torch allocates on a GPU is known to the byte, whatever was allocated before.
        timed = measure_batch(batch, torch.device(device)) if device == "cuda" else _in_a_process(batch, device, {})
        if device == "cpu" and batch.method in (OURS, PROJECTION, DOUBLE):
            most = replace(batch, epochs=batch.epochs[-1:])
            memory = _in_a_process(most, device, MEMORY_ENVIRONMENT)[0].extra_bytes
            timed = [replace(measured, extra_bytes=memory) for measured in timed]
        for measured in timed:
            print(
                f"{measured.case}: {measured.total_seconds:.3f} s, {measured.extra_matrices:.1f} matrices", flush=True
            )
        found += timed
    return found


def _in_a_process(batch: Batch, device: str, environment: dict[str, str]) -> list[Measured]:
    command = [sys.executable, "-m", "benchmarks.erase_benchmark", "--batch", json.dumps(asdict(batch))]
    answer = subprocess.run(
        [*command, "--device", device],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [measured_from(values) for values in json.loads(answer.stdout.splitlines()[-1])]


def measured_from(values: dict[str, Any]) -> Measured:
    """A `Measured` from its JSON."""
    return Measured(**{**values, "case": Case(**values["case"])})


def read_machines(path: Path) -> list[tuple[dict[str, Any], list[Measured]]]:
    """What earlier runs measured, by machine."""
    if not path.is_file():
        return []
    runs = json.loads(path.read_text(encoding="utf-8"))
    return [(run["machine"], list(map(measured_from, run["measured"]))) for run in runs]


def merged(
    machines: Sequence[tuple[dict[str, Any], list[Measured]]],
    machine: dict[str, Any],
    found: Sequence[Measured],
    sizes: Sequence[str],
) -> list[tuple[dict[str, Any], list[Measured]]]:
    """`machines` with what was `found` for `sizes` on one of them, which comes last."""
    kept = [one for known, measured in machines for one in measured if known["name"] == machine["name"]]
    together = [*(one for one in kept if one.case.size not in sizes), *found]
    together.sort(key=lambda one: list(SIZES).index(one.case.size))
    others = [(known, measured) for known, measured in machines if known["name"] != machine["name"]]
    return [*others, (machine, together)]


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
    """Measure one batch (a child) or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        batch = Batch(**json.loads(arguments.batch))
        print(json.dumps([asdict(one) for one in measure_batch(batch, torch.device(arguments.device))]))
        return
    from benchmarks.erase_report import write_report

    path = arguments.out / ("erase_gpu" if arguments.device == "cuda" else "erase_cpu")
    found = run_all(arguments.sizes, arguments.device)
    machines = read_machines(path.with_suffix(".json"))
    write_report(merged(machines, machine(arguments.device), found, arguments.sizes), path)


if __name__ == "__main__":
    main()
