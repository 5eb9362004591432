"""The socket type that carries an ERASER (an `EraserSet`) between nodes."""

from __future__ import annotations

from comfy_api.latest import io

Eraser = io.Custom("ERASER")

_CATEGORY = "RECE concept erasure"
ERASE, FILES, TEST = (f"{_CATEGORY}/{name}" for name in ("erase", "files", "test"))
"""Where the nodes are listed."""
