"""Where files go: names that a person typed, resolved inside one of ComfyUI's model folders."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import folder_paths

from ...rece_ops import InputError

ERASERS = "erasers"
SUFFIX, TABLE_SUFFIX = ".safetensors", ".csv"

_RESERVED_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_RESERVED_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}
_MAX_PART = 200


def register_eraser_folder() -> None:
    """Make `models/erasers` a model folder, beside any that `extra_model_paths.yaml` names."""
    folder_paths.add_model_folder_path(ERASERS, str(Path(folder_paths.models_dir) / ERASERS))


def eraser_names() -> list[str]:
    """The eraser files that can be chosen, relative to their folder."""
    return [name for name in folder_paths.get_filename_list(ERASERS) if name.endswith(SUFFIX)]


def existing_eraser(name: str) -> Path:
    """The path of an eraser that was chosen by name.

    Raises:
        InputError: the name leaves the folder, or there is no such file.
    """
    relative = checked_name(name)
    for folder in folder_paths.get_folder_paths(ERASERS):
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise InputError(
        f"There is no eraser '{relative}' in models/{ERASERS}: choose one from the list, or save one first."
    )


def table_names() -> list[str]:
    """The CSV files in ComfyUI's input folder that can be chosen."""
    folder = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in folder.glob(f"*{TABLE_SUFFIX}") if path.is_file())


def existing_table(name: str) -> Path:
    """The path of a CSV file in the input folder that was chosen by name.

    Raises:
        InputError: the name leaves the folder, or there is no such file.
    """
    checked = checked_name(name, TABLE_SUFFIX)
    path = Path(folder_paths.get_input_directory()) / checked
    if not path.is_file():
        raise InputError(
            f"There is no '{checked}' in ComfyUI's input folder: put it there, or choose one from the list."
        )
    return path


def path_to_save(folder: str, name: str, replace: bool) -> Path:
    """A path in the model folder `folder` for a typed `name`; its sub-folders are made.

    Args:
        folder: a model folder, such as `erasers` or `loras`.
        name: file name, with or without `.safetensors`; sub-folders with `/`.
        replace: whether to take the place of an existing file; otherwise a number is added.

    Raises:
        InputError: the name is empty, reserved, or leaves the folder.
    """
    relative = checked_name(name)
    path = Path(folder_paths.get_folder_paths(folder)[0]) / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    if not replace:
        stem, number = path.stem, 2
        while path.exists():
            path = path.with_name(f"{stem}_{number}{SUFFIX}")
            number += 1
    return path


def shown(folder: str, path: Path) -> str:
    """`path` as a person sees it: relative to its model folder, with forward slashes."""
    root = Path(folder_paths.get_folder_paths(folder)[0])
    return path.relative_to(root).as_posix()


def checked_name(name: str, suffix: str = SUFFIX) -> str:
    """A relative file name that cannot leave its folder, with `suffix`; valid on every platform.

    Raises:
        InputError: the name says why it is refused.
    """
    text = name.strip().replace("\\", "/")
    if not text:
        raise InputError("The file name is empty: type a name, such as 'no_nudity'.")
    if text.startswith("/") or re.match(r"[A-Za-z]:/", text):
        raise InputError(
            f"The file name '{name}' is an absolute path: type a name inside the folder, such as 'no_nudity'."
        )
    parts = PurePosixPath(text).parts
    for part in parts:
        _check_part(name, part)
    joined = "/".join(parts)
    return joined if joined.endswith(suffix) else joined + suffix


def _check_part(name: str, part: str) -> None:
    if part in {".", ".."}:
        raise InputError(f"The file name '{name}' leaves its folder ('{part}'): type a name without it.")
    reserved = _RESERVED_CHARACTERS.search(part)
    if reserved:
        raise InputError(f"The file name '{name}' has the reserved character {reserved.group()!r}: leave it out.")
    if part.split(".")[0].upper() in _RESERVED_NAMES:
        raise InputError(f"The file name '{name}' holds '{part}', a name reserved by Windows: choose another.")
    if part.startswith(".") or part.endswith((".", " ")):
        raise InputError(
            f"The file name '{name}' holds '{part}', which starts or ends with a dot or a space: rename it."
        )
    if len(part.encode()) > _MAX_PART:
        raise InputError(f"The file name '{name[:40]}…' is too long: use at most {_MAX_PART} bytes.")
