"""Erases concepts from a model on the disk, without a server and without loading the model.

    python -m tools.erase --checkpoint in.safetensors --concepts "nudity" --out out.safetensors
    python -m tools.erase --checkpoint FOLDER --concepts "Van Gogh -> art" --preset "artistic style" --out NEW_FOLDER
    python -m tools.erase --checkpoint in.safetensors --eraser no_nudity.safetensors --out out.safetensors

The same job as the node Erase Concepts. The text encoders are loaded; of everything else there is one tensor in memory at
a time. A folder is a diffusers model (unet or transformer, and its text encoders). To be run by the host's interpreter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tools.console import allow_any_text
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack

SHOWN_SECONDS = 1.0


@dataclass(frozen=True)
class Source:
    """The model to erase from: its session, and the open files that hold its weights, by their path below a folder."""

    session: Any
    files: dict[str, Any]
    folder: bool


class Told:
    """Progress with the time left, at most once a second."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()

    def __call__(self, done: int, total: int, stage: str = "") -> None:
        """See `rece_ops.progress`."""
        now = time.monotonic()
        if done < total and now - self._last < SHOWN_SECONDS:
            return
        self._last = now
        left = (now - self._begun) * (total - done) / max(done, 1)
        print(f"[erase] {stage}: {done} of {total}, {left:.0f} s left", flush=True)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--checkpoint", type=Path, required=True, help="a .safetensors file, or a diffusers folder")
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--concepts", nargs="+", metavar="LINE", help="concept lines, as in the node")
    what.add_argument("--eraser", type=Path, help="an eraser file that was made before")
    found.add_argument("--preset", default="nudity", help="as in the node; 'custom' reads --set")
    found.add_argument("--preserve", nargs="*", default=[], metavar="PROMPT", help="prompts that stay as they are")
    found.add_argument(
        "--examples", type=Path, metavar="FILE", help="a prompt set with the first concept, for the projection"
    )
    found.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other inputs of the node")
    found.add_argument("--strength", type=float, default=1.0, help="how much of the erasure is written")
    found.add_argument(
        "--text-encoders", type=Path, nargs="+", default=[], metavar="FILE", help="where the checkpoint has none"
    )
    found.add_argument("--out", type=Path, help="the erased model")
    found.add_argument("--lora", type=Path, help="the erasure as a LoRA for this model")
    found.add_argument("--save-eraser", type=Path, help="the ERASER, for other models of the architecture")
    found.add_argument("--replace", action="store_true", help="write over files that are there")
    return found


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> str:
    """Erase and write; returns the report.

    Raises:
        RECEError: something that was given does not work; the message says what, and what to do.
    """
    from rece_pack.nodes.reporting.sentences import erasure_report
    from rece_pack.rece_ops import EraserSet

    _check_outputs(arguments)
    with _opened(arguments) as source:
        if arguments.eraser is not None:
            eraser, report = EraserSet.load(arguments.eraser), ""
        else:
            from rece_pack.nodes.host.jobs.erase import erase_concepts

            request = _request(arguments)
            result = erase_concepts(source.session, request)
            eraser, report = result.eraser, erasure_report(request, result, arguments.strength)
        return "\n".join([*([report] if report else []), *_written(arguments, source, eraser)])


def _written(arguments: argparse.Namespace, source: Source, eraser: Any) -> Iterator[str]:
    from rece_pack.nodes.host.jobs.rewrite import rewrite_file, rewrite_folder

    told = Told()
    if arguments.save_eraser is not None:
        yield f"Wrote the eraser {eraser.save(arguments.save_eraser)}."
    if arguments.lora is not None:
        from rece_pack.nodes.host.jobs.export_lora import lora_metadata, lora_tensors
        from rece_pack.rece_ops.formats.atomic import save_atomically

        tensors = lora_tensors(source.session, eraser, arguments.strength, 0, torch.float32)
        metadata = lora_metadata(source.session.architecture, eraser)
        yield f"Wrote the LoRA {save_atomically(arguments.lora, tensors, metadata)}."
    if arguments.out is not None:
        if source.folder:
            folder = arguments.checkpoint
            changed = rewrite_folder(
                source.session, folder, source.files, arguments.out, eraser, arguments.strength, told
            )
        else:
            (file,) = source.files.values()
            changed = rewrite_file(source.session, file, arguments.out, eraser, arguments.strength, told)
        yield f"Wrote {arguments.out}: {changed} tensors changed, all others are copies."


