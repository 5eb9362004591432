"""How long does a whole Erase Concepts node take, text encoding and measuring included, and how much of it does a later run save?

    python -m benchmarks.node_time [--out benchmarks/results] [--runs 3]

On the pocket model, whose text encoder has CLIP-L's size. Compared in one process: every prompt encoded by itself, prompts
encoded together, and a later run with another concept, which finds what does not depend on the concept. The median of several runs
counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.erased_models import Bench, bench_sampler, machine
from benchmarks.records import RESULTS, machines, read_records, write_records

METHODS = ("projection", "RECE", "UCE")
ALONE, TOGETHER, LATER = "every prompt by itself", "prompts together", "a later run, another concept"
WAYS = (ALONE, TOGETHER, LATER)
# Each is erased once in each run, so that none was encoded before.
CONCEPTS = ("striped", "circle", "red", "rain", "green", "star", "outlined", "square", "blue")
TEXT = """# How long a whole Erase Concepts node takes

Measured by `python -m benchmarks.node_time` on {machine}; every figure is in `node_time.json`. Seconds of one concept on the pocket
model (text encoder of CLIP-L's size, {threads} threads), from the typed line to the ERASER and its measures: text encoding,
closed form, measuring. Median of {runs} runs, all in one process.

| method | {ways} | of it the closed form |
| --- | --- | --- | --- | --- |
{rows}
"""


@dataclass(frozen=True)
class Timed:
    """Seconds of one method.

    Attributes:
        method: by which one concept was erased.
        alone, together, later: of the whole node, see `WAYS`.
        closed_form: of the closed form in the last of them.
        runs: of which these are the medians.
        threads: of the processor.
        machine: it was measured on.
    """

    method: str
    alone: float
    together: float
    later: float
    closed_form: float
    runs: int
    threads: int
    machine: str = ""

    @property
    def key(self) -> str:
        """What identifies it."""
        return self.method


def main() -> int:
    """Measure all, then write the table."""
    parser = argparse.ArgumentParser(description="Time whole Erase Concepts nodes.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    bench = Bench(bench_sampler())
    found = [_timed(bench, method, arguments.runs) for method in METHODS]
    path = arguments.out / "node_time.json"
    write_records(path, found)
    write_report(read_records(path, Timed), path.with_suffix(".md"))
    return 0


def _timed(bench: Bench, method: str, runs: int) -> Timed:
    from rece_pack.nodes.host.text import encoded_cache, encoder

    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    closed_form, usual = [], encoder.TOGETHER
    concepts = iter(CONCEPTS)
    for _ in range(runs):
        for way in WAYS:
            if way != LATER:
                encoded_cache._caches.clear()
            encoder.TOGETHER = 1 if way == ALONE else usual
            started = time.perf_counter()
            result = _erase(bench, method, next(concepts))
            seconds[way].append(time.perf_counter() - started)
        closed_form.append(result.seconds)
    alone, together, later = (statistics.median(seconds[way]) for way in WAYS)
    threads = torch.get_num_threads()
    return Timed(method, alone, together, later, statistics.median(closed_form), runs, threads, machine())


def _erase(bench: Bench, method: str, concept: str) -> Any:
    from rece_pack.nodes.host.jobs.erase import erase_concepts
    from rece_pack.nodes.host.session import Session
    from rece_pack.nodes.request.concept_lines import ConceptLine
    from rece_pack.nodes.request.erasure_request import ErasureRequest
    from rece_pack.nodes.request.methods import plan_with
    from rece_pack.rece_ops import ProjectionSettings, RECESettings

    settings = ProjectionSettings() if method == "projection" else RECESettings(epochs=3 * (method == "RECE"))
    session = Session.open(bench.pocket.model, bench.pocket.clip)
    with torch.inference_mode():
        return erase_concepts(session, ErasureRequest([ConceptLine(concept, "")], (), plan_with(settings)))


def write_report(found: list[Timed], path: Path) -> None:
    """Write the table: seconds, and how many times less than the first way."""
    rows = [
        f"| {one.method} | {one.alone:.2f} | {_cell(one, one.together)} | {_cell(one, one.later)} | {one.closed_form:.2f} |"
        for one in found
    ]
    values = {"machine": machines(found), "threads": found[0].threads, "runs": found[0].runs}
    path.write_text(TEXT.format(**values, ways=" | ".join(WAYS), rows="\n".join(rows)), encoding="utf-8", newline="\n")


def _cell(one: Timed, seconds: float) -> str:
    return f"{seconds:.2f} ({one.alone / seconds:.1f} times)"


if __name__ == "__main__":
    sys.exit(main())
