"""An eraser that is trained: against attackers who have gradients, or as adapters after the cross-attentions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..rece_ops import EraserSet
from ..rece_ops.settings import check_strength
from ..rece_ops.training.settings import (
    AS_DESCRIBED,
    AS_PUBLISHED,
    HARDENED,
    LAYERS,
    STARTS,
    HardenedSettings,
    RecelerSettings,
)
from .host.errors import WrongConnectionError
from .host.folders import existing_training, fingerprint, training_names
from .host.protocols import Clip, Model, Vae
from .request.choices import check_choice
from .request.training_request import PLACE, PictureSettings, TrainingRequest, training_request
from .schema.checked import checked
from .schema.compat import build
from .schema.files import NO_FILE
from .schema.inputs import (
    choice_input,
    clip_input,
    count_input,
    counting_with,
    model_input,
    number_input,
    strength_input,
)
from .schema.sockets import ERASE, Eraser
from .schema.training_inputs import (
    batch_inputs,
    concepts_input,
    contexts_input,
    low_memory_input,
    made_inputs,
    preserve_input,
    receler_inputs,
    retained_images_input,
    sampling_inputs,
    seed_input,
    vae_input,
)

if TYPE_CHECKING:
    from .host.session import Session

_SETTINGS, _PICTURES, _RECELER = HardenedSettings(), PictureSettings(64, 128), RecelerSettings()
METHODS = (HARDENED, AS_PUBLISHED, AS_DESCRIBED)
_RECELER_INPUTS = (
    "adapter_rate",
    "adapter_width",
    "sampling_steps",
    "sampling_guidance",
    "mask_weight",
    "mask_threshold",
    "learned_tokens",
    "inner_steps",
)


_COUNTING = {
    **dict.fromkeys(
        (
            "preserve",
            "start",
            "pictures",
            "retained_pictures",
            "picture_steps",
            "guidance",
            "batch",
            "retained_batch",
            "learning_rate",
            "rank",
            "layers",
            "retain_weight",
            "adversaries",
            "adversary_rate",
            "adversary_updates",
            "pictures_at_once",
            "retain_limit",
        ),
        (HARDENED,),
    ),
    **dict.fromkeys(_RECELER_INPUTS, (AS_PUBLISHED, AS_DESCRIBED)),
    **dict.fromkeys(("learned_tokens", "inner_steps"), (AS_DESCRIBED,)),
}
"""The methods that read an input which not all of them read; the front end hides it with the others."""


class TrainEraser(io.ComfyNode):
    """MODEL + CLIP + VAE + concepts → trained MODEL, ERASER, report, curves."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = build(
            io.Schema,
            node_id="RECE_TrainEraser",
            display_name="Train Eraser (RECE)",
            category=ERASE,
            description=(
                "Trains concepts out of a Stable Diffusion 1, 2 or XL model, against adversaries that learn to bring them back. "
                "It begins from a closed-form erasure and makes its own pictures. Prompts and synonyms are erased more thoroughly "
                "than in closed form; attackers with gradients are held up, not stopped. It is slow without a graphics card."
            ),
            search_aliases=[
                "unlearn",
                "adversarial",
                "harden",
                "fine-tune",
                "adapter",
                "Receler",
                "STEREO",
                "AdvUnlearn",
            ],
            inputs=[
                model_input(),
                clip_input(),
                vae_input(),
                concepts_input("'a -> b' trains a towards b; a target of the same kind costs other pictures least."),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip=(
                        "hardened: low-rank changes of the weights, trained against adversarial contexts. On this pack's small test "
                        "model none of six concepts' prompts made them any more, and 98 % of other prompts came out right (99 % before); four "
                        "learned tokens made them in 1 % of the pictures (96 % before), sixteen in 5 % (98 % before), and in 78 % after 1,000 "
                        "steps instead of 300. Receler: small networks after the cross-attentions, which no LoRA can hold; as published, its "
                        "learned tokens never reach the model, as described, they do. "
                        "Either way, 300 steps on the test model left one concept in 62 % of its prompts and everything else right."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=_SETTINGS.steps,
                    min=1,
                    max=100_000,
                    tooltip="Updates of the weights. More erase more thoroughly, and cost other pictures more.",
                ),
                seed_input("For pictures, noise and adversaries."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Images of the concept. Without them the model makes its own.",
                ),
                retained_images_input(),
                Eraser.Input(
                    "eraser",
                    optional=True,
                    tooltip="What to begin from, in place of 'start': a closed-form eraser, or one that was trained before.",
                ),
                contexts_input(),
                preserve_input(),
                choice_input(
                    "start", STARTS, STARTS[0], "The closed-form erasure to begin from, where no eraser is connected."
                ),
                *made_inputs(_PICTURES),
                *sampling_inputs(_PICTURES),
                *batch_inputs(_SETTINGS.batch, _SETTINGS.retained_batch),
                number_input(
                    "learning_rate",
                    _SETTINGS.learning_rate,
                    "The learning rate of AdamW.",
                    low=1e-7,
                    high=10.0,
                    step=1e-5,
                ),
                count_input(
                    "rank",
                    _SETTINGS.rank,
                    (
                        "Rank of each weight's change. 32 with a learning rate of 0.003 held about as well in one trial, in a quarter of "
                        "the size."
                    ),
                    low=1,
                    high=512,
                ),
                choice_input("layers", LAYERS, _SETTINGS.layers, "Which weights are changed.", advanced=True),
                number_input(
                    "retain_weight",
                    _SETTINGS.retain_weight,
                    "How much the retain loss counts: higher keeps other pictures better, and more of the concept.",
                ),
                number_input(
                    "push", _SETTINGS.push, "How far beyond the target predictions are pulled, away from the concept."
                ),
                count_input(
                    "adversaries",
                    _SETTINGS.adversaries,
                    "How many adversarial contexts are learned meanwhile; 0 trains without.",
                    high=1024,
                ),
                number_input(
                    "adversary_rate",
                    _SETTINGS.adversary_rate,
                    "Their learning rate, relative to the size of the prompt's embeddings.",
                    low=1e-4,
                    high=10.0,
                    step=1e-3,
                ),
                number_input(
                    "retain_limit",
                    _SETTINGS.retain_limit,
                    "Stop early where the retain loss is above this share of the model's own error; 0 never stops.",
                ),
                low_memory_input(_SETTINGS.low_memory),
                choice_input(
                    "resume",
                    [NO_FILE, *training_names()],
                    NO_FILE,
                    "A training that was cancelled, from the output folder. All other inputs must be as they were.",
                    advanced=True,
                ),
                strength_input("strength", "How much of the eraser goes into the model.", optional=True),
                *receler_inputs(_RECELER),
                count_input(
                    "adversary_updates",
                    _SETTINGS.adversary_updates,
                    "Updates of each adversary for one of the weights. More take longer and make attacks harder.",
                    low=1,
                    high=1000,
                ),
                count_input(
                    "pictures_at_once",
                    _SETTINGS.pictures_at_once,
                    "How many pictures of a step go through the model together. Fewer need less memory; what is learned is the same.",
                    low=1,
                    high=4096,
                ),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model", display_name="model", tooltip="The model without the concepts, for a sampler."
                ),
                Eraser.Output(
                    "trained_eraser",
                    display_name="eraser",
                    tooltip="The erasure with what it began from. Save it, or export it as a LoRA.",
                ),
                io.String.Output("report", display_name="report", tooltip="How the training went."),
                io.Image.Output("curves", display_name="curves", tooltip="All losses, step by step."),
            ],
        )
        for one in schema.inputs:
            if one.id in _COUNTING:
                counting_with(one, "method", _COUNTING[one.id])
        return schema

    @classmethod
    @checked
    def fingerprint_inputs(cls, resume: str = NO_FILE, **others: Any) -> str:
        """Re-run the node when the training to be gone on with has changed."""
        return "" if resume == NO_FILE else fingerprint(existing_training(resume))

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        vae: Vae | None,
        concepts: str,
        method: str,
        steps: int,
        seed: int,
        images: Tensor | None = None,
        retained_images: Tensor | None = None,
        eraser: EraserSet | None = None,
        contexts: str = "",
        preserve: str = "",
        start: str = STARTS[0],
        pictures: int = _PICTURES.concept,
        retained_pictures: int = _PICTURES.other,
        size: int = _PICTURES.size,
        picture_steps: int = _PICTURES.steps,
        guidance: float = _PICTURES.guidance,
        resume: str = NO_FILE,
        strength: float = 1.0,
        **inputs: Any,
    ) -> io.NodeOutput:
        check_choice("method", method, METHODS)
        check_choice("start", start, STARTS)
        check_strength(strength)
        shown = PictureSettings(pictures, retained_pictures, size, picture_steps, guidance)
        own = {name: inputs.pop(name) for name in _RECELER_INPUTS if name in inputs}
        resumed = "" if resume == NO_FILE else resume
        if method == HARDENED:
            hardened = HardenedSettings(steps=steps, seed=seed, **inputs)
            request = training_request(concepts, contexts, preserve, hardened, shown)
            return _hardened((model, clip, vae), request, start, eraser, (images, retained_images), resumed, strength)
        _check_unconnected(images=images, retained_images=retained_images)
        both = {name: inputs[name] for name in ("push", "low_memory") if name in inputs}
        settings = RecelerSettings(method == AS_DESCRIBED, steps, seed=seed, **both, **own)
        # As the authors train: from the bare concept.
        asked = training_request(concepts, contexts.strip() or PLACE, preserve, settings, shown)
        return _receler((model, clip, vae), asked, eraser, resumed, strength)


