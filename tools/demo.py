"""The main job from nothing: erase a concept, sample before and after, save everything, show what changed.

    python3 -m tools.demo [--checkpoint MODEL.safetensors] [--concepts "Van Gogh -> art"] [--prompt TEXT]

Runs on a bare Python 3.10 or later: it makes its own environment and ComfyUI first (see `tools.host`). Without a
checkpoint it erases a word from the pocket model (see `pocket_model`), which was trained on drawn shapes, so that a
program can see what its pictures show.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.console import allow_any_text
from tools.host import REPOSITORY, Host, HostError, prepare
from tools.launch_comfyui import make_importable

if TYPE_CHECKING:
    from pocket_model.trials import Concept
    from pocket_model.world import Caption
    from tools.client import Picture, Result
    from tools.graph import Graph, Node
    from tools.server import ComfyServer

ERASER, LORA, CHECKPOINT = "eraser.safetensors", "eraser_lora.safetensors", "erased_checkpoint.safetensors"
GRID, REPORT = "before_after.png", "report.txt"
NEUTRAL_PROMPTS = ("a bowl of fruit on a table", "a landscape with mountains and a lake")
BEFORE, AFTER, FROM_CHECKPOINT, FROM_LORA = "before", "after", "saved checkpoint", "saved LoRA"
# As the node calls them; the bare interpreter that starts this cannot ask the node.
METHODS = ("RECE", "UCE", "projection")
STEPS, METHOD, PRESET = 20, "UCE", "nudity"
POCKET_CONCEPT, POCKET_CAPTIONS = "striped", 8


@dataclass(frozen=True)
class Job:
    """What to erase from which model, and how to sample it.

    Attributes:
        concept: what is erased, for the pocket model, whose pictures can be judged; None for any other model.
        prompts: that name the concept, then as many or more that do not.
        concerned: how many of them name it.
    """

    checkpoint: Path
    concepts: str
    method: str
    preset: str
    concept: Concept | None
    prompts: tuple[Caption, ...]
    concerned: int
    size: int
    cfg: float
    sampler: str
    seed: int
    out: Path


def main() -> int:
    """Prepare the host, then go on in its interpreter."""
    allow_any_text()
    arguments = _arguments()
    if arguments.comfyui is None:
        try:
            host = prepare(extras=False)
        except HostError as error:
            print(f"[demo] {error}", file=sys.stderr)
            return 1
        command = [str(host.python), "-m", "tools.demo", *sys.argv[1:], "--comfyui", str(host.comfyui)]
        return subprocess.run(command, cwd=REPOSITORY, check=False).returncode
    make_importable(arguments.comfyui)
    try:
        job = _own_job(arguments) if arguments.checkpoint else _pocket_job(arguments)
    except ValueError as error:
        print(f"[demo] {error}", file=sys.stderr)
        return 1
    _run(job, Host(Path(sys.executable), arguments.comfyui))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Erase a concept from a model and show what changed.")
    parser.add_argument("--checkpoint", type=Path, help="an SD1, SD2 or SDXL checkpoint of your own")
    parser.add_argument("--concepts", help="what to erase, as in the node: 'Van Gogh -> art'")
    parser.add_argument("--method", choices=METHODS, default=METHOD, help="a method of the node")
    parser.add_argument("--preset", default=PRESET, help="a preset of the node")
    parser.add_argument("--prompt", help="a prompt that shows the concept (default: the concept)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first picture")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_output", help="where the results go")
    parser.add_argument("--comfyui", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _pocket_job(arguments: argparse.Namespace) -> Job:
    """Erase a word of the pocket model's world; its pictures are judged."""
    from pocket_model.assemble import pocket_checkpoint
    from pocket_model.trials import concept_named, trials

    concept = concept_named(arguments.concepts or POCKET_CONCEPT)
    captions = trials(concept, POCKET_CAPTIONS, POCKET_CAPTIONS)
    return Job(
        checkpoint=pocket_checkpoint(),
        concepts=f"{concept.name} -> {concept.target}",
        method=arguments.method,
        preset=arguments.preset,
        concept=concept,
        prompts=captions.own + captions.others,
        concerned=len(captions.own),
        size=64,
        cfg=2.0,
        sampler="euler_ancestral",
        seed=arguments.seed,
        out=arguments.out,
    )


