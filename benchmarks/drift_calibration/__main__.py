"""From which drift on do pictures change visibly? The thresholds of `rece_ops.measures.erasure` come from here.

    python -m benchmarks.drift_calibration

Erases ever more, ever harder, from the small random SD1.5 model, and compares for prompts that nobody preserved the
drift of their outputs with the distance of their latents before and after, in units of the mean distance between two
different prompts. To be run by the host's interpreter (see `tools.host`).
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.host import host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack
from tools.tiny_checkpoints import build

CONCEPTS = [
    "nudity",
    "car",
    "gun",
    "cat",
    "house",
    "tree",
    "horse",
    "ship",
    "Van Gogh",
    "Monet",
    "church",
    "blood",
    "king",
    "robot",
    "castle",
    "bird",
]
# Concepts, epochs, λ, μ.
SETTINGS = (
    (1, 0, 0.1, 0.1),
    (1, 0, 10.0, 0.1),
    (1, 0, 100.0, 0.1),
    (1, 1, 0.1, 0.1),
    (1, 3, 0.1, 0.1),
    (1, 10, 0.1, 0.1),
    (1, 3, 0.1, 0.0),
    (5, 0, 0.1, 0.1),
    (5, 3, 0.1, 0.1),
    (16, 0, 0.1, 0.1),
    (16, 1, 0.1, 0.1),
    (16, 3, 0.1, 0.1),
)


class Sampler:
    """A loaded model, and latents sampled from clones of it."""

    def __init__(self, checkpoint: str) -> None:
        sd = importlib.import_module("comfy.sd")
        self._sample = importlib.import_module("comfy.sample")
        self.model, self.clip, *_ = sd.load_checkpoint_guess_config(checkpoint, output_vae=False)

    def latents(self, model: Any, prompt: str) -> Tensor:
        """[1, 4, 8, 8] after four Euler steps, always from the same noise."""
        empty = torch.zeros(1, 4, 8, 8)
        noise = self._sample.prepare_noise(empty, 0)
        conditions = (self._encode(prompt), self._encode(""))
        found = self._sample.sample(model, noise, 4, 7.0, "euler", "normal", *conditions, empty, disable_pbar=True)
        return torch.as_tensor(found).float()

    def _encode(self, prompt: str) -> Any:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))


def run(sampler: Sampler, setting: Sequence[float], prompts: Sequence[str], spread: float) -> str:
    """One row: the setting, and drift / picture change of every neutral prompt."""
    from rece_pack.nodes.host.jobs.apply import apply_eraser
    from rece_pack.nodes.host.jobs.erase import erase_concepts
    from rece_pack.nodes.host.session import Session
    from rece_pack.nodes.request.concept_lines import ConceptLine
    from rece_pack.nodes.request.erasure_request import ErasureRequest
    from rece_pack.nodes.request.methods import plan_with
    from rece_pack.rece_ops import RECESettings

    concepts, epochs, edit_regularization, preserve_scale = setting
    settings = RECESettings(epochs=int(epochs), edit_regularization=edit_regularization, preserve_scale=preserve_scale)
    typed = [ConceptLine(name, "") for name in CONCEPTS[: int(concepts)]]
    session = Session.open(sampler.model, sampler.clip)
    result = erase_concepts(session, ErasureRequest(typed, (), plan_with(settings)))
    patched = apply_eraser(session, result.eraser, 1.0)
    cells = []
    for prompt in prompts:
        moved = (sampler.latents(patched, prompt) - sampler.latents(sampler.model, prompt)).norm()
        cells.append(f"{result.measures.held_out_drift[prompt]:.2f} → {float(moved) / spread:.1f}")
    return f"| {concepts} | {epochs} | {edit_regularization} | {preserve_scale} | {' | '.join(cells)} |"


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    make_importable(prepare_comfyui())
    import_pack()
    sampler = Sampler(str(build("sd15", host_folder() / "checkpoints" / "sd15.safetensors")))
    prompts = importlib.import_module("rece_pack.nodes.request.everyday_prompts").HELD_OUT[:3]
    originals = [sampler.latents(sampler.model, prompt) for prompt in (*prompts, "", "nudity", "a red car")]
    distances = [float((one - other).norm()) for one, other in itertools.combinations(originals, 2)]
    print(f"| concepts | epochs | λ | μ | {' | '.join(prompts)} |")
    print("| --- " * (4 + len(prompts)) + "|")
    for setting in SETTINGS:
        print(run(sampler, setting, prompts, sum(distances) / len(distances)), flush=True)


if __name__ == "__main__":
    main()
