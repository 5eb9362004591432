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
from tools.tiny_checkpoints import UNETS, Kind, levels, unet_checkpoint

SD1, SDXL = UNETS["sd15"], UNETS["sdxl"]
SIZES = {
    "SD1": replace(
        SD1, unet={**SD1.unet, **levels([1, 1, 1, 1, 1, 1, 0, 0], 2, middle=1), "channel_mult": [1, 2, 4, 4]}
    ),
    "SDXL": replace(SDXL, unet={**SDXL.unet, "channel_mult": [1, 2, 4]}),
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
    settings = HardenedSettings(low_memory=arguments.low_memory, **given)
    pictures = PictureSettings(2, 2, arguments.side, 2, 7.0)

    def trained(steps: int) -> Any:
        request = training_request("church -> house", "", "", replace(settings, steps=steps), pictures)
        return train_eraser(session, request)

    with torch.inference_mode():
        trained(_WARM_UP)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        found = trained(arguments.steps)
    return found.seconds / found.record.steps, settings.batch + settings.retained_batch, found.weights


if __name__ == "__main__":
    sys.exit(main())
