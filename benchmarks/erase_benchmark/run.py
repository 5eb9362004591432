"""The measurement: every batch in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rece_pack.rece_ops import Erasure, Projection, RECESettings, erase, project
from torch import Tensor

from benchmarks.erase_benchmark.float64_work import Float64Work
from benchmarks.erase_benchmark.literal import literal_erase
from benchmarks.erase_benchmark.memory import PeakMemory, release_free_memory, tensor_peak
from benchmarks.erase_benchmark.records import (
    CONCEPTS,
    CONCEPTS_OF,
    DOUBLE,
    DOUBLE_PROJECTION,
    EPOCHS,
    EPOCHS_OF,
    OURS,
    PROJECTION,
    PUBLISHED,
    TIDY,
    Batch,
    Case,
    Measured,
)
from benchmarks.erase_benchmark.stacks import SIZES, Size, random_pairs, random_projections

ENOUGH_SECONDS = 2.0
# Memory that is freed goes back to the system at once (glibc), so that the peak is what was in use. That costs time,
# so memory is measured in a process apart.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1000000"}


def batches(sizes: list[str]) -> Iterator[Batch]:
    """Ours everywhere; a projection, and layer by layer, for one concept, the latter where that ends within minutes."""
    for size in sizes:
        for concepts in CONCEPTS_OF.get(size, CONCEPTS):
            yield Batch(OURS, size, concepts, EPOCHS_OF.get(size, EPOCHS))
        yield Batch(PROJECTION, size, 1, (0,))
        yield Batch(DOUBLE_PROJECTION, size, 1, (0,))
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


def measure_batch(batch: Batch, device: torch.device, with_tensors: bool = False) -> list[Measured]:
    """Run the cases of one batch in this process; where asked for, once more for what of the memory tensors take."""
    size = SIZES[batch.size]
    projections = random_projections(size, device=device)
    pairs, preserve = random_pairs(batch.concepts, size, device=device)
    warm_up(size, device)
    measured = []
    for case in batch.cases():
        settings = RECESettings(epochs=case.epochs)

        def erased(weights: Mapping[str, Tensor], settings: RECESettings = settings) -> Erasure | Projection:
            if batch.method in (PROJECTION, DOUBLE_PROJECTION):
                return project(weights, pairs, preserve)
            return erase(weights, pairs, preserve, settings)

        def ours(erased: Callable[[Mapping[str, Tensor]], Erasure | Projection] = erased) -> tuple[float, float]:
            started = time.perf_counter()
            in_float64 = batch.method in (DOUBLE, DOUBLE_PROJECTION)
            eraser = erased(InFloat64(projections) if in_float64 else projections).eraser
            synchronize(device)
            finished = time.perf_counter()
            for weight in projections.values():
                eraser.apply_to_weight(weight)
            synchronize(device)
            return finished - started, time.perf_counter() - finished

        def literal(settings: RECESettings = settings) -> tuple[float, float]:
            started = time.perf_counter()
            literal_erase(projections, pairs, preserve, settings, published_form=batch.method == PUBLISHED)
            synchronize(device)
            return time.perf_counter() - started, 0.0

        by_layers = case.method in (TIDY, PUBLISHED)
        one = measure_case(case, literal if by_layers else ours, device)
        if with_tensors:
            one = replace(one, tensor_bytes=tensor_peak(ours))
        elif case.method in (OURS, PROJECTION) and case.concepts == 1:
            one = _with_errors(one, projections, erased)
        measured.append(one)
    return measured


def _with_errors(
    one: Measured,
    projections: Mapping[str, Tensor],
    erased: Callable[[Mapping[str, Tensor]], Erasure | Projection],
) -> Measured:
    """`one` with its work in float64, and its error compared with weights in float64."""
    with Float64Work() as work:
        ours = erased(projections)
    best = erased(InFloat64(projections))
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


def run_all(chosen: Sequence[Batch], device: str) -> list[Measured]:
    """Every batch in a process of its own, and its memory, for the most epochs, in another; on a GPU all in this one."""
    found = []
    for batch in chosen:
        # What torch allocates on a GPU is known to the byte, whatever was allocated before.
        timed = measure_batch(batch, torch.device(device)) if device == "cuda" else _in_a_process(batch, device, {})
        if device == "cpu" and batch.method not in (TIDY, PUBLISHED):
            most = replace(batch, epochs=batch.epochs[-1:])
            memory = _in_a_process(most, device, MEMORY_ENVIRONMENT, "--tensors")[0]
            timed = [
                replace(measured, extra_bytes=memory.extra_bytes, tensor_bytes=memory.tensor_bytes)
                for measured in timed
            ]
        for measured in timed:
            print(
                f"{measured.case}: {measured.total_seconds:.3f} s, {measured.extra_matrices:.1f} matrices", flush=True
            )
        found += timed
    return found


def _in_a_process(batch: Batch, device: str, environment: dict[str, str], *options: str) -> list[Measured]:
    command = [sys.executable, "-m", "benchmarks.erase_benchmark", "--batch", json.dumps(asdict(batch))]
    answer = subprocess.run(
        [*command, "--device", device, *options],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
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
) -> list[tuple[dict[str, Any], list[Measured]]]:
    """`machines` with what was `found` on one of them, which comes last."""
    kept = [one for known, measured in machines for one in measured if known["name"] == machine["name"]]
    known_cases = {one.case: one for one in (*kept, *found)}
    order = {case: place for place, case in enumerate(case for batch in batches(list(SIZES)) for case in batch.cases())}
    together = sorted(known_cases.values(), key=lambda one: order.get(one.case, len(order)))
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
    return {
        "name": name,
        "cores": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
