"""The third attack: embeddings learned by gradient, which needs the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui
from torch import Tensor

from ...rece_ops.attacks.inversion import InversionSettings
from ..host.protocols import Clip, Model, Vae
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.inputs import clip_input, count_input, number_input, switch_input
from ..schema.sockets import TEST

if TYPE_CHECKING:
    from ..host.jobs.invert import Inverted

DEFAULT = InversionSettings()


class InvertConcept(io.ComfyNode):
    """Erased MODEL + CLIP + VAE + images → CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_InvertConcept",
            display_name="Invert Concept (RECE)",
            category=TEST,
            description=(
                "A white-box attack: learns token embeddings with which the erased model makes given images. It needs the "
                "weights and takes minutes. If it succeeds, the model can still make the concept. What it finds can be "
                "erased too: connect it to 'embedding' of 'Erase Concepts'."
            ),
            search_aliases=["attack", "red team", "textual inversion", "concept inversion"],
            inputs=[
                io.Model.Input("model", tooltip="The erased model. It is not changed."),
                clip_input(),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Image.Input(
                    "images", tooltip="Images that show the concept, best made by the model before the erasure."
                ),
                io.String.Input(
                    "start",
                    default="",
                    tooltip="The prompt to start from; the learned embeddings replace its first tokens.",
                ),
                io.Int.Input(
                    "tokens", default=DEFAULT.tokens, min=1, max=76, tooltip="How many token embeddings are learned."
                ),
                io.Int.Input("steps", default=DEFAULT.steps, min=1, max=100_000, tooltip="Steps of the optimizer."),
                io.Int.Input(
                    "seed",
                    default=DEFAULT.seed,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="For the noise and the choice of images.",
                ),
                number_input(
                    "learning_rate",
                    DEFAULT.learning_rate,
                    "The learning rate of Adam, relative to the size of the prompt's embeddings.",
                    low=0.0001,
                    high=10.0,
                    step=0.001,
                ),
                count_input("batch", DEFAULT.batch, "Images per step.", low=1, high=64),
                switch_input(
                    "low_memory",
                    DEFAULT.low_memory,
                    "Keeps what the gradient needs in main memory: slower, but it fits smaller graphics cards.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="The learned embeddings. Connect them to the positive input of a sampler on the erased model.",
                ),
                io.String.Output("report", display_name="report", tooltip="How far the loss fell."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        vae: Vae | None,
        images: Tensor | None,
        start: str,
        tokens: int,
        steps: int,
        seed: int,
        learning_rate: float = DEFAULT.learning_rate,
        batch: int = DEFAULT.batch,
        low_memory: bool = DEFAULT.low_memory,
    ) -> io.NodeOutput:
        from ..host.jobs.invert import invert_concept
        from ..host.session import Session

        settings = InversionSettings(tokens, steps, learning_rate, seed, batch, low_memory)
        found = invert_concept(Session.open(model, clip, vae), images, start, settings)
        report = _report(found, settings)
        return io.NodeOutput(found.conditioning, report, ui=ui.PreviewText(report))


def _report(found: Inverted, settings: InversionSettings) -> str:
    return (
        f"Learned {settings.tokens} token embedding{'s' if settings.tokens > 1 else ''} in {settings.steps} steps: the "
        f"error of the predicted noise went from {found.first_loss:.4f} to {found.last_loss:.4f}.\n"
        "Sample the result with the erased model: only the picture tells."
    )
