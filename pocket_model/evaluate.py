"""How often the pocket model makes what the caption says.

    python -m pocket_model.evaluate [--prompts 500] [--synonyms 60] [--steps 20] [--grid PICTURE.png]

Samples through ComfyUI in this process, in bfloat16 or float32, whichever is quicker here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import Seen, classify
from pocket_model.precision import quicker_dtype
from pocket_model.rates import Rate
from pocket_model.rendering import PLACES, render
from pocket_model.sampling import PocketModel, Sampler
from pocket_model.trials import kept, other_captions
from pocket_model.world import CLEAR, KINDS, PLAIN_STYLE, Caption, paraphrase
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable


def accuracy(captions: list[Caption], seen: list[Seen]) -> dict[str, Rate]:
    """How often what is seen of each kind is what the caption says, where it says something."""
    return {
        kind: Rate.of(
            picture.attribute(kind) == caption.says.attribute(kind)
            for caption, picture in zip(captions, seen, strict=True)
            if caption.says.attribute(kind) is not None
        )
        for kind in KINDS
    }


def said_otherwise(captions: list[Caption], kind: str, held_out: bool, seed: int) -> list[Caption]:
    """The captions that say something of a kind, saying it with a synonym."""
    random = Random(f"{seed} {kind} {held_out}")
    return [
        paraphrase(caption.says.completed(random), name, random, held_out)
        for caption in captions
        if (name := caption.says.attribute(kind)) is not None and name not in (PLAIN_STYLE, CLEAR)
    ]


def rendering_accuracy(count: int, seed: int, noise: float) -> dict[str, Rate]:
    """The classifier's own accuracy, on renderings with noise of that standard deviation."""
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    captions = other_captions((), count, seed)
    pictures = torch.stack([render(caption.says.completed(random), random.choice(PLACES)) for caption in captions])
    noisy = (pictures + noise * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
    return accuracy(captions, classify(noisy))


def save_grid(path: Path, pictures: Tensor, columns: int, scale: int = 2) -> None:
    """Pictures [n, 3, 64, 64] as one PNG file."""
    from PIL import Image

    rows = [torch.cat(list(row), dim=2) for row in torch.split(pictures, columns) if len(row) == columns]
    grid = torch.cat(rows, dim=1).mul(255).round().byte().permute(1, 2, 0)
    grid = grid.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    Image.fromarray(grid.contiguous().numpy()).save(path)


def main() -> int:
    """Sample, classify, print."""
    parser = argparse.ArgumentParser(description="Measure the pocket model's accuracy.")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument(
        "--synonyms", type=int, default=60, help="prompts that say something with a synonym, of each kind"
    )
    parser.add_argument("--steps", type=int, default=Sampler.steps)
    parser.add_argument("--guidance", type=float, default=Sampler.guidance)
    parser.add_argument("--checkpoint", type=Path, help="another one than the assembled one")
    parser.add_argument("--grid", type=Path, help="also save the first pictures")
    parser.add_argument("--json", type=Path, help="also save the figures")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    dtype = quicker_dtype()
    pocket = PocketModel(arguments.checkpoint or pocket_checkpoint(), dtype)
    sampler = Sampler(arguments.steps, arguments.guidance)

    def sampled(captions: list[Caption]) -> Tensor:
        embeddings = pocket.embeddings([caption.text for caption in captions])
        return pocket.sample(pocket.model, embeddings, range(len(captions)), sampler)

    captions = other_captions((), arguments.prompts, seed=1)
    started = time.perf_counter()
    pictures = sampled(captions)
    seconds = (time.perf_counter() - started) / len(captions)
    found = accuracy(captions, classify(pictures))
    how = f"{sampler.name}, {sampler.steps} steps, guidance {sampler.guidance}, {str(dtype).removeprefix('torch.')}"
    print(f"{len(captions)} prompts, {how}: {seconds:.2f} s a picture")
    print(*(f"{kind}: {rate}" for kind, rate in found.items()), sep="\n")
    everything = kept(captions, classify(pictures))
    print(f"all of them: {everything}", flush=True)
    for held_out, whose in ((False, "a synonym"), (True, "a synonym that the UNet never saw")):
        for kind in KINDS:
            asked = said_otherwise(other_captions((), 20 * arguments.synonyms, seed=3), kind, held_out, seed=4)
            asked = asked[: arguments.synonyms]
            rate = accuracy(asked, classify(sampled(asked)))[kind] if asked else Rate(0, 0)
            found[f"{kind}, {whose}"] = rate
            print(f"{kind}, said with {whose}: {rate}", flush=True)
    for noise in (0.0, 0.05):
        clean = rendering_accuracy(1000, 2, noise)
        print(f"classifier on renderings, noise {noise}:", *(f"{kind} {rate}" for kind, rate in clean.items()))
    if arguments.grid:
        save_grid(arguments.grid, pictures[:40], columns=10)
    if arguments.json:
        rates = {kind: [rate.hits, rate.trials] for kind, rate in found.items()}
        arguments.json.write_text(json.dumps(rates), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
