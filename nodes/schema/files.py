"""What the nodes that write a file have in common."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..host.folders import shown
from ..host.log import tell
from ..request.choices import check_choice

KEEP_BOTH, REPLACE = "keep both", "replace"
NO_FILE = "none"
"""The choice of no file, in lists of files that are optional."""


def file_name_input() -> io.Input:
    """The name of the file, or nothing for a name after the concepts."""
    return io.String.Input(
        "file_name",
        default="",
        placeholder="named after the concepts",
        tooltip="The name of the file; '/' makes sub-folders. '.safetensors' is added. Empty: named after the concepts.",
    )


def if_exists_input() -> io.Input:
    """What becomes of a file that has the name already."""
    return io.Combo.Input(
        "if_exists",
        options=[KEEP_BOTH, REPLACE],
        default=KEEP_BOTH,
        tooltip="If there is a file of that name: add a number to the new name, or replace the old file.",
    )


def keeps_both(if_exists: str) -> bool:
    """Whether an old file stays; raises InputError where there is no such choice."""
    check_choice("if_exists", if_exists, (KEEP_BOTH, REPLACE))
    return if_exists == KEEP_BOTH


def saved_file(folder: str, path: Path) -> io.NodeOutput:
    """The name by which the file at `path` in a model folder can be chosen, and a sentence."""
    name = shown(folder, path)
    report = f"Saved models/{folder}/{name} ({_size(path.stat().st_size)})."
    tell(report)
    return io.NodeOutput(name, ui=ui.PreviewText(report))


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
