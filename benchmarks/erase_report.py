"""The table and the plot of the erase benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.erase_benchmark import CONCEPTS, CONCEPTS_OF, EPOCHS, OURS, PROJECTION, PUBLISHED, TIDY, Measured


def write_report(found: Sequence[Measured], machine: dict[str, Any], path: Path) -> None:
    """Write `path`.json, `path`.md and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"machine": machine, "measured": [asdict(one) for one in found]}
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(_table(found, machine, path.name), encoding="utf-8")
    _plot(found, machine, path.with_suffix(".png"))


def _table(found: Sequence[Measured], machine: dict[str, Any], name: str) -> str:
    lines = [
        f"# Time and memory of an erasure ({machine['name']}, {machine['cores']} cores, torch {machine['torch']})",
        "",
        f"Measured {machine['date']} by `python -m benchmarks.erase_benchmark`; all figures are in `{name}.json`.",
        "Seconds from projections and token embeddings to edited projections (median; text encoding apart).",
        "",
        f"![seconds by number of concepts]({name}.png)",
        "",
        "## Ours, seconds by epochs",
        "",
        "| size | concepts | " + " | ".join(f"{epochs} epochs" for epochs in EPOCHS) + " | peak extra memory |",
        "| --- | --- | " + " | ".join("---" for _ in EPOCHS) + " | --- |",
    ]
    by_case = {(one.case.method, one.case.size, one.case.concepts, one.case.epochs): one for one in found}
    sizes = list(dict.fromkeys(one.case.size for one in found))
    for size in sizes:
        for concepts in CONCEPTS_OF.get(size, CONCEPTS):
            cells = [by_case.get((OURS, size, concepts, epochs)) for epochs in EPOCHS]
            times = " | ".join(f"{one.total_seconds:.2f}" if one else "" for one in cells)
            row = [one for one in cells if one]
            peak = max(one.extra_matrices for one in row)
            megabytes = max(one.extra_bytes for one in row) / 2**20
            lines.append(f"| {size} | {concepts} | {times} | {megabytes:.0f} MiB = {peak:.1f} d×d float64 |")
    lines += ["", "## Beside the equations layer by layer, one concept", ""]
    lines += ["| size | epochs | method | seconds | ours | ratio | its peak extra memory |", "| --- " * 7 + "|"]
    for one in found:
        if one.case.method in (TIDY, PUBLISHED):
            ours = by_case[OURS, one.case.size, one.case.concepts, one.case.epochs]
            ratio = one.total_seconds / ours.total_seconds
            lines.append(
                f"| {one.case.size} | {one.case.epochs} | {one.case.method} | {one.total_seconds:.2f} | "
                f"{ours.total_seconds:.2f} | {ratio:.0f} | {one.extra_bytes / 2**20:.0f} MiB |"
            )
    lines += ["", "## A projection beside RECE with three epochs, one concept", ""]
    for one in found:
        if one.case.method == PROJECTION:
            seconds, rece = one.total_seconds, by_case[OURS, one.case.size, one.case.concepts, 3].total_seconds
            memory = f"{one.extra_bytes / 2**20:.0f} MiB = {one.extra_matrices:.1f} d×d float64"
            lines.append(
                f"- {one.case.size}: {seconds:.2f} s / {rece:.2f} s = {seconds / rece:.1f}; peak extra memory {memory}"
            )
    lines += ["", "## A thousand concepts beside one, three epochs", ""]
    for size in sizes:
        if (OURS, size, 1000, 3) not in by_case:
            continue
        one, many = by_case[OURS, size, 1, 3], by_case[OURS, size, 1000, 3]
        lines.append(
            f"- {size}: {many.total_seconds:.2f} s / {one.total_seconds:.2f} s = "
            f"{many.total_seconds / one.total_seconds:.1f}"
        )
    return "\n".join([*lines, ""])


def _plot(found: Sequence[Measured], machine: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for size in dict.fromkeys(one.case.size for one in found):
        ours = [one for one in found if one.case.method == OURS and one.case.size == size and one.case.epochs == 3]
        (line,) = axes.plot(
            [one.case.concepts for one in ours], [one.total_seconds for one in ours], "o-", label=f"{size}, ours"
        )
        for method, marker in ((TIDY, "s"), (PUBLISHED, "^")):
            for one in found:
                if (one.case.method, one.case.size, one.case.epochs) == (method, size, 3):
                    axes.plot(1, one.total_seconds, marker, color=line.get_color(), label=f"{size}, {method}")
    axes.set(xscale="log", yscale="log", xlabel="concepts", ylabel="seconds (3 epochs)", title=machine["name"])
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