def _hardened(
    connected: tuple[Model | None, Clip | None, Vae | None],
    request: TrainingRequest[HardenedSettings],
    start: str,
    eraser: EraserSet | None,
    images: tuple[Tensor | None, Tensor | None],
    resume: str,
    strength: float,
) -> io.NodeOutput:
    from .host.jobs.train import train_eraser
    from .host.session import Session
    from .reporting.training import training_curves, training_report

    session = Session.open(*connected)
    trained = train_eraser(session, request, start, eraser, *images, resume)
    return _output(
        session, trained.eraser, strength, training_report(request, trained), training_curves(trained.record)
    )


def _receler(
    connected: tuple[Model | None, Clip | None, Vae | None],
    request: TrainingRequest[RecelerSettings],
    eraser: EraserSet | None,
    resume: str,
    strength: float,
) -> io.NodeOutput:
    from .host.jobs.train_receler import train_receler
    from .host.session import Session
    from .reporting.receler import receler_curves, receler_report

    session = Session.open(*connected)
    trained = train_receler(session, request, eraser, resume)
    return _output(session, trained.eraser, strength, receler_report(request, trained), receler_curves(trained.record))


def _check_unconnected(**images: Tensor | None) -> None:
    """Raise WrongConnectionError where images are connected that the method would not look at."""
    for name, given in images.items():
        if given is not None:
            raise WrongConnectionError(
                f"Receler makes a picture of its own for every step, and '{name}' would not be looked at: disconnect it, or "
                "take method 'hardened'."
            )


def _output(session: Session, eraser: EraserSet, strength: float, report: str, curves: Tensor) -> io.NodeOutput:
    from .host.jobs.apply import apply_eraser, describe_application

    patched = apply_eraser(session, eraser, strength)
    told = f"{report}\n{describe_application(session, eraser)}" if eraser.adapters else report
    return io.NodeOutput(patched, eraser, told, curves, ui=ui.PreviewText(told))