def _request(arguments: argparse.Namespace) -> Any:
    from rece_pack.nodes.request.erase_inputs import given_inputs
    from rece_pack.nodes.request.erasure_request import request_of
    from rece_pack.nodes.request.prompt_sets import read_prompt_set

    inputs = {"preset": arguments.preset, "preserve": "\n".join(arguments.preserve), **given_inputs(arguments.set)}
    if arguments.examples is not None:
        inputs["examples"] = read_prompt_set(arguments.examples).examples
    return request_of("\n".join(arguments.concepts), inputs)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Source]:
    from rece_pack.nodes.host.stored.checkpoint import checkpoint_session
    from rece_pack.nodes.host.stored.diffusers import folder_session, open_folder
    from rece_pack.rece_ops.formats.checkpoint_file import open_checkpoint

    path: Path = arguments.checkpoint
    if path.is_dir():
        with open_folder(path) as files:
            yield Source(folder_session(path, files, _clip_of_folder(arguments)), files, folder=True)
        return
    with open_checkpoint(path) as file:
        alone = checkpoint_session(file, None)
        clip = _clip_of_file(arguments, alone.architecture.name)
        yield Source(checkpoint_session(file, clip) if clip is not None else alone, {path.name: file}, folder=False)


def _clip_of_folder(arguments: argparse.Namespace) -> Any:
    from rece_pack.nodes.host.stored.diffusers import family_of, text_encoder_files
    from rece_pack.nodes.host.stored.text_encoders import text_encoders_of_files

    if arguments.eraser is not None:
        return None
    files = [[file] for file in arguments.text_encoders] or text_encoder_files(arguments.checkpoint)
    return text_encoders_of_files(files, family_of(arguments.checkpoint)) if files else None


def _clip_of_file(arguments: argparse.Namespace, architecture: str) -> Any:
    from rece_pack.nodes.host.stored.text_encoders import text_encoders_of_checkpoint, text_encoders_of_files
    from rece_pack.rece_ops import InputError

    if arguments.eraser is not None:
        return None
    if arguments.text_encoders:
        return text_encoders_of_files([[file] for file in arguments.text_encoders], architecture)
    found = text_encoders_of_checkpoint(arguments.checkpoint)
    if found is None:
        raise InputError(
            f"'{arguments.checkpoint.name}' holds no text encoder: give those of {architecture} with --text-encoders."
        )
    return found


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Before any work: there is something to write, and nothing to lose."""
    from rece_pack.rece_ops import InputError

    outputs = {"--out": arguments.out, "--lora": arguments.lora, "--save-eraser": arguments.save_eraser}
    given = {name: path for name, path in outputs.items() if path is not None}
    if not given:
        raise InputError("Nothing is to be written: give --out, --lora or --save-eraser.")
    if not arguments.checkpoint.exists():
        raise InputError(f"There is no '{arguments.checkpoint}': give a .safetensors file or a diffusers folder.")
    if arguments.lora is not None and arguments.checkpoint.is_dir():
        raise InputError(
            "--lora needs a single-file checkpoint: a LoRA's names follow ComfyUI's, not those of a folder."
        )
    for name, path in given.items():
        if path.resolve() == arguments.checkpoint.resolve():
            raise InputError(f"{name} is the model itself: give another name, the original is never written over.")
        if path.exists() and (not arguments.replace or path.is_dir()):
            raise InputError(f"{name}: there is a '{path}' already. Give another name, or --replace for a file.")
        if not path.resolve().parent.is_dir():
            raise InputError(f"{name}: there is no folder '{path.resolve().parent}'. Make it first.")


def main(given: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    allow_any_text()
    arguments = parser().parse_args(given)
    make_importable(prepare_comfyui())
    import_pack()
    from rece_pack.rece_ops import RECEError

    try:
        print(run(arguments))
    except (RECEError, OSError) as error:
        print(f"[erase] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
