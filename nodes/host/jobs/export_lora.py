"""An ERASER as a LoRA file with the key names that ComfyUI, A1111/Forge and diffusers all read."""

from __future__ import annotations

import comfy.utils
import torch
from torch import Tensor

from ....rece_ops import EraserSet, lora_factors
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.settings import check_strength
from ....rece_ops.texts import quoted
from ..architectures.detection import PREFIX, SUFFIX, Architecture
from ..errors import NotFiniteError, UnsupportedModelError
from ..progress import JobProgress
from ..protocols import Model
from ..session import Session


def lora_names(model: Model, architecture: Architecture) -> dict[str, str]:
    """LoRA key without suffix by state-dict key: `lora_unet_` and the layer's path, dots to underscores.

    The path is that of diffusers for Stable Diffusion; for everything else it is the model's own, as kohya's trainers
    write and ComfyUI reads it.

    Raises:
        UnsupportedModelError: a projection has no diffusers name.
    """
    keys = [key for stream in architecture.streams for key in stream.keys]
    if architecture.family.unet:
        diffusers = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        # The host maps two of diffusers' names to one layer, in no order; SDXL's is an 'add_embedding'.
        by_key = {PREFIX + key: name for name, key in diffusers.items() if not name.startswith("class_embedding.")}
    else:
        by_key = {key: key.removeprefix(PREFIX) for key in keys}
    for key in keys:
        if key not in by_key:
            raise UnsupportedModelError(
                f"The projection {quoted(key)} of this {architecture.name} model has no name in the LoRA conventions: "
                "save the eraser or the checkpoint instead."
            )
    return {key: "lora_unet_" + by_key[key].removesuffix(SUFFIX).replace(".", "_") for key in keys}


def lora_tensors(
    session: Session,
    eraser: EraserSet,
    strength: float,
    max_rank: int,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The LoRA W → W + s·W·(T − I) of MODEL as it stands, `alpha` equal to the rank of each projection.

    Args:
        session: the MODEL without the erasure.
        eraser: made for its architecture.
        strength: s, baked in.
        max_rank: 0 keeps every direction.
        dtype: of the saved factors.

    Raises:
        InputError: the strength is not finite.
        NotFiniteError: a factor does not fit `dtype`.
        UnsupportedModelError, WrongConnectionError: see `Session.streams_of` and `lora_names`.
    """
    check_strength(strength)
    streams = session.streams_of(eraser)
    names = lora_names(session.model, session.architecture)
    progress = JobProgress(export=1)
    tensors: dict[str, Tensor] = {}
    for turn, stream in enumerate(streams):
        weights = session.weights(stream)
        scaled = eraser[stream.name].scaled(strength).to(weights.device)
        done = progress.part("export", turn, len(streams))
        for number, key in enumerate(stream.keys, start=1):
            up, down = lora_factors(weights[key], scaled, max_rank)
            tensors[f"{names[key]}.lora_up.weight"] = _rounded(up, dtype, key)
            tensors[f"{names[key]}.lora_down.weight"] = _rounded(_all_columns(down, session.model, key), dtype, key)
            tensors[f"{names[key]}.alpha"] = torch.tensor(float(down.shape[0]))
            done(number, len(stream.keys), "factoring weights")
    return tensors


def _rounded(factor: Tensor, dtype: torch.dtype, key: str) -> Tensor:
    """`factor` in another dtype; raises NotFiniteError where that cannot hold it."""
    found = factor.to(dtype)
    if not is_finite(found):
        raise NotFiniteError(
            f"dtype is {str(dtype).removeprefix('torch.')}, which ends at {torch.finfo(dtype).max:.3g}, but the change of "
            f"'{key}' has a factor of up to {float(factor.abs().max()):.3g}: choose float32 or bfloat16, or lower 'strength'."
        )
    return found


def _all_columns(down: Tensor, model: Model, key: str) -> Tensor:
    """`down` [r, d] with zeros for the columns of the projection that do not read the text."""
    columns = comfy.utils.get_attr(model.model, key).shape[1]
    return torch.nn.functional.pad(down, (0, columns - down.shape[1]))


def lora_metadata(architecture: Architecture, eraser: EraserSet) -> dict[str, str]:
    """What A1111/Forge read to tell the base model, and the erasure's provenance."""
    metadata = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "rece_provenance": eraser.provenance.as_json(),
    }
    if architecture.family.base_version:
        metadata["ss_base_model_version"] = architecture.family.base_version
    if architecture.name == "SD2":
        metadata["ss_v2"] = "True"
    return metadata
