"""How the pocket model is trained: the one place for every number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


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
        text, vae, decoder, unet: the four trainings, in this order.
        text_captions: how many captions the text encoder is shown, many of them alike.
        text_positions: how many positions of a caption are trained; no token sees the ones behind it.
        rank: of the changes of the text encoder's matrices.
        token_rate: how much faster token embeddings learn than the rest.
        padding: how often a caption's meaning is read from the padding behind it instead of its end.
        moment_weight: how strongly the latents are held at mean 0 and variance 1.
        object_weight: how much more a pixel of the object counts than one of the background; with equal weights the
            small objects are learned last.
        style_weight, weather_weight: how much more a pixel counts where a style, or the weather, shows.
        latent_noise: standard deviation of the noise that the decoder learns to bear.
        everyday: how many of the pictures that the VAE is shown are of everyday things.
        places: at how many places each scene is shown.
        captions: how many captions the UNet is shown.
        unconditional: how often it is shown none, for guidance.
        weight_decay: of the matrices.
    """

    seed: int = 0
    text: Stage = field(default_factory=lambda: Stage(steps=604, batch=512, rate=1e-3, average=0.99))
    vae: Stage = field(default_factory=lambda: Stage(steps=1988, batch=128, rate=1.5e-3, warmup=200))
    decoder: Stage = field(default_factory=lambda: Stage(steps=887, batch=128, rate=1e-3))
    unet: Stage = field(default_factory=lambda: Stage(steps=2713, batch=384, rate=7e-4, warmup=300, average=0.999))
    text_captions: int = 100_000
    text_positions: int = 24
    rank: int = 16
    token_rate: float = 30.0
    padding: float = 0.4
    moment_weight: float = 0.02
    object_weight: float = 4.0
    style_weight: float = 6.0
    weather_weight: float = 3.0
    latent_noise: float = 0.1
    everyday: float = 0.12
    places: int = 27
    captions: int = 40_000
    unconditional: float = 0.1
    weight_decay: float = 0.01


RECIPE = Recipe()


def rehearsal(recipe: Recipe = RECIPE, steps: int = 4) -> Recipe:
    """The same with next to nothing of everything: whether all stages run from nothing to the end."""

    def few(stage: Stage) -> Stage:
        return replace(stage, steps=steps, batch=min(stage.batch, 8), warmup=2)

    return replace(
        recipe,
        text=few(recipe.text),
        vae=few(recipe.vae),
        decoder=few(recipe.decoder),
        unet=few(recipe.unet),
        text_captions=400,
        places=1,
        captions=48,
    )
