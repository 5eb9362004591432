"""The table and the plot of the erase benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.erase_benchmark.records import (
    DOUBLE,
    DOUBLE_PROJECTION,
    EPOCHS,
    OURS,
    PROJECTION,
    PUBLISHED,
    TIDY,
    Measured,
)
from benchmarks.erase_benchmark.stacks import SIZES

Cases = Mapping[tuple[str, str, int, int], Measured]
Runs = Sequence[tuple[dict[str, Any], list[Measured]]]

# Float64 operations a second of a consumer's GPU (a sixty-fourth of its 83 TFLOP/s in float32).
CONSUMER_RATE = 1.3e12


def write_report(runs: Runs, path: Path) -> None:
    """Write `path`.json, `path`.md and `path`.png; each run is a machine and what was measured on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [{"machine": machine, "measured": [asdict(one) for one in found]} for machine, found in runs]
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8", newline="\n")
    path.with_suffix(".md").write_text(_report(runs, path.name), encoding="utf-8", newline="\n")
    _plot(runs, path.with_suffix(".png"))


def _report(runs: Runs, name: str) -> str:
    lines = [
        "# Time and memory of an erasure",
        "",
        f"Measured by `python -m benchmarks.erase_benchmark`; all figures are in `{name}.json`.",
        "Seconds from projections (float32) and token embeddings to edited projections (median; text encoding apart). Compare",
        "within a machine only. What a machine's last run left out is from its earlier runs. Peak extra memory is the",
        "process's resident memory, buffers of the linear algebra library included, for the most epochs; tensors is what torch",
        "allocated of it. Rows without that figure were measured by an earlier version.",
        "",
        f"![seconds by number of concepts]({name}.png)",
        "",
    ]
    return "\n".join(lines + [line for machine, found in runs for line in _machine(machine, found)])


def _machine(machine: dict[str, Any], found: Sequence[Measured]) -> list[str]:
    lines = [
        f"# {machine['name']}, {machine['cores']} cores, torch {machine['torch']}, {machine['date']}",
        "",
        "## Ours, seconds by epochs",
        "",
        "| size | concepts | " + " | ".join(f"epochs: {epochs}" for epochs in EPOCHS) + " | peak extra memory |",
        "| --- | --- | " + " | ".join("---" for _ in EPOCHS) + " | --- |",
    ]
    by_case = {(one.case.method, one.case.size, one.case.concepts, one.case.epochs): one for one in found}
    counts = {(one.case.size, one.case.concepts): None for one in found if one.case.method == OURS}
    lines += [_row(by_case, size, concepts) for size, concepts in counts]
    lines += ["", "## Compared with weights in float64, one concept, three epochs", ""]
    lines += [
        "| size | seconds | in float64 | ratio | ‖δΔW‖ / ‖ΔW‖ | float64 operations | of rows·d² | at 1.3 TFLOP/s |",
        "| --- " * 8 + "|",
    ]
    lines += [_beside_double(one, by_case) for one in found if one.case.method == DOUBLE]
    lines += ["", "## Compared with the equations layer by layer, one concept", ""]
    lines += ["| size | epochs | method | seconds | ours | ratio | its peak extra memory |", "| --- " * 7 + "|"]
    lines += [_beside_literal(one, by_case) for one in found if one.case.method in (TIDY, PUBLISHED)]
    lines += ["", "## A projection compared with RECE with three epochs, and with weights in float64, one concept", ""]
    lines += [
        "| size | seconds | RECE | ratio | in float64 | ratio | ‖δΔW‖ / ‖ΔW‖ | peak extra memory |",
        "| --- " * 8 + "|",
    ]
    lines += [_projection(one, by_case) for one in found if one.case.method == PROJECTION]
    lines += ["", "## Many concepts compared with one, three epochs", ""]
    lines += [_many(by_case, *many) for many in counts if many[1] in (10, 1000)]
    return [*lines, ""]


def _row(by_case: Cases, size: str, concepts: int) -> str:
    cells = [by_case.get((OURS, size, concepts, epochs)) for epochs in EPOCHS]
    times = " | ".join(f"{one.total_seconds:.3f}" if one else "" for one in cells)
    most = max((one for one in cells if one), key=lambda one: one.extra_bytes)
    return f"| {size} | {concepts} | {times} | {_memory(most)} |"


def _beside_literal(one: Measured, by_case: Cases) -> str:
    ours = by_case[OURS, one.case.size, one.case.concepts, one.case.epochs].total_seconds
    return (
        f"| {one.case.size} | {one.case.epochs} | {one.case.method} | {one.total_seconds:.2f} | "
        f"{ours:.3f} | {one.total_seconds / ours:.0f} | {one.extra_bytes / 2**20:.0f} MiB |"
    )


def _projection(one: Measured, by_case: Cases) -> str:
    seconds, rece = one.total_seconds, by_case[OURS, one.case.size, one.case.concepts, 3].total_seconds
    double = by_case.get((DOUBLE_PROJECTION, one.case.size, one.case.concepts, 0))
    beside = (
        f"{double.total_seconds:.2f} | {seconds / double.total_seconds:.2f} | {one.change_error:.1e}"
        if double
        else " | | "
    )
    return f"| {one.case.size} | {seconds:.2f} | {rece:.2f} | {seconds / rece:.1f} | {beside} | {_memory(one)} |"


def _beside_double(one: Measured, by_case: Cases) -> str:
    ours, size = by_case[OURS, one.case.size, 1, 3], SIZES[one.case.size]
    share = ours.float64_operations / (2 * sum(size.features) * size.dimension**2)
    return (
        f"| {one.case.size} | {ours.total_seconds:.3f} | {one.total_seconds:.3f} | "
        f"{ours.total_seconds / one.total_seconds:.2f} | {ours.change_error:.1e} | {ours.float64_operations:.1e} | "
        f"{share:.1%} | {ours.float64_operations / CONSUMER_RATE:.3f} s |"
    )


def _many(by_case: Cases, size: str, concepts: int) -> str:
    one, many = (by_case[OURS, size, count, 3].total_seconds for count in (1, concepts))
    return f"- {size}, {concepts}: {many:.3f} s / {one:.3f} s = {many / one:.1f}"


def _memory(one: Measured) -> str:
    tensors = f", tensors {one.tensor_matrices:.1f}" if one.tensor_bytes else ""
    return f"{one.extra_bytes / 2**20:.0f} MiB = {one.extra_matrices:.1f} d×d float64{tensors}"


def _plot(runs: Runs, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, len(runs), figsize=(7 * len(runs), 4.2), layout="constrained", squeeze=False)
    for axes, (machine, found) in zip(grid[0], runs, strict=True):
        for size in dict.fromkeys(one.case.size for one in found):
            ours = [one for one in found if (one.case.method, one.case.size, one.case.epochs) == (OURS, size, 3)]
            (line,) = axes.plot(
                [one.case.concepts for one in ours], [one.total_seconds for one in ours], "o-", label=f"{size}, ours"
            )
            for method, marker in ((TIDY, "s"), (PUBLISHED, "^")):
                for one in found:
                    if (one.case.method, one.case.size, one.case.epochs) == (method, size, 3):
                        axes.plot(1, one.total_seconds, marker, color=line.get_color(), label=f"{size}, {method}")
        axes.set(xscale="log", yscale="log", xlabel="concepts", ylabel="seconds (3 epochs)", title=machine["name"])
        axes.grid(alpha=0.3, which="both")
        # Below the axes: anywhere within, it hides a point of some machine.
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    figure.savefig(path, dpi=130)
