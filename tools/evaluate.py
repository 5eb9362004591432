"""The table, the pictures and the page that say how much of a concept is left and what that cost.

    python -m tools.evaluate --pocket --concept green --out results/green
    python -m tools.evaluate --checkpoint sd15.safetensors --concepts nudity --prompts i2p.csv --keep coco.csv --out results/n
    python -m tools.evaluate --pocket --concept green --count 32 --erase RECE preset=custom epochs=3 --out results/green

Every erasure is sampled with the same prompts and seeds as the model before it. A run that was stopped or killed goes on where it
was: give the same command again. To be run by the host's interpreter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tools.console import allow_any_text
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--pocket", action="store_true", help="evaluate on the pocket model, with its own prompts")
    what.add_argument("--checkpoint", type=Path, help="evaluate on a checkpoint of your own")
    found.add_argument("--concepts", nargs="+", default=[], metavar="LINE", help="of a checkpoint: what is erased")
    found.add_argument(
        "--prompts",
        type=Path,
        nargs="+",
        default=[],
        help="of a checkpoint: prompt sets that should not show it any more",
    )
    found.add_argument("--keep", type=Path, nargs="*", default=[], help="of a checkpoint: prompt sets that should stay")
    found.add_argument("--detector", choices=("NudeNet", "ResNet-50"), default="NudeNet")
    found.add_argument("--detect", nargs="*", default=[], metavar="CLASS", help="what the detector looks for")
    found.add_argument("--threshold", type=float, default=0.6, help="of NudeNet")
    found.add_argument("--classifier", type=Path, help="weights of ResNet-50, a safetensors file")
    found.add_argument("--size", type=int, default=512, help="of pictures, where the prompt set does not say")
    found.add_argument("--concept", default="green", help="a word of the pocket model's world")
    found.add_argument(
        "--erase",
        action="append",
        nargs="+",
        default=[],
        metavar="NAME",
        help="NAME SETTING=VALUE …: an erasure by its name and the node's inputs, or eraser=FILE, or lora=FILE",
    )
    found.add_argument("--attacks", nargs="*", choices=("derived", "vector"), default=["derived", "vector"])
    found.add_argument("--count", type=int, default=16, help="prompts in a set")
    found.add_argument("--steps", type=int, default=10)
    found.add_argument("--chunk", type=int, default=16, help="pictures at once; part of what identifies a run")
    found.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16 is faster where the machine has it",
    )
    found.add_argument("--preserve", action="store_true", help="preserve all other words")
    found.add_argument("--out", type=Path, required=True, help="the results folder")
    return found


def evaluate(arguments: argparse.Namespace) -> Path:
    """Make what is missing, then the table and the page, whose path is returned.

    Raises:
        RECEError: an erasure cannot be made as described.
        WrongRunError: the results folder is of another run.
        ValueError: the pocket model does not know the concept.
    """
    from tools.evaluation.chunks import Results
    from tools.evaluation.erasures import DEFAULTS, UNEDITED, Erasure
    from tools.evaluation.page import write_all
    from tools.evaluation.summary import summarise

    erasures = [Erasure(UNEDITED), *([Erasure.parsed(words) for words in arguments.erase] or DEFAULTS)]
    _check(arguments, [erasure.name for erasure in erasures])
    results = Results(arguments.out, _identity(arguments, erasures))
    subject, columns = (_pocket if arguments.pocket else _checkpoint)(arguments)
    make_missing(results, subject, erasures, arguments.chunk, arguments.preserve)
    lines = summarise(results, [erasure.name for erasure in erasures], columns)
    erased = subject.concepts.replace("\n", ", ")
    return write_all(results, lines, columns, f"“{erased}”, erased from {subject.name}")


def _pocket(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The pocket model, and what its sets are for."""
    from pocket_model.sampling import Sampler
    from tools.evaluation.pocket import NEIGHBOURS, OTHERS, OWN, PARAPHRASED, SHOWS_CONCEPT, Pocket
    from tools.evaluation.summary import Columns

    sampler = Sampler(steps=arguments.steps, batch=arguments.chunk)
    pocket = Pocket(arguments.concept, arguments.count, sampler, arguments.attacks, getattr(torch, arguments.dtype))
    gone = tuple(name for name in pocket.sets if name in SHOWS_CONCEPT)
    return pocket, Columns(gone, (NEIGHBOURS, OTHERS), (OWN, PARAPHRASED, OTHERS))


