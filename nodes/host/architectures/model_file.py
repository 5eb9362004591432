"""What the file of a model is, by its header alone: none of its numbers is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_detection
import torch
from torch import Tensor

from ....rece_ops.formats.checkpoint_file import DTYPES, open_checkpoint
from ....rece_ops.formats.tensor_file import Entry
from ..errors import UnsupportedModelError
from .detection import PREFIX, Base, dimension_of, family_of, readers_among
from .table import Family


def base_of_file(path: Path) -> Base | None:
    """The architecture of a checkpoint or a diffusion model, and the dimension of each of its text streams.

    Args:
        path: of a .safetensors file as ComfyUI's own loaders take it.

    Returns:
        None where ComfyUI does not know it by its names and shapes, or this pack cannot erase from it. Without dimensions where
        layers that read the text are stored packed or under other names, so that their shapes do not say how large a token is.

    Raises:
        InputError: it is no .safetensors file.
        EraserFileError: it is a damaged one.
        OSError: it cannot be read.
    """
    with open_checkpoint(path) as file:
        entries, metadata = file.entries, dict(file.metadata)
    prefix = comfy.model_detection.unet_prefix_from_state_dict(entries)
    if not any(key.startswith(prefix) for key in entries):
        prefix = ""
    try:
        tensors = _placeholders(entries)
        config = comfy.model_detection.model_config_from_unet(tensors, prefix, metadata=metadata)
        family = family_of(type(config).__name__)
    # The host's detection takes for granted what belongs together in a real file, and a header may say anything.
    except (UnsupportedModelError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError):
        return None
    network = {PREFIX + key[len(prefix) :]: entry for key, entry in entries.items() if key.startswith(prefix)}
    return Base(family.name, _dimensions(family, config.unet_config, network))


def _placeholders(entries: Mapping[str, Entry]) -> dict[str, Tensor]:
    """Tensors of the shapes that a header tells of; each is a single zero in memory."""
    zero = torch.zeros(())
    return {key: zero.expand(entry.shape) for key, entry in entries.items()}


def _dimensions(family: Family, configuration: Mapping[str, Any], network: Mapping[str, Entry]) -> dict[str, int]:
    """How large a token of each text stream is; nothing where that is not known of all of them."""
    found = {}
    for row in family.streams_of(configuration):
        read = readers_among(row, network)
        if row.pooled and not read:
            continue  # some models do without
        if not read or any(network[key].dtype not in DTYPES for key in read):
            return {}
        found[row.name] = dimension_of(row, configuration, [network[key].shape for key in read])
    return found
