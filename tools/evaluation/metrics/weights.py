"""Weights of a metric's network, from a person's own file: numbers, and nothing that could run."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

_MAX_BYTES = 2**30


def read_weights(path: Path | None, option: str, network: str, published: str) -> dict[str, Tensor]:
    """Tensors by name.

    A .safetensors file, or PyTorch's .pth, as most of these networks are published. That is a pickle; it is read with
    `weights_only`, which takes tensors and plain containers and refuses whatever else could be in it.

    Args:
        path: None where a person gave none.
        option: of the command line.
        network: what the weights are of.
        published: where the file is to be had.

    Raises:
        InputError: it is not given, not there, too large, or holds something else.
    """
    from rece_pack.rece_ops import InputError
    from rece_pack.rece_ops.texts import printable
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path is None or not path.is_file():
        given = f"{option} names '{path}', which is no file" if path is not None else f"{option} is not given"
        raise InputError(
            f"{given}: it is the file with the weights of {network}. Download it from {published}, keep it anywhere, and give "
            "its path. Nothing is downloaded here."
        )
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"'{path.name}' is larger than {_MAX_BYTES >> 30} GiB, so it is not {network}.")
    try:
        # weights_only: the file is foreign.
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise InputError(
            f"'{path.name}' cannot be read as weights of {network} ({printable(str(error), 120)}): take the file from {published}."
        ) from None
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise InputError(f"'{path.name}' holds no table of weights of {network}: take the file from {published}.")
    return {str(name): tensor for name, tensor in found.items()}


def identity(path: Path) -> list[str | int]:
    """What numbers that were found with these weights depend on."""
    return [path.name, path.stat().st_size]
