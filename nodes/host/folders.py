"""Where files go: names that a person typed, resolved inside one of ComfyUI's model folders.

Links: model folders are often links as a whole, or hold links to files on another disk, and ComfyUI follows all of them; so does
this pack there. Only who can write to the disk can make one, and what lies behind it is checked like any file. The input folder is
for uploads: a link in it that leads out of it is neither listed nor read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import folder_paths

from ...rece_ops import InputError, Provenance
from ...rece_ops.formats.atomic import LONGEST_UNFINISHED
from ...rece_ops.texts import code_point, quoted, unseen_character

ERASERS, LORAS, PROMPT_SETS, CLASSIFIERS = "erasers", "loras", "prompt_sets", "classifiers"
MODELS = ("diffusion_models", "checkpoints")
IMPORTED_FROM = (ERASERS, *MODELS)
"""Kinds of model folders that hold what other tools made."""
TRAININGS = "rece_training"
"""In ComfyUI's output folder: trainings that were cancelled."""
SUFFIX, TABLE_SUFFIX = ".safetensors", ".csv"

_RESERVED_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_RESERVED_NAMES = {
    *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"),
    # Windows takes superscript digits for digits.
    *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³"),
}
# Of what a name is made of where none was given. A character has up to four bytes.
_MOST_NAMED, _LONGEST_WORD = 3, 12
_MAX_PART = 200
_MAX_NAME = 800
# What 'keep both' may add to a name, as in '_12345'.
_NUMBER = 6
_MAX_PATH = 259 if os.name == "nt" else 1023


def register_eraser_folder() -> None:
    """Make `models/erasers` a model folder, in addition to any that `extra_model_paths.yaml` names."""
    folder_paths.add_model_folder_path(ERASERS, str(Path(folder_paths.models_dir) / ERASERS))


def register_evaluation_folders() -> None:
    """The same with `models/prompt_sets` and `models/classifiers`."""
    for name in (PROMPT_SETS, CLASSIFIERS):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def eraser_names() -> list[str]:
    """The eraser files that can be chosen, relative to their folder; only those whose names pass `checked_name`.

    A name in a list reaches the canvas menu of the host, which takes '<img …>' for markup.
    """
    return [name for name in folder_paths.get_filename_list(ERASERS) if _can_be_chosen(name, SUFFIX)]


def existing_eraser(name: str) -> Path:
    """The path of an eraser that was chosen by name.

    Raises:
        InputError: the name leaves the folder, or there is no such file.
    """
    relative = checked_name(name)
    path = _in_model_folder(ERASERS, relative)
    if path is None:
        raise InputError(
            f"There is no eraser '{relative}' in models/{ERASERS}: choose one from the list, or save one first."
        )
    return path


def importable_names() -> list[str]:
    """The files that another tool's erasure can be read from, each with its kind of folder first; see `existing_importable`."""
    return [
        f"{kind}/{name}".replace(os.sep, "/")
        for kind in IMPORTED_FROM
        for name in folder_paths.get_filename_list(kind)
        if _can_be_chosen(name, SUFFIX)
    ]


def existing_importable(name: str) -> Path:
    """The path of a file that was chosen from `importable_names`.

    Raises:
        InputError: it names none of those folders or leaves it, or there is no such file.
    """
    kind, _, relative = name.strip().replace("\\", "/").partition("/")
    if kind not in IMPORTED_FROM:
        raise InputError(
            f"{quoted(name)} is in none of the folders models/{', models/'.join(IMPORTED_FROM)}: choose a file from the list."
        )
    checked = checked_name(relative)
    path = _in_model_folder(kind, checked)
    if path is None:
        raise InputError(
            f"There is no {quoted(checked)} in models/{kind}: put the file there (.safetensors only; a .pt or .ckpt file can "
            "run programs, and is not read), and choose it from the list."
        )
    return path


def existing_model(folder: str, name: str) -> Path:
    """The path of a model file that was chosen by name in a loader of ComfyUI's.

    Args:
        folder: `checkpoints` or `diffusion_models`.
        name: relative to it.

    Raises:
        InputError: it is in neither folder or leaves it, or there is no such .safetensors file.
    """
    if folder not in MODELS:
        raise InputError(f"{quoted(folder)} is no folder of models: give {' or '.join(MODELS)}.")
    return existing_importable(f"{folder}/{name}")


def table_names() -> list[str]:
    """The CSV files in ComfyUI's input folder that can be chosen; see `eraser_names` and `existing_table`."""
    folder = Path(folder_paths.get_input_directory())
    tables = (path for path in folder.glob(f"*{TABLE_SUFFIX}") if _can_be_chosen(path.name, TABLE_SUFFIX))
    return sorted(path.name for path in tables if _is_inside(path, folder))


