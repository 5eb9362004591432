"""How the pocket model is trained: the one place for every number."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One network's training: AdamW with a linear warm-up and a cosine decay to zero.

    Attributes:
        steps: optimizer steps.
        batch: pictures a step.
        rate: the highest learning rate.
        warmup: steps until it is reached.
        average: decay of the running average of the weights, which is what is kept.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    average: float = 0.998


@dataclass(frozen=True)
class Recipe:
    """Everything that the trained weights depend on.

    Attributes:
        seed: of the text encoder, the captions, the pictures and the noise.
        vae, unet, decoder: the three trainings.
        moment_weight: how strongly the latents are held at mean 0 and variance 1.
        object_weight: how much more a pixel of the object counts than one of the background; with equal weights the
            small objects are learned last.
        style_weight: how much more a pixel counts to the decoder where a style shows than where it would be plain.
        latent_noise: standard deviation of the noise that the decoder learns to bear.
        captions: how many different captions the UNet is shown.
        weight_decay: of the matrices.
    """

    seed: int = 0
    vae: Stage = field(default_factory=lambda: Stage(steps=3600, batch=4, rate=1.5e-3))
    unet: Stage = field(default_factory=lambda: Stage(steps=8500, batch=40, rate=4e-4))
    decoder: Stage = field(default_factory=lambda: Stage(steps=1200, batch=8, rate=1e-3))
    moment_weight: float = 0.02
    object_weight: float = 4.0
    style_weight: float = 6.0
    latent_noise: float = 0.1
    captions: int = 3200
    weight_decay: float = 0.01


RECIPE = Recipe()