def _own_job(arguments: argparse.Namespace) -> Job:
    """Erase anything from a checkpoint of the user's own."""
    from pocket_model.world import Caption, Description

    if not arguments.checkpoint.is_file():
        raise ValueError(f"There is no checkpoint '{arguments.checkpoint}': give the path of a .safetensors file.")
    concepts = arguments.concepts or "nudity"
    prompt = arguments.prompt or f"a picture of {concepts.split('->')[0].strip()}"
    return Job(
        checkpoint=arguments.checkpoint.resolve(),
        concepts=concepts,
        method=arguments.method,
        preset=arguments.preset,
        concept=None,
        prompts=tuple(Caption(text, Description()) for text in (prompt, *NEUTRAL_PROMPTS)),
        concerned=1,
        size=512,
        cfg=7.0,
        sampler="euler",
        seed=arguments.seed,
        out=arguments.out,
    )


def _run(job: Job, host: Host) -> None:
    from tools.server import ComfyServer

    job.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rece-demo-") as base:
        print(f"[demo] starting ComfyUI with {job.checkpoint.name}")
        with ComfyServer(host, Path(base), gpu=True) as server:
            print(f"[demo] erasing {job.concepts!r}, and sampling {len(job.prompts)} prompts before and after")
            before, after, report = _erase_and_sample(server, job)
            print("[demo] sampling again from the saved checkpoint and with the saved LoRA")
            from_checkpoint, from_lora = _sample_from_files(server, job)
            _collect(server, job, report)
    rows = {BEFORE: before, AFTER: after, FROM_CHECKPOINT: from_checkpoint, FROM_LORA: from_lora}
    _save_grid(job, rows)
    print(f"\n{report}\n")
    _print_rates(job, job.concept, rows) if job.concept else _print_differences(job, rows)
    print(f"\n[demo] look at {job.out / GRID}; the same folder has {ERASER}, {LORA}, {CHECKPOINT}, {REPORT}")


def _erase_and_sample(server: ComfyServer, job: Job) -> tuple[list[Picture], list[Picture], str]:
    from tools.graph import Graph

    graph = Graph()
    loaded = graph.load(server.link_model(job.checkpoint))
    erased = graph.node(
        "RECE_EraseConcepts",
        model=loaded.out(0),
        clip=loaded.out(1),
        concepts=job.concepts,
        method=job.method,
        preset=job.preset,
    )
    graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name=ERASER, if_exists="replace")
    graph.save_lora(loaded, erased.out(1), LORA, dtype="float16")
    graph.node("CheckpointSave", model=erased.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix="erased")
    report = graph.node("PreviewAny", source=erased.out(2))
    before, after = _samples(graph, loaded, None, job), _samples(graph, loaded, erased, job)
    result = server.run(graph.prompt, timeout=3600)
    return _pictures(result, before), _pictures(result, after), result.outputs[report.id]["text"][0]


def _sample_from_files(server: ComfyServer, job: Job) -> tuple[list[Picture], list[Picture]]:
    from tools.graph import Graph

    graph = Graph()
    (saved,) = (server.base / "output").glob("erased_*.safetensors")
    erased = graph.load(server.link_model(saved))
    original = graph.load(job.checkpoint.name)
    lora = graph.node("LoraLoaderModelOnly", model=original.out(0), lora_name=LORA, strength_model=1.0)
    from_checkpoint, from_lora = _samples(graph, erased, None, job), _samples(graph, original, lora, job)
    result = server.run(graph.prompt, timeout=3600)
    return _pictures(result, from_checkpoint), _pictures(result, from_lora)