def existing_table(name: str) -> Path:
    """The path of a CSV file in the input folder that was chosen by name.

    Raises:
        InputError: the name leaves the folder, there is no such file, or it is a link that leads out of the folder.
    """
    checked = checked_name(name, TABLE_SUFFIX)
    folder = Path(folder_paths.get_input_directory())
    path = folder / checked
    if path.is_file() and not _is_inside(path, folder):
        raise InputError(
            f"'{checked}' is a link that leads out of ComfyUI's input folder: put the file itself there instead."
        )
    if not path.is_file():
        raise InputError(
            f"There is no '{checked}' in ComfyUI's input folder: put it there, or choose one from the list."
        )
    return path


def prompt_set_names(suffixes: Sequence[str]) -> list[str]:
    """The files with one of those endings in `models/prompt_sets` and ComfyUI's input folder; see `existing_prompt_set`."""
    folder = Path(folder_paths.get_input_directory())
    uploaded = {path.name for path in folder.glob("*") if path.suffix in suffixes and _is_inside(path, folder)}
    kept = {name for name in folder_paths.get_filename_list(PROMPT_SETS) if Path(name).suffix in suffixes}
    return sorted(name for name in kept | uploaded if _can_be_chosen(name, Path(name).suffix))


def existing_prompt_set(name: str, suffixes: Sequence[str]) -> Path:
    """The path of a prompt set that was chosen by name; of two files of one name that in `models/prompt_sets`.

    Raises:
        InputError: the name leaves its folder or has another ending, there is no such file, or it is a link that leads out of
            the input folder.
    """
    suffix = PurePosixPath(name.strip()).suffix
    if suffix not in suffixes:
        raise InputError(f"{quoted(name)} is no prompt set: give a file that ends with {' or '.join(suffixes)}.")
    relative = checked_name(name, suffix)
    path = _in_model_folder(PROMPT_SETS, relative)
    if path is not None:
        return path
    uploads = Path(folder_paths.get_input_directory())
    if "/" in relative or not _is_inside(uploads / relative, uploads):
        raise InputError(
            f"There is no prompt set '{relative}' in models/{PROMPT_SETS} or ComfyUI's input folder: put the file itself there "
            "(a link out of the input folder is not followed), and choose it from the list."
        )
    return uploads / relative


def training_names() -> list[str]:
    """The cancelled trainings that can be gone on with, in ComfyUI's output folder; see `eraser_names`."""
    folder = _training_folder()
    paths = (path for path in folder.glob(f"*{SUFFIX}") if _can_be_chosen(path.name, SUFFIX))
    return sorted(path.name for path in paths if _is_inside(path, folder))


def existing_training(name: str) -> Path:
    """The path of a cancelled training that was chosen by name.

    Raises:
        InputError: the name leaves the folder, or there is no such file in it.
    """
    checked = checked_name(name)
    path = _training_folder() / checked
    if "/" in checked or not _is_inside(path, _training_folder()):
        raise InputError(
            f"There is no cancelled training '{checked}' in output/{TRAININGS}: choose one from the list, or 'none' to begin "
            "anew."
        )
    return path


def training_to_save(name: str) -> Path:
    """Where a training that is cancelled goes; its folder is made."""
    folder = _training_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / checked_name(name, room=_NUMBER)


def _training_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / TRAININGS


def classifier_names() -> list[str]:
    """The files of classifiers' weights that can be chosen; see `eraser_names`."""
    return [name for name in folder_paths.get_filename_list(CLASSIFIERS) if _can_be_chosen(name, SUFFIX)]


def existing_classifier(name: str) -> Path:
    """The path of a classifier's weights that were chosen by name.

    Raises:
        InputError: the name leaves the folder, or there is no such file.
    """
    relative = checked_name(name)
    path = _in_model_folder(CLASSIFIERS, relative)
    if path is None:
        raise InputError(
            f"There is no '{relative}' in models/{CLASSIFIERS}: put the weights there as a .safetensors file (a .pth file "
            "is a pickle, which can run programs, and is not read), and choose it from the list."
        )
    return path


def path_to_save(folder: str, name: str) -> Path:
    """A path in the model folder `folder` for a typed `name`, under which the file can be found again; nothing is made.

    Args:
        folder: a model folder, such as `erasers` or `loras`.
        name: file name, with or without `.safetensors`; sub-folders with `/`.

    Raises:
        InputError: the name is empty, reserved, too long, or leaves the folder.
    """
    path = Path(folder_paths.get_folder_paths(folder)[0]) / checked_name(name, room=_NUMBER)
    longest = max(len(str(path)) + _NUMBER, len(str(path.parent)) + 1 + LONGEST_UNFINISHED)
    if longest > _MAX_PATH:
        raise InputError(
            f"The path of the file '{path.name}' would be too long by {longest - _MAX_PATH} characters for this system: "
            "choose a shorter name, or fewer sub-folders."
        )
    return path


