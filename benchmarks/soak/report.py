"""What the soak found, as a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.soak.records import Life, Soak

ENDINGS = ("done", "refused", "cancelled", "killed", "unanswered")
MIB = 2**20


def write_report(soak: Soak, machine: dict[str, Any], warm_up: int, path: Path) -> None:
    """Write the page: how graphs ended, how memory went, and what did not hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_lines(soak, machine, warm_up)) + "\n", encoding="utf-8", newline="\n")


def _lines(soak: Soak, machine: dict[str, Any], warm_up: int) -> list[str]:
    graphs = sum(soak.outcomes.values())
    killed = sum(life.ending == "killed" for life in soak.lives)
    return [
        f"# Soak: {soak.seconds / 60:.0f} minutes of mixed graphs",
        "",
        f"Run {machine['date']} by `python -m benchmarks.soak` on {machine['name']} ({machine['cores']} cores, torch "
        f"{machine['torch']}), with the small Stable Diffusion 1 checkpoint.",
        "",
        f"{graphs} graphs on {len(soak.lives)} servers one after the other, of which {killed} were killed. "
        f"{soak.compared} times a picture that no node of ours has a part in was compared with the first one, to the bit. "
        f"{len(soak.files)} files were kept track of. Kills left {soak.aged} temporary files behind.",
        "",
        *_failures(soak),
        "",
        "## How graphs ended",
        "",
        f"| graph | {' | '.join(ENDINGS)} |",
        f"| --- {'| ---: ' * len(ENDINGS)}|",
        *_outcomes(soak.outcomes),
        "",
        f"## Resident memory of the server, MiB (the first {warm_up} graphs of each life are its warm-up)",
        "",
        "| life | graphs | ended by | after warm-up | at the end | most |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
        *(_life(life, warm_up) for life in soak.lives if len(life.resident) > warm_up),
        "",
        _slope_sentence([life.resident[warm_up:] for life in soak.lives if len(life.resident) > warm_up + 2]),
    ]


def _failures(soak: Soak) -> list[str]:
    if not soak.failures:
        return ["Everything held."]
    counted = Counter(soak.failures)
    return [f"{len(soak.failures)} times something did not hold:", "", *(f"- {n} × {f}" for f, n in counted.items())]


def _outcomes(outcomes: Counter[tuple[str, str]]) -> list[str]:
    kinds = sorted({kind for kind, _ in outcomes})
    return [f"| {kind} | {' | '.join(str(outcomes[kind, how] or '') for how in ENDINGS)} |" for kind in kinds]


def _life(life: Life, warm_up: int) -> str:
    counted = [size / MIB for size in life.resident[warm_up:]]
    return f"| {life.number} | {len(life.resident)} | {life.ending} | {counted[0]:.0f} | {counted[-1]:.0f} | {max(counted):.0f} |"


def _slope_sentence(lives: Sequence[Sequence[int]]) -> str:
    """The common slope of all lives by least squares, each about its own mean, with its standard error."""
    if not lives:
        return "No life was long enough for a slope."
    along, above = [], []
    for life in lives:
        middle, mean = (len(life) - 1) / 2, sum(life) / len(life)
        along += [place - middle for place in range(len(life))]
        above += [size - mean for size in life]
    square = sum(x * x for x in along)
    slope = sum(x * y for x, y in zip(along, above, strict=True)) / square
    rest = sum((y - slope * x) ** 2 for x, y in zip(along, above, strict=True))
    error = math.sqrt(rest / max(len(along) - len(lives) - 1, 1) / square)
    return f"Slope over {len(along)} graphs: {slope / MIB:+.3f} ± {error / MIB:.3f} MiB a graph (one standard error)."
