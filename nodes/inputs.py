"""Inputs that several nodes have."""

from __future__ import annotations

from comfy_api.latest import io


def model_input() -> io.Input:
    """The MODEL of a node that gives it back erased."""
    return io.Model.Input("model", tooltip="The model to erase from. It is not changed; the output is a patched clone.")


def strength_input(name: str, tooltip: str, optional: bool = False) -> io.Input:
    """How much of an erasure: 0 is none of it, 1 all of it, and up to 2 goes beyond."""
    return io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.01, optional=optional, tooltip=tooltip)