def default_name(told: Provenance) -> str:
    """A name for the file of an eraser that a person gave none: its concepts and what it was made on."""
    concepts = [_plain_word(concept) for concept in told.erased()]
    named = [concept for concept in concepts if concept]
    words = named[:_MOST_NAMED] + ([f"and_{len(named) - _MOST_NAMED}_more"] if len(named) > _MOST_NAMED else [])
    return "_".join(["no", *(words or ["concepts"]), *filter(None, [_plain_word(told.architecture or "")])])


def _plain_word(text: str) -> str:
    """`text` as a part of a file name: letters and digits of any script, and `_` for all between them."""
    return re.sub(r"[\W_]+", "_", text).strip("_")[:_LONGEST_WORD]


def shown(folder: str, path: Path) -> str:
    """`path` as a person sees it: relative to its model folder, with forward slashes."""
    root = Path(folder_paths.get_folder_paths(folder)[0])
    return path.relative_to(root).as_posix()


def checked_name(name: str, suffix: str = SUFFIX, room: int = 0) -> str:
    """A relative file name that cannot leave its folder, with `suffix`; valid on every platform.

    Args:
        name: as typed or chosen. What comes out goes in again unchanged.
        suffix: added where it is missing.
        room: bytes to leave free for what is added to the name later.

    Raises:
        InputError: the name says why it is refused.
    """
    text = name.strip().replace("\\", "/")
    if not text:
        raise InputError("The file name is empty: type a name, such as 'no_nudity'.")
    if text.startswith("/") or re.match(r"[A-Za-z]:/", text):
        raise InputError(
            f"The file name {quoted(name)} is an absolute path: type a name inside the folder, such as 'no_nudity'."
        )
    parts = PurePosixPath(text).parts
    if not parts:
        raise InputError(f"The file name {quoted(name)} names no file: type a name, such as 'no_nudity'.")
    joined = "/".join(parts)
    whole = joined if joined.endswith(suffix) else joined + suffix
    for part in whole.split("/"):
        _check_part(name, part, _MAX_PART - room)
    if len(whole.encode()) > _MAX_NAME:
        raise InputError(
            f"The file name {quoted(name, 40)} is too long: use at most {_MAX_NAME} bytes with its sub-folders."
        )
    return whole


def fingerprint(path: Path) -> str:
    """Changes when the file does, so that a node which read it runs again."""
    status = path.stat()
    return f"{status.st_mtime_ns}-{status.st_size}"


def _in_model_folder(kind: str, relative: str) -> Path | None:
    """The first file of that checked name in the model folders of a kind, of which there may be several."""
    paths = (Path(folder) / relative for folder in folder_paths.get_folder_paths(kind))
    return next((path for path in paths if path.is_file()), None)


def _can_be_chosen(name: str, suffix: str) -> bool:
    """Whether a file's name, with this platform's separators, is one that loading it by that name will find."""
    try:
        return checked_name(name, suffix) == name.replace(os.sep, "/")
    except InputError:
        return False


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is a file and stays in `folder` when links are followed; the folder itself may be a link."""
    try:
        return path.is_file() and path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):
        return False


def _check_part(name: str, part: str, most: int) -> None:
    if part in {".", ".."}:
        raise InputError(f"The file name {quoted(name)} leaves its folder ({quoted(part)}): type a name without it.")
    reserved = _RESERVED_CHARACTERS.search(part)
    if reserved:
        raise InputError(f"The file name {quoted(name)} has the reserved character {reserved.group()!r}: leave it out.")
    unseen = unseen_character(part)
    if unseen is not None:
        raise InputError(
            f"The file name {name[:40]!a} holds the character {code_point(unseen)}, which nobody can see: leave it out."
        )
    # Windows does not see a blank before the dot.
    if part.split(".")[0].rstrip(" ").upper() in _RESERVED_NAMES:
        raise InputError(
            f"The file name {quoted(name)} holds {quoted(part)}, a name reserved by Windows: choose another."
        )
    if part.startswith(".") or part.endswith((".", " ")):
        raise InputError(
            f"The file name {quoted(name)} holds {quoted(part)}, which starts or ends with a dot or a space: rename it."
        )
    if len(part.encode()) > most:
        raise InputError(
            f"The file name {quoted(name, 40)} is too long: use at most {most} bytes, with '.safetensors'."
        )
