"""The text encoders of a model on the disk, loaded by ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils

from ....rece_ops import InputError
from ....rece_ops.formats.checkpoint_file import open_checkpoint
from ....rece_ops.texts import quoted
from ..protocols import Clip

# Names of ComfyUI's CLIPType by the architecture; the rest load as Stable Diffusion's.
_KINDS = {
    "SD3": "SD3",
    "Flux": "FLUX",
    "HunyuanDiT": "HUNYUAN_DIT",
    "PixArt": "PIXART",
    "Mochi": "MOCHI",
    "LTX-Video": "LTXV",
    "Hunyuan Video": "HUNYUAN_VIDEO",
    "Lumina 2": "LUMINA2",
    "Wan": "WAN",
    "HiDream": "HIDREAM",
    "Chroma": "CHROMA",
    "Cosmos": "COSMOS",
    "Qwen-Image": "QWEN_IMAGE",
    "Omnigen2": "OMNIGEN2",
    "Stable Cascade": "STABLE_CASCADE",
}


def text_encoders_of_checkpoint(path: Path) -> Clip | None:
    """The CLIP in a checkpoint; None where it has none."""
    clip: Clip | None = comfy.sd.load_checkpoint_guess_config(
        str(path), output_vae=False, output_clip=True, output_model=False
    )[1]
    return clip


def text_encoders_of_files(files: Sequence[Sequence[Path]], architecture: str) -> Clip:
    """One CLIP of text encoders in files, each in one file or several.

    Raises:
        InputError: a file is no safetensors file, or ComfyUI does not know the text encoders.
    """
    loaded: list[dict[str, Any]] = []
    for parts in files:
        merged: dict[str, Any] = {}
        for path in parts:
            with open_checkpoint(path):
                merged.update(comfy.utils.load_torch_file(str(path), safe_load=True))
        loaded.append(merged)
    kind = getattr(comfy.sd.CLIPType, _KINDS.get(architecture, "STABLE_DIFFUSION"), comfy.sd.CLIPType.STABLE_DIFFUSION)
    try:
        clip: Clip = comfy.sd.load_text_encoder_state_dicts(loaded, clip_type=kind)
    except (KeyError, RuntimeError, TypeError, IndexError) as error:
        listed = ", ".join(quoted(path.name) for parts in files for path in parts)
        raise InputError(
            f"ComfyUI cannot load {listed} as the text encoders of {architecture} ({error!r:.200})."
        ) from None
    return clip
