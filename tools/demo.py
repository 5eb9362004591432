"""The main job from nothing: erase a concept, sample before and after, save everything, show what changed.

    python3 -m tools.demo [--checkpoint MODEL.safetensors] [--concepts "Van Gogh -> art"] [--prompt TEXT]

Runs on a bare Python 3.10 or later: it makes its own environment and ComfyUI first (see `tools.host`). Without a
checkpoint it uses a small random model, which shows that everything works, but whose pictures mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.host import REPOSITORY, Host, HostError, host_folder, prepare
from tools.launch_comfyui import make_importable

if TYPE_CHECKING:
    from tools.client import Picture, Result
    from tools.graph import Graph, Node
    from tools.server import ComfyServer

NEUTRAL_PROMPTS = ("a bowl of fruit on a table", "a landscape with mountains and a lake")
ERASER, LORA, CHECKPOINT = "eraser.safetensors", "eraser_lora.safetensors", "erased_checkpoint.safetensors"


@dataclass(frozen=True)
class Job:
    """What to erase from which model, and how to sample it."""

    checkpoint: Path
    concepts: str
    preset: str
    prompts: tuple[str, ...]
    size: int
    steps: int
    seed: int
    out: Path


def main() -> int:
    """Prepare the host, then go on in its interpreter."""
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
    _run(_job(arguments), Host(Path(sys.executable), arguments.comfyui))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Erase a concept from a model and show what changed.")
    parser.add_argument("--checkpoint", type=Path, help="an SD1, SD2 or SDXL checkpoint of your own")
    parser.add_argument("--concepts", default="nudity", help="what to erase, as in the node: 'Van Gogh -> art'")
    parser.add_argument("--preset", default="nudity", help="a preset of the node")
    parser.add_argument("--prompt", help="a prompt that shows the concept (default: the concept)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of all pictures")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_output", help="where the results go")
    parser.add_argument("--comfyui", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _job(arguments: argparse.Namespace) -> Job:
    from tools.tiny_checkpoints import build

    own = arguments.checkpoint is not None
    checkpoint = arguments.checkpoint or build("sd15", host_folder() / "checkpoints" / "sd15.safetensors")
    concept = arguments.concepts.split("->")[0].strip()
    return Job(
        checkpoint=checkpoint.resolve(),
        concepts=arguments.concepts,
        preset=arguments.preset,
        prompts=(arguments.prompt or f"a picture of {concept}", *NEUTRAL_PROMPTS),
        size=512 if own else 64,
        steps=20 if own else 4,
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
    rows = {"before": before, "after": after, "checkpoint": from_checkpoint, "LoRA": from_lora}
    _save_grid(job, rows)
    print(f"\n{report}\n")
    _print_table(job, rows)
    print(f"\n[demo] look at {job.out / 'before_after.png'}; beside it lie {ERASER}, {LORA}, {CHECKPOINT}, report.txt")


def _erase_and_sample(server: ComfyServer, job: Job) -> tuple[list[Picture], list[Picture], str]:
    from tools.graph import Graph

    graph = Graph()
    loaded = graph.load(server.link_model(job.checkpoint))
    erased = graph.node(
        "RECE_EraseConcepts", model=loaded.out(0), clip=loaded.out(1), concepts=job.concepts, preset=job.preset
    )
    graph.node("RECE_SaveEraser", eraser=erased.out(1), file_name=ERASER, if_exists="replace")
    graph.save_lora(loaded, erased.out(1), LORA, dtype="float16")
    graph.node("CheckpointSave", model=erased.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix="erased")
    report = graph.node("PreviewAny", source=erased.out(2))
    before = [_sample(graph, loaded, prompt, None, job) for prompt in job.prompts]
    after = [_sample(graph, loaded, prompt, erased, job) for prompt in job.prompts]
    result = server.run(graph.prompt, timeout=3600)
    return _pictures(result, before), _pictures(result, after), result.outputs[report.id]["text"][0]


def _sample_from_files(server: ComfyServer, job: Job) -> tuple[list[Picture], list[Picture]]:
    from tools.graph import Graph

    graph = Graph()
    (saved,) = (server.base / "output").glob("erased_*.safetensors")
    erased = graph.load(server.link_model(saved))
    original = graph.load(job.checkpoint.name)
    lora = graph.node("LoraLoaderModelOnly", model=original.out(0), lora_name=LORA, strength_model=1.0)
    from_checkpoint = [_sample(graph, erased, prompt, None, job) for prompt in job.prompts]
    from_lora = [_sample(graph, original, prompt, lora, job) for prompt in job.prompts]
    result = server.run(graph.prompt, timeout=3600)
    return _pictures(result, from_checkpoint), _pictures(result, from_lora)


def _sample(graph: Graph, loaded: Node, prompt: str, model: Node | None, job: Job) -> Node:
    return graph.sample(loaded, prompt, model=model, seed=job.seed, steps=job.steps, size=job.size)


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
    (job.out / "report.txt").write_text(report + "\n", encoding="utf-8")


def _save_grid(job: Job, rows: dict[str, list[Picture]]) -> None:
    """One column a prompt, the picture before above the picture after."""
    from PIL import Image, ImageDraw

    side, margin = 256, 24
    grid = Image.new("RGB", (len(job.prompts) * side, 2 * (side + margin)), "white")
    draw = ImageDraw.Draw(grid)
    for row, name in enumerate(("before", "after")):
        for column, picture in enumerate(rows[name]):
            left, top = column * side, row * (side + margin)
            draw.text((left + 4, top + 6), f"{name}: {job.prompts[column]}"[:40], fill="black")
            small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
            grid.paste(small, (left, top + margin))
    grid.save(job.out / "before_after.png")


def _print_table(job: Job, rows: dict[str, list[Picture]]) -> None:
    """How far pictures are apart, in steps of 255, on average over their pixels."""
    print("Mean difference of the pictures, in steps of 255:")
    print(f"{'prompt':44} {'before/after':>13} {'after/checkpoint':>17} {'after/LoRA':>11}")
    for index, prompt in enumerate(job.prompts):
        before, after = rows["before"][index], rows["after"][index]
        others = [_difference(after, rows[name][index]) for name in ("checkpoint", "LoRA")]
        print(f"{prompt[:44]:44} {_difference(before, after):13.2f} {others[0]:17.2f} {others[1]:11.2f}")


def _difference(one: Picture, other: Picture) -> float:
    return float(abs(one.astype(float) - other.astype(float)).mean())


if __name__ == "__main__":
    sys.exit(main())
