"""The workflow that is running, for the header of a file: ComfyUI opens it when the file is dropped on its page."""

from __future__ import annotations

import json
from typing import Any

from comfy.cli_args import args

MAX_CHARACTERS = 4 * 2**20
"""Of a workflow that is kept; the header of a file has its limits."""


def embedded_workflow(hidden: Any) -> dict[str, str]:
    """What ComfyUI's own nodes write beside what they save: the graph that was sent, and as the page shows it.

    Args:
        hidden: what the host tells a node besides its inputs; None where nobody is asked.

    Returns:
        JSON by the names that ComfyUI looks for; nothing where the server was started with --disable-metadata, or it is too long.
    """
    if args.disable_metadata or hidden is None:
        return {}
    page = hidden.extra_pnginfo if isinstance(hidden.extra_pnginfo, dict) else {}
    told = {"prompt": hidden.prompt, "workflow": page.get("workflow")}
    found = {name: json.dumps(value) for name, value in told.items() if value is not None}
    return found if sum(map(len, found.values())) <= MAX_CHARACTERS else {}
