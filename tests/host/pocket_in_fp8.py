"""The pocket model's UNet with weights of eight bits, which no training takes."""

from __future__ import annotations

from typing import Any

import comfy.sd
import comfy.utils
import torch

from pocket_model.assemble import pocket_checkpoint

_PREFIX = "model.diffusion_model."


def pocket_in_fp8() -> Any:
    """A MODEL of its own."""
    whole = comfy.utils.load_torch_file(str(pocket_checkpoint()))
    unet = {key.removeprefix(_PREFIX): value for key, value in whole.items() if key.startswith(_PREFIX)}
    with torch.inference_mode(False):
        return comfy.sd.load_diffusion_model_state_dict(unet, model_options={"dtype": torch.float8_e4m3fn})
