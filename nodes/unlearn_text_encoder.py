"""A text encoder that a concept is unlearned in, from a few pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..rece_ops.settings import check_strength
from ..rece_ops.training.settings import UNLEARNING, UnlearningSettings
from .host.protocols import Clip, Model, Vae
from .request.training_request import PictureSettings, training_request
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import clip_input, number_input, strength_input
from .schema.sockets import ERASE
from .schema.training_inputs import (
    batch_inputs,
    concepts_input,
    contexts_input,
    low_memory_input,
    made_inputs,
    preserve_input,
    retained_images_input,
    sampling_inputs,
    seed_input,
    vae_input,
)

_SETTINGS = UnlearningSettings()
_PICTURES = PictureSettings(concept=4, other=8)


class UnlearnTextEncoder(io.ComfyNode):
    """CLIP + MODEL + VAE + a few images → patched CLIP, report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_UnlearnTextEncoder",
            display_name="Unlearn in Text Encoder (RECE)",
            category=ERASE,
            description=(
                "Makes the text encoder of a Stable Diffusion 1, 2 or XL model forget what a concept looks like, from a few "
                "pictures and in a few steps (few-shot unlearning). The model stays as it is; the patched CLIP works with every "
                "model that uses this CLIP. On this pack's small test model it erased nothing, or everything."
            ),
            search_aliases=["few-shot unlearning", "forget", "CLIP", "gradient ascent"],
            inputs=[
                clip_input(),
                io.Model.Input("model", tooltip="The model that the text encoder is judged by. It is not changed."),
                vae_input(),
                concepts_input(
                    "With method 'bounded', 'a -> b' stops where a fits its pictures no better than b does."
                ),
                io.Combo.Input(
                    "method",
                    options=list(UNLEARNING),
                    tooltip=(
                        "bounded: each picture's error rises up to a bound, and other pictures are held. as published: it rises without "
                        "a bound, and nothing is held; with many steps or a high learning rate it ruins everything."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=_SETTINGS.steps,
                    min=1,
                    max=10_000,
                    tooltip="Updates of the weights: 8 to 10 were published for Stable Diffusion 1.",
                ),
                seed_input("For pictures and noise."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="A few images of the concept, 4 or more. Without them the model makes its own.",
                ),
                retained_images_input(),
                contexts_input(),
                preserve_input(),
                *made_inputs(_PICTURES),
                number_input(
                    "learning_rate",
                    _SETTINGS.learning_rate,
                    "The learning rate of Adam.",
                    low=1e-9,
                    high=1.0,
                    step=1e-6,
                    advanced=False,
                ),
                *sampling_inputs(_PICTURES),
                *batch_inputs(_SETTINGS.batch, _SETTINGS.retained_batch),
                number_input(
                    "limit",
                    _SETTINGS.limit,
                    "How far the error may rise, in units of that with the target in the concept's place. For method 'bounded'.",
                    low=0.01,
                    high=1000.0,
                    step=0.01,
                ),
                number_input(
                    "retain_weight",
                    _SETTINGS.retain_weight,
                    "How much it counts that other pictures stay: higher keeps them better, and more of the concept. For method "
                    "'bounded'.",
                ),
                low_memory_input(_SETTINGS.low_memory),
                strength_input("strength", "How much of the change goes into the CLIP.", optional=True),
            ],
            outputs=[
                io.Clip.Output(
                    "patched_clip",
                    display_name="clip",
                    tooltip="The CLIP without the concepts, for text encoding. CLIPSave and CheckpointSave write it.",
                ),
                io.String.Output("report", display_name="report", tooltip="How the errors went, step by step."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        clip: Clip | None,
        model: Model | None,
        vae: Vae | None,
        concepts: str,
        method: str,
        steps: int,
        seed: int,
        images: Tensor | None = None,
        retained_images: Tensor | None = None,
        contexts: str = "",
        preserve: str = "",
        pictures: int = _PICTURES.concept,
        retained_pictures: int = _PICTURES.other,
        size: int = _PICTURES.size,
        picture_steps: int = _PICTURES.steps,
        guidance: float = _PICTURES.guidance,
        strength: float = 1.0,
        **inputs: Any,
    ) -> io.NodeOutput:
        from .host.jobs.unlearn import unlearn_in_text_encoder
        from .host.session import Session
        from .reporting.unlearning import unlearning_report

        check_strength(strength)
        request = training_request(
            concepts,
            contexts,
            preserve,
            UnlearningSettings(method=method, steps=steps, seed=seed, **inputs),
            PictureSettings(pictures, retained_pictures, size, picture_steps, guidance),
        )
        unlearned = unlearn_in_text_encoder(Session.open(model, clip, vae), request, images, retained_images, strength)
        report = unlearning_report(request, unlearned)
        return io.NodeOutput(unlearned.clip, report, ui=ui.PreviewText(report))
