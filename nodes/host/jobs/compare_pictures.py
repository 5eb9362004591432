"""The same prompts with the same noise on several MODELs, one picture each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import latent_preview
import torch
from torch import Tensor

from ....rece_ops import InputError
from ...request.typed_text import check_prompt
from ..progress import JobProgress
from ..protocols import Clip, Model, Vae

MAX_PICTURES = 400
_SEEDS = 2**64
_PREVIEW_FORMAT = "JPEG"


@dataclass(frozen=True)
class Sampling:
    """How every picture is sampled.

    Attributes:
        prompts: one row of pictures each.
        negative: the negative prompt of all.
        seeds: of the noise; each prompt is sampled with each.
        steps, cfg, sampler, scheduler: as on the host's KSampler.
        width, height: of a picture, in pixels.

    Raises:
        InputError: there is nothing to sample, or a value is out of range.
    """

    prompts: Sequence[str]
    negative: str
    seeds: Sequence[int]
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("'prompts' is empty: type at least one prompt, one a line.")
        for prompt in (*self.prompts, self.negative):
            check_prompt(prompt)
        for name, value, low, high in (
            ("steps", self.steps, 1, 1000),
            ("cfg", self.cfg, 0, 100),
            ("width", self.width, 16, 4096),
            ("height", self.height, 16, 4096),
            ("seed", min(self.seeds), 0, _SEEDS - 1),
            ("seed", max(self.seeds), 0, _SEEDS - 1),
        ):
            if not low <= value <= high:
                raise InputError(f"'{name}' is {value}: give a number from {low} to {high}.")

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Prompt and seed of every row."""
        return [(prompt, seed) for prompt in self.prompts for seed in self.seeds]


def sample_pictures(models: Sequence[tuple[Model, Clip | None]], vae: Vae, sampling: Sampling) -> list[list[Tensor]]:
    """A picture [height, width, 3] for every row of `sampling` and every MODEL: `found[row][column]`.

    Args:
        models: each with the CLIP that encodes its prompts. One after the other, so that each is loaded once.
        vae: that belongs to them.
        sampling: see `Sampling`.

    Raises:
        InputError: there are too many pictures, or a CLIP is missing.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    rows = sampling.rows
    count = len(rows) * len(models)
    if count > MAX_PICTURES:
        raise InputError(
            f"These are {count} pictures, {len(rows)} rows of {len(models)}: give fewer prompts, seeds or strengths, for "
            f"{MAX_PICTURES} at most."
        )
    progress = JobProgress(sample=1)
    columns = []
    for place, (model, clip) in enumerate(models):
        encode = _Encoder(clip)
        column = []
        for turn, (prompt, seed) in enumerate(rows):
            report = progress.part("sample", place * len(rows) + turn, count)
            callback = _callback(model, report, sampling.steps)
            samples = _sample(model, vae, sampling, encode(prompt), encode(sampling.negative), seed, callback)
            column.append(_decoded(vae, samples))
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


class _Encoder:
    """Prompts as CONDITIONING, weights in brackets included, as the host's own node encodes them; each text once."""

    def __init__(self, clip: Clip | None) -> None:
        if clip is None:
            raise InputError("CLIP is None: the checkpoint holds no text encoder. Connect that of a 'Load CLIP' node.")
        self._clip = clip
        self._encoded: dict[str, list[Any]] = {}

    def __call__(self, text: str) -> list[Any]:
        if text not in self._encoded:
            self._encoded[text] = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text))
        return self._encoded[text]


def _sample(
    model: Any,
    vae: Any,
    sampling: Sampling,
    positive: list[Any],
    negative: list[Any],
    seed: int,
    callback: Callable[..., None],
) -> Tensor:
    latent = _empty_latent(model, vae, sampling)
    # On the CPU from the seed alone, as the host's KSampler does: every MODEL begins with the same.
    noise = comfy.sample.prepare_noise(latent, seed)
    samples: Tensor = comfy.sample.sample(
        model,
        noise,
        sampling.steps,
        sampling.cfg,
        sampling.sampler,
        sampling.scheduler,
        positive,
        negative,
        latent,
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )
    return samples


def _empty_latent(model: Any, vae: Any, sampling: Sampling) -> Tensor:
    """Zeros as MODEL expects them: one picture, or the one frame of a video."""
    latent_format = model.get_model_object("latent_format")
    shrunk = int(vae.spacial_compression_encode())
    frames = (1,) if latent_format.latent_dimensions == 3 else ()
    size = (max(sampling.height // shrunk, 1), max(sampling.width // shrunk, 1))
    return torch.zeros([1, latent_format.latent_channels, *frames, *size])


def _decoded(vae: Vae, samples: Tensor) -> Tensor:
    pictures = vae.decode(samples)
    # Of a video, the first frame.
    return pictures.reshape(-1, *pictures.shape[-3:])[0, :, :, :3].float().cpu()


def _callback(model: Any, report: Callable[..., None], steps: int) -> Callable[..., None]:
    """What the sampler calls after every step: progress, with a preview where the host makes some."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def after_step(step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
        preview = previewer.decode_latent_to_preview_image(_PREVIEW_FORMAT, denoised) if previewer else None
        report(step + 1, max(total, steps), "sampling", preview)

    return after_step
