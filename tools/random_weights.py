"""Random weights by name: every tensor has a seed of its own, and text encoders are built to tell words apart."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

Shapes = Iterator[tuple[str, tuple[int, ...]]]

GAIN_OF_NORM = ("weight", "scale", "gamma")
RESIDUAL = ("out_proj.weight", "fc2.weight", "c_proj.weight")
# Where plain scaling would give pictures that hardly depend on the prompt: attention that picks out words instead of
# averaging over them, and text that counts.
GAINS = {
    "self_attn.q_proj": 1.5,
    "self_attn.k_proj": 1.5,
    "attn.in_proj_weight": 1.5,
    "attn.out_proj": 2.0,  # in both ways of naming
    "attn2.to_q": 2.0,
    "attn2.to_out": 2.0,
    # What is left of the prediction after `_pass_noise_through` is multiplied by the highest noise level, about 15.
    "diffusion_model.out.2.": 0.1,
}

VOCABULARY = 49408
POSITIONS = 77


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder; `openclip` says in which of the two ways its weights are named."""

    prefix: str
    width: int
    layers: int
    openclip: bool

    def draw(self, seed: int, gains: Mapping[str, float] = GAINS) -> dict[str, torch.Tensor]:
        """Its weights from a seed, in float16."""
        shapes = _openclip_shapes(self) if self.openclip else _clip_shapes(self)
        return {key: draw(key, shape, seed, self.layers, gains) for key, shape in shapes}


CLIP_L = TextEncoder("cond_stage_model.transformer.text_model.", 768, 12, openclip=False)
CLIP_H = TextEncoder("cond_stage_model.model.", 1024, 24, openclip=True)
SDXL_CLIP_L = TextEncoder("conditioner.embedders.0.transformer.text_model.", 768, 12, openclip=False)
SDXL_CLIP_G = TextEncoder("conditioner.embedders.1.model.", 1280, 32, openclip=True)
REFINER_CLIP_G = TextEncoder("conditioner.embedders.0.model.", 1280, 32, openclip=True)


def shapes_of(module: torch.nn.Module, prefix: str) -> Shapes:
    """Names and shapes of a module's weights."""
    for key, tensor in module.state_dict().items():
        yield prefix + key, tuple(tensor.shape)


def draw(
    key: str, shape: tuple[int, ...], seed: int, layers: int = 1, gains: Mapping[str, float] = GAINS
) -> torch.Tensor:
    """Random values that keep activations near 1: none is left zero, not even where training would begin so."""
    # Each weight has its own seed, so that it does not depend on the order in which ComfyUI lists them.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {key}".encode()))
    values = torch.randn(shape, generator=generator)
    # One value per channel, in some norms with a size of 1 for every direction of a picture.
    if values.numel() == shape[0]:
        return (values * 0.02 + (1.0 if key.endswith(GAIN_OF_NORM) else 0.0)).half()
    return (values * _spread(key, shape, layers, gains)).half()


def _spread(key: str, shape: tuple[int, ...], layers: int, gains: Mapping[str, float]) -> float:
    """The standard deviation of a matrix, a convolution or a table of embeddings."""
    if key.endswith("token_embedding.weight"):
        return 1.0
    if "position" in key:
        return 0.3
    fan_in = torch.Size(shape).numel() // shape[0]
    # The sum over all layers of a text encoder is to be as large as the embeddings that it is added to.
    spread: float = (fan_in * layers) ** -0.5 if key.endswith(RESIDUAL) else fan_in**-0.5
    return spread * next((gain for part, gain in gains.items() if part in key), 1.0)


def _clip_shapes(encoder: TextEncoder) -> Shapes:
    width = encoder.width
    yield f"{encoder.prefix}embeddings.token_embedding.weight", (VOCABULARY, width)
    yield f"{encoder.prefix}embeddings.position_embedding.weight", (POSITIONS, width)
    yield from _affine(f"{encoder.prefix}final_layer_norm", (width,))
    for layer in range(encoder.layers):
        prefix = f"{encoder.prefix}encoder.layers.{layer}."
        for name in ("layer_norm1", "layer_norm2"):
            yield from _affine(prefix + name, (width,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{prefix}self_attn.{name}", (width, width))
        yield from _affine(f"{prefix}mlp.fc1", (4 * width, width))
        yield from _affine(f"{prefix}mlp.fc2", (width, 4 * width))


def _openclip_shapes(encoder: TextEncoder) -> Shapes:
    width = encoder.width
    yield f"{encoder.prefix}token_embedding.weight", (VOCABULARY, width)
    yield f"{encoder.prefix}positional_embedding", (POSITIONS, width)
    yield f"{encoder.prefix}text_projection", (width, width)
    yield from _affine(f"{encoder.prefix}ln_final", (width,))
    for layer in range(encoder.layers):
        prefix = f"{encoder.prefix}transformer.resblocks.{layer}."
        for name in ("ln_1", "ln_2"):
            yield from _affine(prefix + name, (width,))
        yield f"{prefix}attn.in_proj_weight", (3 * width, width)
        yield f"{prefix}attn.in_proj_bias", (3 * width,)
        yield from _affine(f"{prefix}attn.out_proj", (width, width))
        yield from _affine(f"{prefix}mlp.c_fc", (4 * width, width))
        yield from _affine(f"{prefix}mlp.c_proj", (width, 4 * width))


def _affine(name: str, shape: tuple[int, ...]) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
