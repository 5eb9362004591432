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
    named = [(str(life.number), life) for life in soak.lives]
    named += [("the host alone", soak.host_alone)] if soak.host_alone else []
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
        *failure_lines(soak),
        "",
        "## How graphs ended",
        "",
        f"| graph | {' | '.join(ENDINGS)} | longest, s |",
        f"| --- {'| ---: ' * len(ENDINGS)}| ---: |",
        *_outcomes(soak),
        "",
        f"## Memory of the server, MiB (the first {warm_up} graphs of each life are its warm-up)",
        "",
        "Resident memory counts what malloc keeps for the next use; in use is what it has given out, tensors among it. "
        "The last column is the resident memory after free memory went back to the system.",
        "",
        "| life | graphs | ended by | resident after warm-up | at the end | most | in use after warm-up | at the end "
        "| resident, trimmed |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_life(name, life, warm_up) for name, life in named if len(life.memory) > warm_up),
        "",
        *_slopes("All lives", soak.lives, warm_up),
        *(_slopes("The host alone, without the pack", [soak.host_alone], warm_up) if soak.host_alone else []),
    ][:-1]


def failure_lines(soak: Soak) -> list[str]:
    """What did not hold, each with how often."""
    if not soak.failures:
        return ["Everything held."]
    counted = Counter(soak.failures)
    return [f"{len(soak.failures)} times something did not hold:", "", *(f"- {n} × {f}" for f, n in counted.items())]


def _outcomes(soak: Soak) -> list[str]:
    kinds = sorted({kind for kind, _ in soak.outcomes})
    return [
        f"| {kind} | {' | '.join(str(soak.outcomes[kind, how] or '') for how in ENDINGS)} | {soak.longest[kind]:.0f} |"
        for kind in kinds
    ]


def _life(name: str, life: Life, warm_up: int) -> str:
    counted = life.memory[warm_up:]
    resident = [memory.resident for memory in counted]
    cells = [resident[0], resident[-1], max(resident), counted[0].in_use, counted[-1].in_use]
    cells += [life.trimmed.resident] if life.trimmed else []
    numbers = " | ".join(f"{size / MIB:.0f}" for size in cells) + ("" if life.trimmed else " |")
    return f"| {name} | {len(life.memory)} | {life.ending} | {numbers} |"


def _slopes(what: str, lives: Sequence[Life], warm_up: int) -> list[str]:
    long = [life.memory[warm_up:] for life in lives if len(life.memory) > warm_up + 2]
    if not long:
        return [f"{what}: no life was long enough for a slope.", ""]
    graphs = sum(len(life) for life in long)
    resident = _slope([[memory.resident / MIB for memory in life] for life in long])
    in_use = _slope([[memory.in_use / MIB for memory in life] for life in long])
    blocks = _slope([[memory.blocks for memory in life] for life in long])
    return [
        f"{what}, slope over {graphs} graphs (one standard error, as if graphs were independent): resident {resident} MiB "
        f"a graph, in use {in_use} MiB a graph, Python's blocks {blocks} a graph.",
        "",
    ]


def _slope(lives: Sequence[Sequence[float]]) -> str:
    """The common slope of all lives by least squares, each about its own mean, with its standard error."""
    along, above = [], []
    for life in lives:
        middle, mean = (len(life) - 1) / 2, sum(life) / len(life)
        along += [place - middle for place in range(len(life))]
        above += [size - mean for size in life]
    square = sum(x * x for x in along)
    slope = sum(x * y for x, y in zip(along, above, strict=True)) / square
    rest = sum((y - slope * x) ** 2 for x, y in zip(along, above, strict=True))
    error = math.sqrt(rest / max(len(along) - len(lives) - 1, 1) / square)
    return f"{slope:+.3f} ± {error:.3f}"
