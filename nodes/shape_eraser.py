"""An ERASER that counts only in part of a model, or in part of the steps."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..rece_ops import POOLED_STREAM, Eraser, EraserSet, InputError, Part, Schedule, Shape
from ..rece_ops.schedule import CURVES, STEADY
from ..rece_ops.texts import QUOTED, printable, quoted
from .request.block_lines import MOST, check_range, parse_blocks
from .request.choices import check_choice
from .schema.checked import checked
from .schema.compat import build
from .schema.inputs import (
    choice_input,
    connected,
    eraser_input,
    number_input,
    schedule_inputs,
    strength_input,
    text_input,
)
from .schema.sockets import ERASE
from .schema.sockets import Eraser as EraserSocket


class ShapeEraser(io.ComfyNode):
    """ERASER → ERASER with strengths by block, key, value and step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_ShapeEraser",
            display_name="Shape Eraser (RECE)",
            category=ERASE,
            description=(
                "Says where in the model and in which steps an erasure counts: by block, in keys or values, from one step to "
                "another. Several of these nodes in a row multiply. Whether less of an erasure still erases, only pictures show."
            ),
            search_aliases=["block weight", "schedule", "timestep", "strength"],
            inputs=[
                eraser_input(),
                strength_input("strength", "How much of the whole erasure: 0 is none, 1 is all.", optional=True),
                *schedule_inputs(),
                choice_input(
                    "curve",
                    CURVES,
                    STEADY,
                    "steady: the same strength from start to end. rising: from none at the start to all at the end, in 10 levels. "
                    "falling: the reverse.",
                ),
                _strength("input_blocks", "In the blocks before the middle one, of Stable Diffusion 1, 2 and XL."),
                _strength("middle_block", "In the middle block, of Stable Diffusion 1, 2 and XL."),
                _strength("output_blocks", "In the blocks after the middle one, of Stable Diffusion 1, 2 and XL."),
                _strength("keys", "In weights that give keys: where in the picture a word is looked for."),
                _strength("values", "In weights that give values: what a word puts there."),
                io.String.Input(
                    "blocks",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="input 4: 0.5\noutput 3-5: 0",
                    tooltip="Single blocks, one a line, with their strengths; without a number it is 1. They go before the three "
                    "inputs for groups of blocks. Models without these groups have 'block 0', 'block 1' and so on.",
                ),
                _strength(
                    "pooled",
                    "In the pooled text embedding, where the model reads one: 0 leaves it alone.",
                    advanced=True,
                ),
                _strength(
                    "other_weights",
                    "In weights that read no text, which trained and imported erasers change.",
                    advanced=True,
                ),
                text_input(
                    "streams",
                    "Which text streams to erase from, separated by commas, as the eraser's description names them. Empty: all of "
                    "them.",
                ),
            ],
            outputs=[
                EraserSocket.Output(
                    "shaped", display_name="eraser", tooltip="The erasure with its shape, to apply or to save."
                )
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        eraser: EraserSet | None,
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        curve: str = STEADY,
        input_blocks: float = 1.0,
        middle_block: float = 1.0,
        output_blocks: float = 1.0,
        keys: float = 1.0,
        values: float = 1.0,
        blocks: str = "",
        pooled: float = 1.0,
        other_weights: float = 1.0,
        streams: str = "",
    ) -> io.NodeOutput:
        from .reporting.sentences import eraser_description

        present = connected(eraser)
        check_choice("curve", curve, CURVES)
        for name, value in {
            "strength": strength,
            "input_blocks": input_blocks,
            "middle_block": middle_block,
            "output_blocks": output_blocks,
            "keys": keys,
            "values": values,
            "pooled": pooled,
            "other_weights": other_weights,
        }.items():
            check_range(name, value)
        groups = {"input": input_blocks, "middle": middle_block, "output": output_blocks}
        schedule = Schedule.between(start_percent, end_percent, curve)
        shape = Shape({**groups, **parse_blocks(blocks)}, keys, values, other_weights, schedule)
        parts = _scaled(present, strength, pooled, _chosen(present, streams))
        told = present.provenance
        if strength != 1:
            told = replace(told, strength=strength * (1.0 if told.strength is None else told.strength))
        shaped = EraserSet(parts, told, present.notes, present.shape).shaped(shape)
        return io.NodeOutput(shaped, ui=ui.PreviewText(eraser_description(shaped)))


def _strength(name: str, tooltip: str, advanced: bool = False) -> io.Input:
    return number_input(name, 1.0, f"{tooltip} 0 is none of the erasure, 1 is all.", 0.0, MOST, 0.01, advanced)


def _chosen(eraser: EraserSet, streams: str) -> set[str]:
    """The names of the text streams that are to be erased from, the pooled one aside.

    Raises:
        InputError: the ERASER has no such stream.
    """
    known = [name for name in eraser.transforms if name != POOLED_STREAM]
    chosen = [name for part in streams.split(",") if (name := part.strip())] or known
    for name in chosen:
        if name not in known:
            listed = printable(", ".join(known), QUOTED) or "none but the pooled one"
            raise InputError(f"'streams' names {quoted(name)}, but the text streams of this ERASER are {listed}.")
    return set(chosen)


def _scaled(eraser: EraserSet, strength: float, pooled: float, streams: set[str]) -> dict[str, Part]:
    """The parts at their strengths; a text stream that is left alone keeps a part that does nothing, by which the eraser is
    known to be for the model.

    Raises:
        InputError: there is no pooled stream to give a strength, or nothing is left.
    """
    if pooled != 1 and POOLED_STREAM not in eraser.transforms:
        raise InputError(f"'pooled' is {pooled:g}, but this ERASER has no pooled text stream: leave it at 1.")
    found: dict[str, Part] = {}
    for name, part in eraser.items():
        if name == POOLED_STREAM:
            if pooled != 0:
                found[name] = part.scaled(strength * pooled)
        elif isinstance(part, Eraser) and name not in streams:
            found[name] = Eraser.identity(part.dimension, part.dtype, part.device)
        else:
            found[name] = part.scaled(strength)
    if not found or strength == 0:
        raise InputError("Nothing is left of the ERASER: raise 'strength', or the strength of what should count.")
    return found
