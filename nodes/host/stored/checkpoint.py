"""A single-file checkpoint or diffusion model, recognised by ComfyUI from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor

from ....rece_ops.formats.checkpoint_file import CheckpointFile
from ....rece_ops.texts import quoted
from ..architectures.detection import PREFIX, architecture_of
from ..errors import UnsupportedModelError
from ..protocols import Clip
from .model import StoredSession, StoredTensor

# ComfyUI looks at the values of a few small tensors; all others stand there by their shapes alone.
_SMALL = 1 << 16
_QUANTISED = ("comfy_quant", "weight_scale", "weight.quant_state", "weight.absmax")


def checkpoint_session(file: CheckpointFile, clip: Clip | None) -> StoredSession:
    """The model in a checkpoint.

    Args:
        file: open for as long as the session is used.
        clip: its text encoders; None where no prompt is read.

    Raises:
        UnsupportedModelError: ComfyUI does not know it, this pack cannot erase from it, or it is quantised.
    """
    for key in file.entries:
        if key.endswith(_QUANTISED):
            raise UnsupportedModelError(
                f"{quoted(file.name)} is quantised ({quoted(key)}): no weight in it can be changed exactly. Erase from the same "
                "model in half precision or fp8, or save the ERASER and put it on this one with 'Apply Eraser'."
            )
    outline = {key: _outline(file, key) for key in file.entries}
    prefix = comfy.model_detection.unet_prefix_from_state_dict(outline)
    if not any(key.startswith(prefix) for key in outline):
        prefix = ""  # a diffusion model without anything else
    model = _without_weights(outline, prefix, file)
    tensors = {
        f"{PREFIX}{key.removeprefix(prefix)}": StoredTensor(file, key) for key in file.entries if key.startswith(prefix)
    }
    return StoredSession(model, architecture_of(model), clip, tensors=tensors)


def _outline(file: CheckpointFile, key: str) -> Tensor:
    """A tensor as it is where it is small, else one of its shape and dtype that holds nothing."""
    entry = file.entries[key]
    dtype = _HEADER_DTYPES.get(entry.dtype, torch.uint8)
    if entry.is_float and entry.end - entry.start <= _SMALL:
        return file.read(key)
    return torch.empty(entry.shape, dtype=dtype, device="meta")


_HEADER_DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
}


def _without_weights(outline: dict[str, Tensor], prefix: str, file: CheckpointFile) -> Any:
    """A MODEL of the architecture that ComfyUI recognises, whose weights have shapes and no numbers."""
    configuration = comfy.model_detection.model_config_from_unet(outline, prefix, metadata=dict(file.metadata))
    if configuration is None:
        raise UnsupportedModelError(
            f"ComfyUI does not recognise the model in {quoted(file.name)}: give a checkpoint or diffusion model that its loaders "
            "read, or the folder of a diffusers model."
        )
    configuration.set_inference_dtype(torch.float32, None)
    model = configuration.get_model(outline, prefix, device=torch.device("meta"))
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