def _samples(graph: Graph, loaded: Node, model: Node | None, job: Job) -> list[Node]:
    """One picture a prompt, always from the same noise."""
    return [
        graph.sample(
            loaded,
            prompt.text,
            model=model,
            seed=job.seed + index,
            steps=STEPS,
            cfg=job.cfg,
            size=job.size,
            sampler_name=job.sampler,
        )
        for index, prompt in enumerate(job.prompts)
    ]


def _pictures(result: Result, nodes: list[Node]) -> list[Picture]:
    return [result.images(node)[0] for node in nodes]


def _collect(server: ComfyServer, job: Job, report: str) -> None:
    """Copy what was saved out of the server's folder."""
    (saved,) = (server.base / "output").glob("erased_*.safetensors")
    for source, name in (
        (server.base / "models" / "erasers" / ERASER, ERASER),
        (server.base / "models" / "loras" / LORA, LORA),
        (saved, CHECKPOINT),
    ):
        shutil.copyfile(source, job.out / name)
    (job.out / REPORT).write_text(report + "\n", encoding="utf-8", newline="\n")


def _save_grid(job: Job, rows: dict[str, list[Picture]]) -> None:
    """The prompts that name the concept, before above after; below them, in the same way, the others."""
    from PIL import Image, ImageDraw

    side, margin = 160 if job.concept else 320, 42
    columns = max(job.concerned, len(job.prompts) - job.concerned)
    grid = Image.new("RGB", (columns * side, 4 * (side + margin)), "white")
    draw = ImageDraw.Draw(grid)
    for index, prompt in enumerate(job.prompts):
        concerned = index < job.concerned
        for row, name in enumerate((BEFORE, AFTER), start=0 if concerned else 2):
            left = (index if concerned else index - job.concerned) * side
            top = row * (side + margin)
            text = prompt.text.split(" of ", 1)[-1] if row % 2 == 0 else "erased"
            draw.text((left + 3, top + 3), "\n".join(textwrap.wrap(text, side // 6)[:3]), fill="black", spacing=1)
            picture = Image.fromarray(rows[name][index]).resize((side - 2, side - 2), Image.Resampling.LANCZOS)
            grid.paste(picture, (left, top + margin))
    grid.save(job.out / GRID)


def _print_rates(job: Job, concept: Concept, rows: dict[str, list[Picture]]) -> None:
    """How often the concept is still made, and all else kept, as the pocket model's classifier sees it."""
    from pocket_model.classifier import classify, from_pictures
    from pocket_model.trials import kept, made

    others = f"{len(job.prompts) - job.concerned} others"
    print(f"{'':24} {f'{concept.name} in its {job.concerned} prompts':>26} {f'all that {others} say':>26}")
    for name, pictures in rows.items():
        seen = classify(from_pictures(pictures))
        still = made(concept, seen[: job.concerned])
        rest = kept(job.prompts[job.concerned :], seen[job.concerned :])
        print(f"{name:24} {f'{still.hits} of {still.trials}':>26} {f'{rest.hits} of {rest.trials}':>26}")


def _print_differences(job: Job, rows: dict[str, list[Picture]]) -> None:
    """How far pictures are apart, in steps of 255, on average over their pixels."""
    print("Mean difference of the pictures, in steps of 255:")
    print(f"{'prompt':44} {'before/after':>13} {'after/checkpoint':>17} {'after/LoRA':>11}")
    for index, prompt in enumerate(job.prompts):
        before, after = rows[BEFORE][index], rows[AFTER][index]
        others = [_difference(after, rows[name][index]) for name in (FROM_CHECKPOINT, FROM_LORA)]
        print(f"{prompt.text[:44]:44} {_difference(before, after):13.2f} {others[0]:17.2f} {others[1]:11.2f}")


def _difference(one: Picture, other: Picture) -> float:
    return float(abs(one.astype(float) - other.astype(float)).mean())


if __name__ == "__main__":
    sys.exit(main())
