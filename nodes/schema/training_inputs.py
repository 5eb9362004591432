"""Inputs of the nodes that look at pictures of the MODEL's own, or learn from them."""

from __future__ import annotations

from comfy_api.latest import io

from ...rece_ops.settings import MAX_SEED
from ...rece_ops.training.settings import RecelerSettings
from ..request.training_request import PictureSettings
from .inputs import count_input, number_input, switch_input


def seed_input(tooltip: str) -> io.Input:
    """The seed, which does not change by itself."""
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=False, tooltip=tooltip)


def concepts_input(arrow: str) -> io.Input:
    """Concept lines; `arrow` is a sentence about what 'a -> b' means here."""
    return io.String.Input(
        "concepts",
        multiline=True,
        default="",
        placeholder="Van Gogh -> art\nchurch -> house",
        tooltip=f"One concept a line, as in 'Erase Concepts'. {arrow}",
    )


def vae_input() -> io.Input:
    """The VAE, for images that a person connects."""
    return io.Vae.Input("vae", tooltip="The VAE that belongs to the model. It is only used for connected images.")


def contexts_input() -> io.Input:
    """Prompts with a place for the concept."""
    return io.String.Input(
        "contexts",
        multiline=True,
        default="",
        optional=True,
        placeholder="a photo of a woman, {}\na painting by {}",
        tooltip=(
            "Prompts in which the concept occurs, one a line, with curly brackets in its place. Left empty: a few plain "
            "ones. Prompts like those that people write are best."
        ),
    )


def preserve_input() -> io.Input:
    """Prompts that are held."""
    return io.String.Input(
        "preserve",
        multiline=True,
        default="",
        optional=True,
        placeholder="Claude Monet\na portrait of a man",
        tooltip="Prompts that should stay, one a line: above all what is close to the concept. Everyday prompts are added.",
    )


def retained_images_input() -> io.Input:
    """Images that are held."""
    return io.Image.Input(
        "retained_images",
        optional=True,
        tooltip="Images of what should stay, of the same size. Without them the model makes its own.",
    )


def made_inputs(pictures: PictureSettings) -> list[io.Input]:
    """How many pictures the MODEL makes, and of what size."""
    return [
        count_input(
            "pictures",
            pictures.concept,
            "How many pictures of the concepts the model makes.",
            high=4096,
            advanced=False,
        ),
        count_input(
            "retained_pictures",
            pictures.other,
            "How many pictures of other things it makes.",
            high=4096,
            advanced=False,
        ),
        size_input(pictures),
    ]


def size_input(pictures: PictureSettings) -> io.Input:
    """Width and height of a picture."""
    return count_input(
        "size",
        pictures.size,
        "Their width and height in pixels: what the model was trained on, or less to save memory.",
        low=64,
        high=4096,
        advanced=False,
    )


def guidance_input(pictures: PictureSettings) -> io.Input:
    """Classifier-free guidance of a picture."""
    return number_input("guidance", pictures.guidance, "Guidance of the pictures.", high=100.0, step=0.1)


def sampling_inputs(pictures: PictureSettings) -> list[io.Input]:
    """How a picture is sampled."""
    return [
        count_input("picture_steps", pictures.steps, "Sampling steps of each picture.", low=1, high=1000),
        guidance_input(pictures),
    ]


def batch_inputs(concept: int, retained: int) -> list[io.Input]:
    """Pictures a step."""
    return [
        count_input("batch", concept, "Pictures of the concept a step.", low=1, high=256),
        count_input("retained_batch", retained, "Other pictures a step.", low=1, high=256),
    ]


def low_memory_input(default: bool) -> io.Input:
    """Where the backward pass keeps what it needs."""
    return switch_input(
        "low_memory",
        default,
        "Keeps what the gradient needs in main memory: slower, but it fits smaller graphics cards.",
    )


def receler_inputs(settings: RecelerSettings) -> list[io.Input]:
    """What only Receler reads."""
    return [
        number_input(
            "adapter_rate",
            settings.adapter_rate,
            "Only for Receler: the learning rate of Adam.",
            low=1e-7,
            high=10.0,
            step=1e-5,
        ),
        count_input(
            "adapter_width",
            settings.adapter_width,
            "Only for Receler: numbers between the two layers of each adapter.",
            low=1,
            high=4096,
        ),
        count_input(
            "sampling_steps",
            settings.sampling_steps,
            "Only for Receler: steps of a whole sampling; each picture is sampled down to a random noise level.",
            low=1,
            high=1000,
        ),
        number_input(
            "sampling_guidance",
            settings.sampling_guidance,
            "Only for Receler: guidance of that sampling.",
            high=100.0,
            step=0.1,
        ),
        number_input(
            "mask_weight",
            settings.mask_weight,
            "Only for Receler: how much it counts what adapters add where the concept is not. Higher keeps more of the picture.",
        ),
        number_input(
            "mask_threshold",
            settings.mask_threshold,
            "Only for Receler: from which share of its largest value the attention to the concept marks its place.",
            high=1.0,
            step=0.01,
        ),
        count_input(
            "learned_tokens",
            settings.learned_tokens,
            "Only for Receler (as described): tokens that the adversary learns behind the prompt.",
            low=1,
            high=75,
        ),
        count_input(
            "inner_steps",
            settings.inner_steps,
            "Only for Receler (as described): updates of the adversary before each one of the adapters. It takes most of the time.",
            low=1,
            high=1000,
        ),
    ]
