"""How long does a step of Train Eraser take on models of full size, and how much of a graphics card's memory?

    python -m benchmarks.training_time --sizes SD1 SDXL [--side 512] [--steps 5] [--rank 32] [--low-memory]

Random weights of the sizes of Stable Diffusion 1.5 and XL: what a step costs does not depend on what a model knows. The defaults of the
node, but for the pictures, of which a few are made; a shorter training before warms up. Prints seconds a step and the peak of memory.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import torch

from benchmarks.erased_models import machine
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack
from tools.random_weights import CLIP_L, SDXL_CLIP_G, SDXL_CLIP_L
from tools.tiny_checkpoints import SDXL_COMMON, Kind, unet_checkpoint

SIZES = {
    "SD1": Kind(
        {
            "model_channels": 320,
            "channel_mult": [1, 2, 4, 4],
            "num_res_blocks": [2, 2, 2, 2],
            "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
            "transformer_depth_middle": 1,
            "transformer_depth_output": [1] * 9 + [0] * 3,
            "context_dim": 768,
            "num_heads": 8,
            "use_linear_in_transformer": False,
        },
        (CLIP_L,),
        0.18215,
    ),
    "SDXL": Kind(
        {
            "model_channels": 320,
            "channel_mult": [1, 2, 4],
            "num_res_blocks": [2, 2, 2],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_middle": 10,
            "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3,
            "context_dim": 2048,
            "adm_in_channels": 2816,
            **SDXL_COMMON,
        },
        (SDXL_CLIP_L, SDXL_CLIP_G),
        0.13025,
    ),
}
"""The configurations that ComfyUI detects in the published checkpoints."""
_WARM_UP = 2


def main() -> int:
    """Time the trainings that were asked for."""
    parser = argparse.ArgumentParser(description="Time steps of Train Eraser on models of full size.")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--side", type=int, default=512, help="of the pictures, in pixels")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--pictures-at-once", type=int)
    parser.add_argument("--low-memory", action="store_true")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    import_pack()
    print(machine(), flush=True)
    for name in arguments.sizes:
        seconds, pictures, weights = _timed(_loaded(SIZES[name]), arguments)
        peak = (
            f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
            if torch.cuda.is_available()
            else "on the CPU"
        )
        print(
            f"{name}, {arguments.side} pixels, {weights} weights: {seconds:.2f} s a step, of {pictures} pictures; {peak}",
            flush=True,
        )
    return 0


def _loaded(kind: Kind) -> Any:
    """MODEL, CLIP and VAE as CheckpointLoaderSimple gives them."""
    import comfy.sd
    from rece_pack.nodes.host.session import Session

    with torch.inference_mode():
        weights = unet_checkpoint(kind, 0)
    model, clip, vae, *_ = comfy.sd.load_state_dict_guess_config(weights)
    return Session.open(model, clip, vae)


def _timed(session: Any, arguments: argparse.Namespace) -> tuple[float, int, int]:
    """Seconds of one step, its pictures, and the weights that it trains."""
    from rece_pack.nodes.host.jobs.train import train_eraser
    from rece_pack.nodes.request.training_request import PictureSettings, training_request
    from rece_pack.rece_ops.training.settings import HardenedSettings

    given = {name: getattr(arguments, name) for name in ("rank", "pictures_at_once") if getattr(arguments, name)}
    settings = HardenedSettings(steps=_WARM_UP, low_memory=arguments.low_memory, **given)
    pictures = PictureSettings(2, 2, arguments.side, 2, 7.0)
    found = None
    with torch.inference_mode():
        for steps in (_WARM_UP, arguments.steps):
            request = training_request("church -> house", "", "", replace(settings, steps=steps), pictures)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            found = train_eraser(session, request)
    assert found is not None
    return found.seconds / found.record.steps, settings.batch + settings.retained_batch, found.weights


if __name__ == "__main__":
    sys.exit(main())
