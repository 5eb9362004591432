"""What does an erasure still do that counts only in some blocks, in keys or values, or in some of the steps?

    python -m benchmarks.shape [--out benchmarks/results]

Concepts of the pocket model are erased one at a time by UCE to a target; the eraser is shaped in several ways, and the pictures
are classified. Erasures are cut off at every step in turn, so that it can be seen when a concept is decided.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.erased_models import TARGETED, Bench, bench_sampler, machine, setting_named
from benchmarks.records import RESULTS, finding, machines, read_records, write_records
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import Concept, concept_named, kept, made, trials

CONCEPTS = tuple(map(concept_named, ("circle", "striped", "rain")))
METHOD = f"UCE, {TARGETED}"
OWN, OTHERS = 8, 8
STEPS = 10
SHOWN = 4
NOTHING, WHOLE = "nothing", "everywhere and always"
# Written by a person who looked at the pictures.
FINDING = Path(__file__).with_name("finding.md")
TEXT = """# Erasures that count only in part

Measured by `python -m benchmarks.shape` on {machine}; every figure is in `shape.json`, and `shape.png` shows pictures of each.
Each of {concepts} is erased alone by {method}, and the eraser shaped as *Shape Eraser* does it. {own} pictures of each
concept's own prompts and {others} of everything else, {steps} steps each.

{finding}

| the erasure counts | own prompts: still made | everything else: kept |
| --- | --- | --- |
{rows}
"""


@dataclass(frozen=True)
class Outcome:
    """What the pictures of one concept with one shape showed.

    Attributes:
        shape, concept: what was erased, and where.
        own: how many pictures of its own prompts still show the concept.
        others: how many of other captions show all that they say.
        machine: it was measured on.
    """

    shape: str
    concept: str
    own: Rate
    others: Rate
    machine: str = ""


def shapes() -> Mapping[str, Any]:
    """What to compare; None is the model as it is."""
    from rece_pack.rece_ops import WHOLE as EVERYWHERE
    from rece_pack.rece_ops import Schedule, Shape

    blocks = {f"in the {name} blocks only": Shape({**dict.fromkeys(_GROUPS, 0.0), name: 1.0}) for name in _GROUPS}
    steps = {
        f"from {start:.0%} to {end:.0%} of the sampling": Shape(schedule=Schedule.between(start, end))
        for start, end in ((0.0, 0.25), (0.0, 0.5), (0.0, 0.75), (0.25, 1.0), (0.5, 1.0), (0.75, 1.0))
    }
    return {
        NOTHING: None,
        WHOLE: EVERYWHERE,
        "in values only": Shape(keys=0.0),
        "in keys only": Shape(values=0.0),
        **blocks,
        **steps,
        "rising": Shape(schedule=Schedule.between(0.0, 1.0, "rising")),
        "falling": Shape(schedule=Schedule.between(0.0, 1.0, "falling")),
    }


_GROUPS = ("input", "middle", "output")


def run(out: Path) -> list[Outcome]:
    """Measure what is not in `out` yet, and draw the pictures."""
    bench, path, cells = Bench(bench_sampler(STEPS)), out / "shape.json", out / "shape"
    cells.mkdir(parents=True, exist_ok=True)
    found, columns = read_records(path, Outcome), shapes()
    for concept in CONCEPTS:
        asked = trials(concept, OWN, OTHERS)
        eraser = bench.erasers(setting_named(METHOD), [concept])
        for name, shape in columns.items():
            cell = _cell(cells, concept, name)
            if cell.exists():
                continue
            model = bench.pocket.model if shape is None else bench.with_erasers(eraser.shaped(shape))
            embeddings = bench.embeddings([*asked.own, *asked.others])
            pictures = bench.sample(model, embeddings, [*range(OWN), *range(OTHERS)])
            seen = classify(pictures)
            rates = made(concept, seen[:OWN]), kept(asked.others, seen[OWN:])
            found.append(Outcome(name, concept.name, *rates, machine()))
            write_records(path, found)
            _write(torch.cat(list(pictures[:SHOWN]), dim=1), cell)
            print(f"[shape] {concept.name}, {name}: made {rates[0]}, kept {rates[1]}", flush=True)
    grid = [torch.cat([_read(_cell(cells, concept, name)) for name in columns], dim=2) for concept in CONCEPTS]
    save_grid(torch.cat(grid, dim=1), list(columns), out / "shape.png")
    return found


def _cell(folder: Path, concept: Concept, name: str) -> Path:
    """Where the pictures of a concept with a shape are kept."""
    return folder / f"{concept.name}, {name}.png"


def save_grid(grid: Tensor, columns: Sequence[str], path: Path) -> None:
    """A column a shape, with its name above; each concept's pictures [3, height, width] below each other."""
    from matplotlib.figure import Figure

    height, width = grid.shape[1:]
    figure = Figure(figsize=(width / 75, height / 75 + 2.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.movedim(0, -1).clamp(0, 1), interpolation="nearest")
    side, block = width / len(columns), height / len(CONCEPTS)
    axes.set_xticks([(place + 0.5) * side for place in range(len(columns))], columns, rotation=55, ha="left")
    axes.set_yticks([(place + 0.5) * block for place in range(len(CONCEPTS))], [one.name for one in CONCEPTS])
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    figure.savefig(path)


def _write(picture: Tensor, path: Path) -> None:
    numbers = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    Image.fromarray(numbers.numpy()).save(path)


def _read(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def report(found: Sequence[Outcome]) -> str:
    """The page."""
    rows = []
    for name in dict.fromkeys(one.shape for one in found):
        of_shape = [one for one in found if one.shape == name]
        own = sum((one.own for one in of_shape), Rate(0, 0))
        others = sum((one.others for one in of_shape), Rate(0, 0))
        rows.append(f"| {name} | {own} | {others} |")
    return TEXT.format(
        machine=machines(found),
        concepts=", ".join(f"*{concept.name}*" for concept in CONCEPTS),
        method=METHOD,
        own=OWN,
        others=OTHERS,
        steps=STEPS,
        finding=finding(FINDING),
        rows="\n".join(rows),
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    out = parser.parse_args().out
    found = run(out)
    (out / "shape.md").write_text(report(found), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
