"""Before and after, side by side: the same prompts and the same noise on a MODEL and on what was erased from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet, InputError, Provenance
from ..rece_ops.settings import check_strength
from ..rece_ops.texts import printable, quoted
from .host.connections import check_connection
from .host.errors import WrongConnectionError
from .host.protocols import Clip, Model, Vae
from .request.choices import check_choice
from .request.typed_text import content_lines
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import clip_input
from .schema.sockets import TEST, Eraser

if TYPE_CHECKING:
    from .host.jobs.compare_pictures import Sampling
    from .host.session import Session

GRID = "rece_grid"
BEFORE = "before"
_MOST = 4
_MOST_SEEDS = 16
_MOST_STRENGTHS = 8
_LABEL = 60


class CompareErasure(io.ComfyNode):
    """MODEL + erased MODELs or ERASERs + CLIP + VAE + prompts → a labelled grid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        from .host.jobs.sample import SAMPLERS, SCHEDULERS

        return build(
            io.Schema,
            node_id="RECE_CompareErasure",
            display_name="Compare Erasure (RECE)",
            category=TEST,
            description=(
                "Samples prompts on the model and on up to four erasures of it, always with the same noise, and shows the "
                "pictures side by side. Move the mouse over an erased picture to see what it was before."
            ),
            search_aliases=["before after", "grid", "XY plot", "side by side"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model without the erasure."),
                clip_input(),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                *(_erased(number) for number in range(1, _MOST + 1)),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    placeholder="a photo of a nude woman\na photo of a dog",
                    tooltip="One prompt a line: some with the concept and some that should stay as they are. '#' starts a comment.",
                ),
                io.String.Input("negative", default="", tooltip="The negative prompt of all pictures."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip="The seed of the first noise."),
                io.Int.Input(
                    "seeds",
                    default=1,
                    min=1,
                    max=_MOST_SEEDS,
                    tooltip="How many seeds for each prompt, counted up from the first.",
                ),
                io.String.Input(
                    "strengths",
                    default="1",
                    tooltip="For an ERASER: one picture for each of these strengths, separated by commas, such as 0.5, 1.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps, as on a KSampler."),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as on a KSampler."),
                io.Combo.Input("sampler_name", options=list(SAMPLERS), tooltip="The sampler, as on a KSampler."),
                io.Combo.Input("scheduler", options=list(SCHEDULERS), tooltip="The scheduler, as on a KSampler."),
                io.Int.Input(
                    "width", default=512, min=16, max=4096, step=8, tooltip="The width of a picture, in pixels."
                ),
                io.Int.Input(
                    "height", default=512, min=16, max=4096, step=8, tooltip="The height of a picture, in pixels."
                ),
            ],
            outputs=[
                io.Image.Output("grid", display_name="grid", tooltip="All pictures with their labels, as one picture."),
                io.Image.Output(
                    "pictures",
                    display_name="pictures",
                    is_output_list=True,
                    tooltip="The pictures one by one, row after row, as a list.",
                ),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        vae: Vae | None,
        prompts: str,
        negative: str,
        seed: int,
        seeds: int,
        strengths: str,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        width: int,
        height: int,
        **inputs: Any,
    ) -> io.NodeOutput:
        from .host.jobs.compare_pictures import Sampling, sample_pictures
        from .host.jobs.sample import SAMPLERS, SCHEDULERS
        from .host.session import Session
        from .reporting.grid import draw_grid

        check_choice("sampler_name", sampler_name, SAMPLERS)
        check_choice("scheduler", scheduler, SCHEDULERS)
        if not 1 <= seeds <= _MOST_SEEDS:
            raise InputError(f"'seeds' is {seeds}: give a number from 1 to {_MOST_SEEDS}.")
        sampling = Sampling(
            prompts=[prompt for _, prompt in content_lines("prompts", prompts)],
            negative=negative,
            seeds=range(seed, seed + seeds),
            steps=steps,
            cfg=cfg,
            sampler=sampler_name,
            scheduler=scheduler,
            width=width,
            height=height,
        )
        session = Session.open(model, clip, vae)
        columns = [(BEFORE, session.model), *_columns(session, inputs, _strengths(strengths))]
        pictures = sample_pictures([(one, clip) for _, one in columns], session.vae, sampling)
        grid = draw_grid(pictures, _row_labels(sampling), [label for label, _ in columns])
        saved = ui.PreviewImage(grid.image, cls=cls).as_dict()["images"]
        shown = {GRID: [{**grid.layout(), "image": dict(saved[0])}]}
        return io.NodeOutput(grid.image, [picture[None] for row in pictures for picture in row], ui=shown)


def _erased(number: int) -> io.Input:
    return io.MultiType.Input(
        f"erased_{number}",
        types=[io.Model, Eraser],
        optional=number > 1,
        tooltip="What to compare the model with: an erased MODEL, or an ERASER that is put on the model.",
    )


def _columns(session: Session, inputs: dict[str, Any], strengths: list[float]) -> list[tuple[str, Model]]:
    """Label and MODEL of everything that is connected; an ERASER once for each strength."""
    from .host.jobs.apply import apply_eraser, upstream_erasures

    found: list[tuple[str, Model]] = []
    for number in range(1, _MOST + 1):
        name = f"erased_{number}"
        erased = inputs.get(name)
        if isinstance(erased, EraserSet):
            for strength in strengths:
                label = _label(erased.provenance_as_applied(), name)
                suffix = f" at {strength:g}" if strengths != [1.0] else ""
                found.append((label + suffix, apply_eraser(session, erased, strength)))
        elif erased is not None:
            check_connection("MODEL", name, erased)
            told = upstream_erasures(erased)
            found.append((_label(told[-1], name) if told else name, erased))
    if not found:
        raise WrongConnectionError("'erased_1' is None: connect an erased MODEL or an ERASER.")
    return found


def _label(told: Provenance, name: str) -> str:
    concepts = printable(", ".join(told.erased()) or name, _LABEL)
    method = f"{printable(told.method, _LABEL)}: " if told.method else ""
    shape = f", {printable(told.shape, _LABEL)}" if told.shape else ""
    return f"{method}{concepts}{shape}"


def _row_labels(sampling: Sampling) -> list[str]:
    several = len(sampling.seeds) > 1
    return [f"{prompt} (seed {seed})" if several else prompt for prompt, seed in sampling.rows]


def _strengths(text: str) -> list[float]:
    """The numbers of a field.

    Raises:
        InputError: one is no number, or there are too many.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()] or ["1"]
    if len(parts) > _MOST_STRENGTHS:
        raise InputError(f"'strengths' has {len(parts)} numbers: give at most {_MOST_STRENGTHS}.")
    found = []
    for part in parts:
        try:
            found.append(float(part))
        except ValueError:
            raise InputError(
                f"'strengths' holds {quoted(part)}, which is no number: write '0.5, 1', for example."
            ) from None
        check_strength(found[-1])
    return found
