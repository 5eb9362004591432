"""An ERASER as a LoRA file with the key names that ComfyUI, A1111/Forge and diffusers all read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import comfy.utils
import torch
from torch import Tensor

from ....rece_ops import EraserSet, LowRank, lora_factors
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.settings import check_strength
from ..architectures.detection import PREFIX, SUFFIX, Architecture
from ..architectures.places import check_no_schedule
from ..errors import NotFiniteError, UnsupportedModelError
from ..progress import JobProgress
from ..protocols import Model
from ..session import Session


def lora_names(model: Model, architecture: Architecture, keys: Iterable[str]) -> dict[str, str]:
    """LoRA key without suffix by state-dict key: `lora_unet_` and the layer's path, dots to underscores.

    The path is that of diffusers for Stable Diffusion; for everything else it is the model's own, as kohya's trainers
    write and ComfyUI reads it.

    Raises:
        UnsupportedModelError: a weight has no diffusers name.
    """
    if architecture.family.unet:
        diffusers = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        # The host maps two of diffusers' names to one layer, in no order; SDXL's is an 'add_embedding'.
        by_key = {PREFIX + key: name for name, key in diffusers.items() if not name.startswith("class_embedding.")}
    else:
        by_key = {key: key.removeprefix(PREFIX) for key in keys}
    for key in keys:
        if key not in by_key:
            raise UnsupportedModelError(
                f"The weight '{key}' of this {architecture.name} model has no name in the LoRA conventions: "
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
    """The LoRA W → W + s·W·(T − I) + s·ΔW of MODEL as it stands, `alpha` equal to the rank of each weight's change.

    Args:
        session: the MODEL without the erasure.
        eraser: made for its architecture.
        strength: s, baked in.
        max_rank: of the text transforms; 0 keeps every direction.
        dtype: of the saved factors.

    Raises:
        InputError: the strength is not finite.
        NotFiniteError: a factor does not fit `dtype`.
        UnsupportedModelError: the eraser has adapters, changes single numbers or counts only in part of the steps, or see
            `lora_names`.
        WrongConnectionError: see `Session.streams_of` and `Session.strengths_of`.
    """
    check_strength(strength)
    check_no_schedule(eraser, "A LoRA")
    if eraser.sparse_changes:
        raise UnsupportedModelError(
            "This ERASER prunes single numbers of weights, scattered over all rows, which no LoRA of low rank can hold: save it "
            "with 'Save Eraser', or save the erased model with 'CheckpointSave'."
        )
    if eraser.adapters:
        raise UnsupportedModelError(
            "This ERASER has adapters after the cross-attentions, small networks that are not linear, which no LoRA can hold: save "
            "it with 'Save Eraser'."
        )
    strengths = session.strengths_of(eraser)
    found = _of_transforms(session, eraser, strength, strengths, max_rank)
    for change in eraser.weight_changes.values():
        for key, (up, down) in change.scaled(strength).changes.items():
            if strengths[key] != 0:
                found.setdefault(key, []).append(LowRank(up.cpu().float() * strengths[key], down.cpu().float()))
    names = lora_names(session.model, session.architecture, tuple(found))
    tensors: dict[str, Tensor] = {}
    for key, parts in found.items():
        up, down = (torch.cat(side, dim) for side, dim in zip(zip(*parts, strict=True), (1, 0), strict=True))
        up, down = _shaped(up, down, comfy.utils.get_attr(session.model.model, key).shape)
        tensors[f"{names[key]}.lora_up.weight"] = _rounded(up, dtype, key)
        tensors[f"{names[key]}.lora_down.weight"] = _rounded(down, dtype, key)
        tensors[f"{names[key]}.alpha"] = torch.tensor(float(down.shape[0]))
    return tensors


def _of_transforms(
    session: Session, eraser: EraserSet, strength: float, strengths: Mapping[str, float], max_rank: int
) -> dict[str, list[LowRank]]:
    """W·(T − I) of every key and value weight, in float32 on the CPU."""
    streams = session.streams_of(eraser)
    progress = JobProgress(export=1)
    found: dict[str, list[LowRank]] = {}
    for turn, stream in enumerate(streams):
        weights = session.weights(stream)
        scaled = eraser.transforms[stream.name].scaled(strength).to(weights.device)
        done = progress.part("export", turn, len(streams))
        changed = [key for key in stream.keys if strengths.get(key, 0.0) != 0]
        for number, key in enumerate(changed, start=1):
            up, down = lora_factors(weights[key], scaled, max_rank)
            found[key] = [LowRank(up * strengths[key], _all_columns(down, session.model, key))]
            done(number, len(changed), "factoring weights")
    return found


def _shaped(up: Tensor, down: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The factors as LoRA files have them: those of a convolution have its kernel in `down`."""
    if len(shape) == 2:
        return up, down
    return up.reshape(*up.shape, *[1] * (len(shape) - 2)), down.reshape(-1, *shape[1:])


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
    """`down` [r, d] with zeros for the columns of the weight that do not read the text."""
    columns = comfy.utils.get_attr(model.model, key).shape[1]
    return torch.nn.functional.pad(down, (0, columns - down.shape[1]))


def lora_metadata(architecture: Architecture, eraser: EraserSet) -> dict[str, str]:
    """What A1111/Forge read to tell the base model, and the erasure's provenance."""
    metadata = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "rece_provenance": eraser.provenance_as_applied().as_json(),
    }
    if architecture.family.base_version:
        metadata["ss_base_model_version"] = architecture.family.base_version
    if architecture.name == "SD2":
        metadata["ss_v2"] = "True"
    return metadata
