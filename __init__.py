"""Concept erasure for ComfyUI (RECE): erase concepts from a loaded MODEL in closed form."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """ComfyUI's entry point; imported late, so that this package also imports without ComfyUI."""
    from .nodes.extension import RECEExtension

    return RECEExtension()
