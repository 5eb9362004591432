"""The socket type that carries an ERASER (an `EraserSet`) between nodes."""

from __future__ import annotations

from comfy_api.latest import io

Eraser = io.Custom("ERASER")

CATEGORY = "RECE concept erasure"
