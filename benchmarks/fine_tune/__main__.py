"""Does an eraser that was made on a base erase from its fine-tune, too, and as well as one made there?

    python -m benchmarks.fine_tune [--out benchmarks/results] [--run FOLDER]

The pocket model is trained further on captions of half of its objects, as a community fine-tune narrows a base. Concepts
are erased from it with erasers that were made on the base and with erasers that were made on it, and the pictures are
classified.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import BETA, TARGETED, Bench, bench_sampler, machine, setting_named
from benchmarks.records import RESULTS, finding, machines, read_records, write_records
from pocket_model import networks
from pocket_model.album import Album, Corpus, everyday_of
from pocket_model.assemble import checkpoint_weights, trained_unet, trained_vae
from pocket_model.captions import Example, unet_examples
from pocket_model.rates import Rate
from pocket_model.recipe import RECIPE, Stage
from pocket_model.train import once
from pocket_model.train_text import text_network
from pocket_model.train_unet import encoder, fine_tune_unet
from pocket_model.train_vae import album_latents
from pocket_model.trials import Concept, concept_named, kept, made, trials
from pocket_model.world import OBJECTS
from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable

CONCEPTS = tuple(map(concept_named, ("circle", "red", "striped", "rain", "Zorro Quill")))
METHODS = (f"UCE, {TARGETED}", f"RECE, 3 epochs, {TARGETED}", f"projection, β {BETA:g}, {TARGETED}")
NONE, BASE, ITSELF = "nothing", "on the base", "on the fine-tune"
FINE_TUNING = replace(
    RECIPE, unet=Stage(steps=300, batch=24, rate=2e-4, warmup=20, average=0.95), captions=3200, places=1
)
NARROWED = frozenset(thing.name for thing in OBJECTS[::2]) | {None}
CAPTIONS = 40
# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
TEXT = """# An eraser on a fine-tune of the model it was made on

Measured by `python -m benchmarks.fine_tune` on {machine}; every figure is in `fine_tune.json`. The pocket model was
trained {steps} steps further, on captions of half of its objects only ({objects}){moved}. Pictures are the fine-tune's, {captions} of each concept's own prompts and {captions} of
everything else for {concepts}, each erased alone. *Differs* is ‖W(T − T′)‖ against ‖W(T′ − I)‖, where T was made on the base,
T′ on the fine-tune, and W are the fine-tune's text readers; the largest of the concepts'.

{finding}

| | eraser made | own prompts: still made | everything else: kept | differs |
| --- | --- | --- | --- | --- |
{rows}
"""


@dataclass(frozen=True)
class Outcome:
    """What the fine-tune's pictures of one concept showed.

    Attributes:
        setting, concept: what was erased, and how.
        made_on: where the eraser was made.
        own: how many pictures of its own prompts still show the concept.
        others: how many of other captions show all that they say.
        differs: how far the eraser is from the one that was made on the fine-tune.
        machine: it was measured on.
    """

    setting: str
    concept: str
    made_on: str
    own: Rate
    others: Rate
    differs: float
    machine: str = ""


def fine_tuned_checkpoint(run: Path, device: torch.device) -> Path:
    """The pocket model's checkpoint with a UNet that was trained further; made where it is not there.

    ComfyUI must be importable (`make_importable`).
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / "fine_tuned.safetensors"
    once(path, lambda: _fine_tuned_weights(run, device))
    return path


def _fine_tuned_weights(run: Path, device: torch.device) -> dict[str, Tensor]:
    recipe = FINE_TUNING
    shown = [example for example in unet_examples(recipe.seed, recipe.captions) if _is_shown(example)]
    album = Album(device, everyday_of(shown), recipe.places)
    latents = album_latents(device, trained_vae(), album, len(album.pictures))
    encode = encoder(text_network(recipe.seed), device)
    unet = fine_tune_unet(recipe, run, Corpus(shown, album, device), latents, encode, trained_unet())
    return checkpoint_weights() | {f"{networks.UNET}{name}": value.half().cpu() for name, value in unet.items()}


def _is_shown(example: Example) -> bool:
    return example.caption.says.object in NARROWED


