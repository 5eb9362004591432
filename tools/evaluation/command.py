"""The table, the pictures and the page that say how much of a concept is left and what that cost.

    python -m tools.evaluate --pocket --concept green --out results/green
    python -m tools.evaluate --checkpoint sd15.safetensors --concepts nudity --prompts i2p.csv --keep coco.csv --out results/n
    python -m tools.evaluate --pocket --concept green --count 32 --erase RECE preset=custom epochs=3 --out results/green
    python -m tools.evaluate --recipe artist-style --prompt-sets sets --checkpoint sd14.safetensors --alexnet alexnet.pth --out r
    python -m tools.evaluate --pocket --concept green --ray auto --out results/green
    python -m tools.evaluate --pocket --concept green --sweep RECE preset=custom epochs=0,1,3 erase_scale=1,3 --out results/sweep

Every erasure is sampled with the same prompts and seeds as the model before it. A run that was stopped or killed goes on where it
was: give the same command again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from tools.console import allow_any_text
from tools.evaluation.attacks import NAMES
from tools.evaluation.detectors import DETECTORS
from tools.evaluation.metrics.chosen import add_options
from tools.evaluation.recipes import RECIPES, Recipe
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m tools.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    found.add_argument(
        "--category",
        default="",
        help="of --prompts only the prompts of this class, artist or category, and of --keep all others",
    )
    found.add_argument("--detector", choices=DETECTORS, default=DETECTORS[0])
    found.add_argument("--detect", nargs="*", default=[], metavar="CLASS", help="what the detector looks for")
    found.add_argument("--threshold", type=float, default=0.6, help="of NudeNet and CLIP")
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
    found.add_argument(
        "--sweep",
        action="append",
        nargs="+",
        default=[],
        metavar="NAME",
        help="NAME SETTING=VALUE,VALUE …: as --erase, one erasure for every combination of the values",
    )
    found.add_argument(
        "--attacks",
        nargs="*",
        choices=list(NAMES),
        help="on the prompts that ask for the concept; of the pocket model 'derived' and 'vector' where none is given",
    )
    found.add_argument(
        "--inversion-steps", type=int, default=100, help="of the attack 'inversion', for each of three starts"
    )
    found.add_argument("--count", type=int, default=16, help="prompts in a set")
    found.add_argument("--steps", type=int, default=10)
    found.add_argument("--chunk", type=int, default=16, help="pictures at once; part of what identifies a run")
    found.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16 is faster where the machine has it",
    )
    found.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="have a Ray cluster's processes make the pictures, one for each GPU or core; 'local' starts one here",
    )
    found.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="an experiment of RECE's paper, for Stable Diffusion 1.4: "
        + "; ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items()),
    )
    found.add_argument(
        "--prompt-sets", type=Path, default=Path("."), help="of a recipe: the folder with its prompt sets"
    )
    add_options(found)
    found.add_argument("--preserve", action="store_true", help="preserve all other words")
    found.add_argument("--out", type=Path, required=True, help="the results folder")
    return found


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; a recipe's where it names one and gives none of its own.

    Args:
        given: None for this process's own.
    """
    options = parser()
    first = options.parse_args(given)
    if first.recipe:
        if first.pocket:
            options.error("--recipe is for a checkpoint: the pocket model has prompts of its own and takes no recipe")
        defaults = RECIPES[first.recipe].defaults(first.prompt_sets)
        # What a person gives would be added to these.
        own: dict[str, Any] = {"erase": []} if first.erase or first.sweep else {}
        options.set_defaults(**{**defaults, **own})
    return options.parse_args(given)


