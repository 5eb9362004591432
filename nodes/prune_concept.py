"""An eraser that takes single numbers out of a UNet's feed-forward layers."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..rece_ops.methods.pruning import FILLS, PruningSettings
from ..rece_ops.settings import check_strength
from .host.protocols import Clip, Model
from .request.pruning_request import pruning_request
from .request.training_request import PictureSettings
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import choice_input, clip_input, count_input, model_input, strength_input
from .schema.sockets import ERASE, Eraser
from .schema.training_inputs import concepts_input, contexts_input, guidance_input, seed_input, size_input

_SETTINGS = PruningSettings()
_PICTURES = PictureSettings(concept=50, other=0, size=512, steps=50, guidance=7.5)


class PruneConcept(io.ComfyNode):
    """MODEL + CLIP + concepts → pruned MODEL, ERASER, report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_PruneConcept",
            display_name="Prune Concept (RECE)",
            category=ERASE,
            description=(
                "Finds the numbers in the feed-forward layers of a Stable Diffusion 1, 2 or XL model that are active for a concept "
                "and not for its base, and takes them out (ConceptPrune), or what in them tells the two apart. It looks at the "
                "first steps of pictures of its own, and on demand also at learned contexts that bring the concept back (after "
                "P-ESD). No weight is trained. On this pack's small test model it erased nothing."
            ),
            search_aliases=["ConceptPrune", "P-ESD", "Wanda", "neurons", "unlearn", "sparse"],
            inputs=[
                model_input(),
                clip_input(),
                concepts_input(
                    "'a -> b' prunes what is active for a and less for b: b is the base, something of the same kind."
                ),
                io.Float.Input(
                    "share",
                    default=_SETTINGS.share,
                    min=0.0001,
                    max=1.0,
                    step=0.001,
                    round=False,
                    tooltip=(
                        "Of each row of a weight, how many of its numbers may go at each step: 0.01 for styles and 0.02 for objects "
                        "were published for Stable Diffusion. More prune more of the concept, and of everything else."
                    ),
                ),
                seed_input("For the pictures, the noise of 'fill', and the adversaries."),
                choice_input(
                    "fill",
                    FILLS,
                    _SETTINGS.fill,
                    "What is put in their place: zero as published; noise of the row's own spread, which does not show where "
                    "the concept was; or projection, which only takes out what in them tells the concept from its base.",
                ),
                contexts_input(),
                count_input(
                    "pictures",
                    _PICTURES.concept,
                    "How many pairs of pictures of each concept and its base are begun from the same noise.",
                    low=1,
                    high=4096,
                    advanced=False,
                ),
                size_input(_PICTURES),
                count_input(
                    "first_steps",
                    _SETTINGS.first_steps,
                    "How many of a picture's steps are looked at, from the noisiest on; the rest is not sampled.",
                    low=1,
                    high=1000,
                    advanced=False,
                ),
                count_input(
                    "picture_steps", _PICTURES.steps, "Steps that a whole picture would have.", low=1, high=1000
                ),
                guidance_input(_PICTURES),
                strength_input("strength", "How much of the eraser goes into the model.", optional=True),
                count_input(
                    "adversaries",
                    _SETTINGS.adversaries,
                    "How many contexts are learned for each concept that bring it back once it is pruned; the neurons that they "
                    "use go too. 0 looks at prompts only. With some, whole pictures of the concept are made.",
                    high=1024,
                    advanced=False,
                ),
                count_input(
                    "adversary_steps",
                    _SETTINGS.adversary_steps,
                    "Updates of each of those contexts. They take most of the time.",
                    low=1,
                    high=100_000,
                ),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model", display_name="model", tooltip="The model without those numbers, for a sampler."
                ),
                Eraser.Output(
                    "pruned_eraser",
                    display_name="eraser",
                    tooltip="Which numbers were taken out. Save it, apply it to another model of the same base, or combine it.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What was pruned where, and how far predictions moved."
                ),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        concepts: str,
        share: float,
        seed: int,
        fill: str = _SETTINGS.fill,
        contexts: str = "",
        pictures: int = _PICTURES.concept,
        size: int = _PICTURES.size,
        first_steps: int = _SETTINGS.first_steps,
        picture_steps: int = _PICTURES.steps,
        guidance: float = _PICTURES.guidance,
        strength: float = 1.0,
        adversaries: int = _SETTINGS.adversaries,
        adversary_steps: int = _SETTINGS.adversary_steps,
    ) -> io.NodeOutput:
        from .host.jobs.apply import apply_eraser
        from .host.jobs.prune import prune_concepts
        from .host.session import Session
        from .reporting.pruning import pruning_report

        check_strength(strength)
        request = pruning_request(
            concepts,
            contexts,
            PruningSettings(share, first_steps, fill, seed, adversaries, adversary_steps),
            PictureSettings(pictures, 0, size, picture_steps, guidance),
        )
        session = Session.open(model, clip)
        pruned = prune_concepts(session, request)
        report = pruning_report(request, pruned)
        return io.NodeOutput(
            apply_eraser(session, pruned.eraser, strength), pruned.eraser, report, ui=ui.PreviewText(report)
        )