def _checkpoint(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """A user's checkpoint, and what the sets are for."""
    from rece_pack.nodes.host.detectors.classifier import ResNet50
    from rece_pack.nodes.host.detectors.nudity import NudeNet
    from rece_pack.nodes.host.jobs.sample import Sampling
    from rece_pack.rece_ops import InputError

    from tools.evaluation.checkpoint import Checkpoint, read_sets
    from tools.evaluation.summary import Columns

    if not arguments.concepts or not arguments.prompts:
        raise InputError("A checkpoint needs --concepts and --prompts: what is erased, and prompts that ask for it.")
    sets = read_sets([*arguments.prompts, *arguments.keep], arguments.count, arguments.size)
    if arguments.detector == "NudeNet":
        detector: Any = NudeNet(arguments.detect, arguments.threshold)
    elif arguments.classifier is None:
        raise InputError("ResNet-50 needs --classifier: its weights, a safetensors file with torchvision's names.")
    else:
        detector = ResNet50(arguments.detect, arguments.classifier)
    subject = Checkpoint(
        arguments.checkpoint, "\n".join(arguments.concepts), "", sets, detector, Sampling(arguments.steps)
    )
    gone = tuple(path.stem for path in arguments.prompts)
    return subject, Columns(gone, tuple(path.stem for path in arguments.keep))


def make_missing(results: Any, subject: Any, erasures: Sequence[Any], size: int, preserve: bool) -> None:
    """Sample and look at the chunks that the results do not have yet; an erasure that is complete is not made again."""
    from tools.evaluation.chunks import ChunkName, chunked
    from tools.evaluation.erasures import make

    missing = {
        erasure.name: [
            (name, places, chunk)
            for name, prompts in subject.sets.items()
            for number, places in enumerate(chunked(len(prompts.captions), size))
            if not results.has(chunk := ChunkName(erasure.name, name, number))
        ]
        for erasure in erasures
    }
    total, done, started = sum(map(len, missing.values())), 0, time.monotonic()
    for erasure in erasures:
        if not missing[erasure.name]:
            continue
        erased = make(erasure, subject.model, subject.clip, subject.concepts, subject.preserve if preserve else "")
        results.note(f"erasure {erasure.name}", {"seconds": erased.seconds, "size": erased.size})
        for name, places, chunk in missing[erasure.name]:
            pictures = subject.pictures(erased, name, places)
            results.add(chunk, subject.rows(name, places, pictures), pictures)
            done += 1
            left = (time.monotonic() - started) / done * (total - done)
            print(f"[evaluate] {erasure.name}, {name}: {done} of {total} chunks, {left:.0f} s left", flush=True)


def _identity(arguments: argparse.Namespace, erasures: Sequence[Any]) -> dict[str, Any]:
    """What two runs must have in common for one to go on with the other."""
    from pocket_model.assemble import pocket_signature

    common = {
        "count": arguments.count,
        "steps": arguments.steps,
        "chunk": arguments.chunk,
        "preserve": arguments.preserve,
        "erasures": {erasure.name: dict(erasure.settings) for erasure in erasures},
    }
    if arguments.pocket:
        own = {"model": pocket_signature(), "concept": arguments.concept, "attacks": sorted(arguments.attacks)}
        return {**own, "dtype": arguments.dtype, **common}
    return {
        "model": f"{arguments.checkpoint.name}, {arguments.checkpoint.stat().st_size} bytes",
        "concepts": list(arguments.concepts),
        "prompts": [path.name for path in arguments.prompts],
        "keep": [path.name for path in arguments.keep],
        "detector": [arguments.detector, arguments.threshold, *arguments.detect],
        "size": arguments.size,
        **common,
    }


def _check(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    from rece_pack.rece_ops import InputError

    from tools.evaluation.chunks import safe_name

    path = arguments.checkpoint
    if path is not None and not (path.is_file() and path.suffix == ".safetensors"):
        raise InputError(
            f"'{path}' is no .safetensors file that is there. Other files of models are pickles, which can run any program when "
            "they are read, so they are not."
        )
    for name in ("count", "steps", "chunk"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)}: give at least 1.")
    if len({safe_name(name).lower() for name in names}) < len(names):
        raise InputError(f"Two erasures have the same name, or names that no file can tell apart: {', '.join(names)}.")


def main(given: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    allow_any_text()
    arguments = parser().parse_args(given)
    make_importable(prepare_comfyui())
    import_pack()
    from rece_pack.rece_ops import RECEError

    from tools.evaluation.chunks import WrongRunError

    try:
        page = evaluate(arguments)
    except (RECEError, WrongRunError, OSError, ValueError) as error:
        print(f"[evaluate] {error}", file=sys.stderr)
        return 1
    print((page.parent / "table.md").read_text(encoding="utf-8"))
    print(f"[evaluate] {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