def evaluate(arguments: argparse.Namespace) -> Path:
    """Make what is missing, then the table and the page, whose path is returned.

    Raises:
        RECEError: an erasure cannot be made as described.
        WrongRunError: the results folder is of another run.
        MissingPackageError: a detector or a metric needs one.
        RayError: there is no Ray, no cluster, or its processes are lost again and again.
        ValueError: the pocket model does not know the concept.
    """
    from tools.evaluation.chunks import Results, check_run
    from tools.evaluation.erasures import DEFAULTS, UNEDITED, Erasure
    from tools.evaluation.metrics.chosen import measure, open_metrics
    from tools.evaluation.metrics.metric import Planned
    from tools.evaluation.page import write_all
    from tools.evaluation.subjects import columns_of, open_subject
    from tools.evaluation.summary import summarise
    from tools.evaluation.table import Told
    from tools.evaluation.work import missing_tasks

    recipe = _recipe(arguments)
    given = [Erasure.parsed(words) for words in arguments.erase]
    swept = [erasure for words in arguments.sweep for erasure in Erasure.swept(words)]
    erasures = [Erasure(UNEDITED), *(given + swept or DEFAULTS)]
    _check(arguments, [erasure.name for erasure in erasures])
    metrics = open_metrics(arguments)
    identity = _identity(arguments, erasures)
    check_run(arguments.out, identity)
    subject, columns = open_subject(arguments), columns_of(arguments)
    # What cannot be asked for is refused before pictures are made for an hour.
    planned = Planned.of(columns, subject.sets)
    for metric in metrics:
        metric.check(planned)
    for erasure in erasures:
        erasure.request(subject.concepts, subject.preserve if arguments.preserve else "")
    # From here on the folder is this run's: what was refused before leaves none that the corrected command could not use.
    results = Results(arguments.out, identity)
    tasks = missing_tasks(results, subject, erasures, arguments.chunk)
    if tasks:
        with _workers(arguments, subject) as work:
            make_missing(results, tasks, work)
    names = [erasure.name for erasure in erasures]
    found = measure(results, names, columns, metrics, _tell_of_metric)
    lines = summarise(results, names, columns, found)
    erased = subject.concepts.replace("\n", ", ")
    said = tuple(metric.says for metric in metrics)
    told = Told(f"“{erased}”, erased from {subject.name}", said)
    return write_all(results, lines, columns, recipe.told(told) if recipe else told)


def _recipe(arguments: argparse.Namespace) -> Recipe | None:
    """The recipe, whose prompt sets are there."""
    if not arguments.recipe:
        return None
    recipe = RECIPES[arguments.recipe]
    recipe.check([*arguments.prompts, *arguments.keep])
    return recipe


def _tell_of_metric(metric: str, erasure: str) -> None:
    print(f"[evaluate] {metric} of {erasure}", flush=True)


def _workers(arguments: argparse.Namespace, subject: Any) -> AbstractContextManager[Any]:
    """What does tasks: this process, or those of a Ray cluster."""
    from tools.evaluation.ray_workers import RayWorkers
    from tools.evaluation.subjects import open_subject_anywhere
    from tools.evaluation.work import Worker

    if not arguments.ray:
        return nullcontext(Worker(subject, arguments.preserve))
    return closing(RayWorkers(arguments.ray, partial(open_subject_anywhere, arguments), arguments.preserve))


def make_missing(results: Any, tasks: Sequence[Any], work: Callable[[Sequence[Any]], Iterator[Any]]) -> None:
    """Have the tasks done, and keep what comes of each."""
    from tools.evaluation.work import keep

    started = time.monotonic()

    def tell(task: Any, done: int) -> None:
        left = (time.monotonic() - started) / done * (len(tasks) - done)
        what = f"{task.erasure.name}, {task.chunk.prompts}"
        print(f"[evaluate] {what}: {done} of {len(tasks)} chunks, {left:.0f} s left", flush=True)

    keep(results, work(tasks), tell)


def _identity(arguments: argparse.Namespace, erasures: Sequence[Any]) -> dict[str, Any]:
    """What two runs must have in common for one to go on with the other."""
    from pocket_model.assemble import pocket_signature
    from tools.evaluation.subjects import attacks_of

    common = {
        "attacks": sorted(attacks_of(arguments)),
        "inversion_steps": arguments.inversion_steps,
        "count": arguments.count,
        "steps": arguments.steps,
        "chunk": arguments.chunk,
        "preserve": arguments.preserve,
        "erasures": {erasure.name: dict(erasure.settings) for erasure in erasures},
    }
    if arguments.pocket:
        own = {"model": pocket_signature(), "concept": arguments.concept}
        return {**own, "dtype": arguments.dtype, **common}
    return {
        "model": f"{arguments.checkpoint.name}, {arguments.checkpoint.stat().st_size} bytes",
        "concepts": list(arguments.concepts),
        "prompts": [path.name for path in arguments.prompts],
        "keep": [path.name for path in arguments.keep],
        # Older folders have none of the first.
        **({"category": arguments.category} if arguments.category else {}),
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
    for name in ("count", "steps", "chunk", "inversion_steps"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}: give at least 1.")
    if len({safe_name(name).lower() for name in names}) < len(names):
        raise InputError(f"Two erasures have the same name, or names that no file can tell apart: {', '.join(names)}.")


def main(given: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    allow_any_text()
    arguments = parse(given)
    make_importable(prepare_comfyui())
    import_pack()
    from rece_pack.rece_ops import RECEError

    from tools.evaluation.chunks import WrongRunError
    from tools.evaluation.ray_workers import RayError

    try:
        page = evaluate(arguments)
    except (RECEError, WrongRunError, RayError, OSError, ValueError) as error:
        print(f"[evaluate] {error}", file=sys.stderr)
        return 1
    print((page.parent / "table.md").read_text(encoding="utf-8"))
    print(f"[evaluate] {page}")
    return 0
