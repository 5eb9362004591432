"""The table and the plot of the erase benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.erase_benchmark.records import (
    CONCEPTS,
    CONCEPTS_OF,
    EPOCHS,
    OURS,
    PROJECTION,
    PUBLISHED,
    TIDY,
    Measured,
)

Cases = Mapping[tuple[str, str, int, int], Measured]


def write_report(found: Sequence[Measured], machine: dict[str, Any], path: Path) -> None:
    """Write `path`.json, `path`.md and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"machine": machine, "measured": [asdict(one) for one in found]}
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8", newline="\n")
    path.with_suffix(".md").write_text(_table(found, machine, path.name), encoding="utf-8", newline="\n")
    _plot(found, machine, path.with_suffix(".png"))


def _table(found: Sequence[Measured], machine: dict[str, Any], name: str) -> str:
    lines = [
        f"# Time and memory of an erasure ({machine['name']}, {machine['cores']} cores, torch {machine['torch']})",
        "",
        f"Measured {machine['date']} by `python -m benchmarks.erase_benchmark`; all figures are in `{name}.json`.",
        "Seconds from projections and token embeddings to edited projections (median; text encoding apart). Sizes that the",
        "last run left out are those of earlier runs on the same machine.",
        "",
        f"![seconds by number of concepts]({name}.png)",
        "",
        "## Ours, seconds by epochs",
        "",
        "| size | concepts | " + " | ".join(f"epochs: {epochs}" for epochs in EPOCHS) + " | peak extra memory |",
        "| --- | --- | " + " | ".join("---" for _ in EPOCHS) + " | --- |",
    ]
    by_case = {(one.case.method, one.case.size, one.case.concepts, one.case.epochs): one for one in found}
    sizes = list(dict.fromkeys(one.case.size for one in found))
    lines += [_row(by_case, size, concepts) for size in sizes for concepts in CONCEPTS_OF.get(size, CONCEPTS)]
    lines += ["", "## Compared with the equations layer by layer, one concept", ""]
    lines += ["| size | epochs | method | seconds | ours | ratio | its peak extra memory |", "| --- " * 7 + "|"]
    lines += [_beside_literal(one, by_case) for one in found if one.case.method in (TIDY, PUBLISHED)]
    lines += ["", "## A projection compared with RECE with three epochs, one concept", ""]
    lines += [_beside_rece(one, by_case) for one in found if one.case.method == PROJECTION]
    lines += ["", "## A thousand concepts compared with one, three epochs", ""]
    lines += [_thousand(by_case, size) for size in sizes if (OURS, size, 1000, 3) in by_case]
    return "\n".join([*lines, ""])


def _row(by_case: Cases, size: str, concepts: int) -> str:
    cells = [by_case.get((OURS, size, concepts, epochs)) for epochs in EPOCHS]
    times = " | ".join(f"{one.total_seconds:.2f}" if one else "" for one in cells)
    most = max((one for one in cells if one), key=lambda one: one.extra_bytes)
    return f"| {size} | {concepts} | {times} | {_memory(most)} |"


def _beside_literal(one: Measured, by_case: Cases) -> str:
    ours = by_case[OURS, one.case.size, one.case.concepts, one.case.epochs].total_seconds
    return (
        f"| {one.case.size} | {one.case.epochs} | {one.case.method} | {one.total_seconds:.2f} | "
        f"{ours:.2f} | {one.total_seconds / ours:.0f} | {one.extra_bytes / 2**20:.0f} MiB |"
    )


def _beside_rece(one: Measured, by_case: Cases) -> str:
    seconds, rece = one.total_seconds, by_case[OURS, one.case.size, one.case.concepts, 3].total_seconds
    return f"- {one.case.size}: {seconds:.2f} s / {rece:.2f} s = {seconds / rece:.1f}; peak extra memory {_memory(one)}"


def _thousand(by_case: Cases, size: str) -> str:
    one, many = (by_case[OURS, size, concepts, 3].total_seconds for concepts in (1, 1000))
    return f"- {size}: {many:.2f} s / {one:.2f} s = {many / one:.1f}"


def _memory(one: Measured) -> str:
    return f"{one.extra_bytes / 2**20:.0f} MiB = {one.extra_matrices:.1f} d×d float64"


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
