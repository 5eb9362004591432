"""What each cross-attention of the pocket model writes with and without a concept at equal noise, and the maps that take it out.

For a block's outputs y (each place of the picture is one), with the mean μ and covariance Σ over prompts that should stay, and
δ = y(with the concept) − mean of y(with others of its kind in its place) for the same noisy picture:

    W = (Σ + ε·tr Σ/d·I)^(−1/2)        U: first k eigenvectors of W E[δδᵀ] W        P = I − W⁻¹UUᵀW        b = (I − P) μ

y → P y + b is LEACE's (arXiv:2306.03819) oblique projection with the mean of what should stay as its fixed point; as weights it is
W_O ← P·W_O and b_O ← P·b_O + b. With W = I it is the plain orthogonal form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import Bench, bench_sampler
from pocket_model.trials import Concept, other_captions, scene_with
from pocket_model.world import KINDS, OPENINGS, describe

Block = tuple[Any, ...]
FLOOR = 1e-3
"""ε: directions in which what should stay hardly varies are not free."""
SIBLINGS = 4
NOISES = (0, 2, 4, 6)
"""Places among the sampler's ten noise levels."""
_STEPS = 10


@dataclass
class Sums:
    """Of one block: what should stay (mean and square), and the differences that the concept makes, as sums over rows [n, d]."""

    mean: Any
    square: Any
    difference: Any
    count: int = 0
    compared: int = 0

    def keep(self, rows: Tensor) -> None:
        """Add outputs that should stay."""
        self.mean, self.square, self.count = (
            self.mean + rows.sum(0),
            self.square + rows.T @ rows,
            self.count + len(rows),
        )

    def compare(self, rows: Tensor) -> None:
        """Add differences."""
        self.difference, self.compared = self.difference + rows.T @ rows, self.compared + len(rows)


def gathered(bench: Bench, concept: Concept, scenes: int, seed: int = 5) -> dict[Block, Sums]:
    """The moments of every block over `scenes` scenes with the concept and as many prompts without it; streaming."""
    random = Random(f"{seed} {concept.name} image side")
    siblings = [word.name for word in KINDS[concept.kind] if word.name != concept.name]
    said = []
    for _ in range(scenes):
        scene, opening = scene_with(random, concept), random.choice(OPENINGS)
        names = [concept.name, *random.sample(siblings, min(SIBLINGS, len(siblings)))]
        said.append([describe(replace(scene, **{concept.kind: name}), opening).text for name in names])
    staying = [caption.text for caption in other_captions([concept], scenes, seed + 1)]
    # Noisy pictures of the concept, of another in its place, and of what should stay.
    drawn = [_latents(bench, prompts) for prompts in ([one[0] for one in said], [one[1] for one in said], staying)]
    found: dict[Block, Sums] = defaultdict(lambda: Sums(0, 0, 0))
    for number in range(scenes):
        for level in NOISES:
            for shown in drawn[:2]:
                for block, rows in _outputs(bench, shown[number : number + 1], said[number], level).items():
                    found[block].compare((rows[0] - rows[1:].mean(0)).double())
            for block, rows in _outputs(bench, drawn[2][number : number + 1], [staying[number], ""], level).items():
                found[block].keep(rows.double().flatten(0, 1))
    return dict(found)


def maps(sums: dict[Block, Sums], count: int, whitened: bool = True) -> dict[Block, tuple[Tensor, Tensor]]:
    """P [d, d] and b [d] of every block, with `count` directions."""
    return {block: _map(one, count, whitened) for block, one in sums.items()}


def with_maps(model: Any, found: dict[Block, tuple[Tensor, Tensor]]) -> Any:
    """A clone of the MODEL whose cross-attentions write P y + b: the same as with P·W_O and P·b_O + b."""

    def patched(rows: Tensor, options: dict[str, Any]) -> Tensor:
        projector, offset = found[_block(options)]
        return rows @ projector.T.to(rows) + offset.to(rows)

    clone = model.clone()
    clone.set_model_attn2_output_patch(patched)
    return clone


def _map(sums: Sums, count: int, whitened: bool) -> tuple[Tensor, Tensor]:
    mean = sums.mean / sums.count
    identity = torch.eye(len(mean), dtype=mean.dtype)
    root, inverse = identity, identity
    if whitened:
        covariance = sums.square / sums.count - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance + FLOOR * covariance.diagonal().mean() * identity)
        root, inverse = ((vectors * values.clamp(min=0) ** power) @ vectors.T for power in (0.5, -0.5))
    chosen = torch.linalg.eigh(inverse @ (sums.difference / sums.compared) @ inverse).eigenvectors[:, -count:]
    removed = root @ chosen @ chosen.T @ inverse
    return identity - removed, removed @ mean


def _block(options: dict[str, Any]) -> Block:
    return (*options["block"], options.get("block_index", 0))


def _outputs(bench: Bench, latent: Tensor, prompts: Sequence[str], level: int) -> dict[Block, Tensor]:
    """What each block writes [prompts, places, d] for one noisy picture."""
    import comfy.model_management
    import comfy.samplers

    model = bench.pocket.model
    sampling = model.get_model_object("model_sampling")
    sigma = comfy.samplers.calculate_sigmas(sampling, "normal", _STEPS)[level]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(level))
    noisy = sampling.noise_scaling(sigma, noise, latent).expand(len(prompts), -1, -1, -1)
    caught: dict[Block, Tensor] = {}

    def catch(rows: Tensor, options: dict[str, Any]) -> Tensor:
        caught[_block(options)] = rows.float()
        return rows

    comfy.model_management.load_models_gpu([model])
    with torch.inference_mode():
        model.model.apply_model(
            noisy,
            sigma.expand(len(prompts)),
            c_crossattn=bench.pocket.embeddings(list(prompts)),
            transformer_options={"patches": {"attn2_output_patch": [catch]}},
        )
    return caught


def _latents(bench: Bench, prompts: Sequence[str]) -> Tensor:
    return bench.pocket.latents(bench.pocket.embeddings(list(prompts)), range(len(prompts)), bench_sampler())