def outcomes(base: Bench, tuned: Bench) -> Iterator[Outcome]:
    """Every concept by every method, with erasers from both models."""
    for concept in CONCEPTS:
        yield _outcome(tuned, NONE, concept, NONE, tuned.pocket.model, 0.0)
        for name in METHODS:
            erasers = [bench.erasers(setting_named(name), [concept]) for bench in (base, tuned)]
            differs = _difference(tuned.gram, *(one["text"] for one in erasers))
            for made_on, one, distance in zip((BASE, ITSELF), erasers, (differs, 0.0), strict=True):
                yield _outcome(tuned, name, concept, made_on, tuned.with_erasers(one), distance)


def _outcome(tuned: Bench, name: str, concept: Concept, made_on: str, model: Any, differs: float) -> Outcome:
    found = trials(concept, CAPTIONS, CAPTIONS)
    groups = {"own": tuned.embeddings(found.own), "others": tuned.embeddings(found.others)}
    seen = tuned.all_seen(model, groups)
    rates = made(concept, seen["own"]), kept(found.others, seen["others"])
    outcome = Outcome(name, concept.name, made_on, *rates, differs, machine())
    print(asdict(outcome), flush=True)
    return outcome


def _difference(gram: Tensor, one: Any, other: Any) -> float:
    """‖W(T − T′)‖ / ‖W(T′ − I)‖ over all projections, of which `gram` is Σ WᵀW."""
    mine, its = (eraser.matrix().to(gram) for eraser in (one, other))
    return (_length(gram, mine - its) / _length(gram, its - torch.eye(len(its)).to(its))).item()


def _length(gram: Tensor, change: Tensor) -> Tensor:
    return ((gram @ change) * change).sum().sqrt()


@torch.no_grad()
def _moved(base: Bench, tuned: Bench) -> float:
    """How far the fine-tune's projections are from the base's, relative to their size."""
    change = sum(float((tuned.projections[name] - weight).square().sum()) for name, weight in base.projections.items())
    return math.sqrt(change / float(base.gram.trace()))


def write_report(found: Sequence[Outcome], moved: float | None, path: Path) -> None:
    """Write the table: one row for each method and place of making, over all concepts."""
    rows = []
    for name in dict.fromkeys(outcome.setting for outcome in found):
        for made_on in dict.fromkeys(outcome.made_on for outcome in found if outcome.setting == name):
            chosen = [one for one in found if (one.setting, one.made_on) == (name, made_on)]
            own, others = (sum((getattr(one, part) for one in chosen), Rate(0, 0)) for part in ("own", "others"))
            differs = f"{max(one.differs for one in chosen):.1%}" if made_on == BASE else "–"
            rows.append(f"| {name} | {'–' if made_on == NONE else made_on} | {own} | {others} | {differs} |")
    objects = ", ".join(thing.name for thing in OBJECTS if thing.name in NARROWED)
    text = TEXT.format(
        machine=machines(found),
        steps=FINE_TUNING.unet.steps,
        objects=objects,
        moved="" if moved is None else f"; that moved its text readers by {moved:.0%} of their size",
        captions=CAPTIONS,
        concepts=", ".join(dict.fromkeys(outcome.concept for outcome in found)),
        finding=finding(FINDING),
        rows="\n".join(rows),
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    """Fine-tune, erase, and write the table."""
    parser = argparse.ArgumentParser(description="Measure erasers of the pocket model on its fine-tune.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--run", type=Path, default=host_folder() / "training", help="the folder of the training")
    parser.add_argument("--report", action="store_true", help="measure nothing, write about what was measured")
    arguments = parser.parse_args()
    if arguments.report:
        write_report(read_records(arguments.out / "fine_tune.json", Outcome), None, arguments.out / "fine_tune.md")
        return 0
    make_importable(prepare_comfyui())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = fine_tuned_checkpoint(arguments.run, device)
    sampler = bench_sampler()
    base, tuned = Bench(sampler), Bench(sampler, checkpoint)
    found = []
    for outcome in outcomes(base, tuned):
        found.append(outcome)
        write_records(arguments.out / "fine_tune.json", found)
    write_report(found, _moved(base, tuned), arguments.out / "fine_tune.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
