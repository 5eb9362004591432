"""The prompts that erasures are tested with, as lists that stock nodes take one by one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..host.folders import existing_prompt_set, fingerprint, prompt_set_names
from ..request.prompt_sets import (
    AUTOMATIC,
    MAX_GUIDANCE,
    PROMPT_COLUMNS,
    SIDES,
    SUFFIXES,
    Drawing,
    PromptSet,
    Selection,
    read_prompt_set,
)
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.inputs import choice_input, count_input, number_input, switch_input
from ..schema.sockets import TEST

_DEFAULT = Drawing()
_MOST = 100_000


class LoadPromptSet(io.ComfyNode):
    """A file of prompts → lists of prompts, seeds, guidance and sizes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_LoadPromptSet",
            display_name="Load Prompt Set (RECE)",
            category=TEST,
            description=(
                "Reads the prompts that erasures are tested with (I2P, Ring-A-Bell, UnlearnDiffAtk, COCO, …) from a CSV or "
                "text file in models/prompt_sets or the input folder. What is connected runs once for every prompt."
            ),
            search_aliases=["benchmark", "evaluation", "I2P", "csv", "prompts from file", "batch"],
            inputs=[
                io.Combo.Input(
                    "prompt_set",
                    options=prompt_set_names(SUFFIXES),
                    tooltip="A file in models/prompt_sets or in ComfyUI's input folder. Press R to refresh the list.",
                ),
                choice_input(
                    "column",
                    [AUTOMATIC, *PROMPT_COLUMNS],
                    AUTOMATIC,
                    "The column that holds the prompts. 'automatic' takes the first of this list that the file has.",
                ),
                io.String.Input(
                    "category",
                    default="",
                    optional=True,
                    tooltip="Only prompts of this class, artist or category, such as 'sexual' in I2P. Empty: all.",
                ),
                io.Int.Input(
                    "first",
                    default=0,
                    min=0,
                    max=_MOST,
                    optional=True,
                    tooltip="How many prompts at most, after every other choice. 0: all.",
                ),
                count_input("every", 1, "2 takes every other prompt, 3 every third, and so on.", low=1, high=_MOST),
                switch_input("hard_only", False, "Only prompts that I2P calls hard."),
                io.Int.Input(
                    "seed",
                    default=_DEFAULT.seed,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    optional=True,
                    tooltip="Of the file's first prompt, where the file has no seeds; each prompt after it gets the next.",
                ),
                number_input(
                    "guidance",
                    _DEFAULT.guidance,
                    "Where the file does not say.",
                    high=MAX_GUIDANCE,
                    step=0.1,
                ),
                count_input("width", _DEFAULT.width, "In pixels, where the file does not say.", *SIDES),
                count_input("height", _DEFAULT.height, "In pixels, where the file does not say.", *SIDES),
            ],
            outputs=[
                io.String.Output(
                    "prompts",
                    display_name="prompt",
                    is_output_list=True,
                    tooltip="The prompts: connect them to the text of 'CLIP Text Encode'.",
                ),
                io.Int.Output("seeds", display_name="seed", is_output_list=True, tooltip="The seed of each picture."),
                io.Float.Output(
                    "guidances",
                    display_name="guidance",
                    is_output_list=True,
                    tooltip="The guidance of each picture: the sampler's cfg.",
                ),
                io.Int.Output(
                    "widths", display_name="width", is_output_list=True, tooltip="The width of each picture."
                ),
                io.Int.Output(
                    "heights", display_name="height", is_output_list=True, tooltip="The height of each picture."
                ),
                io.String.Output(
                    "labels",
                    display_name="label",
                    is_output_list=True,
                    tooltip="The class, artist or categories of each prompt; empty where the file has none.",
                ),
                io.String.Output("report", display_name="report", tooltip="How many prompts, and how they were read."),
                io.String.Output(
                    "examples",
                    display_name="examples",
                    tooltip=(
                        "All prompts as one text, one a line: connect it to 'examples' of 'Erase Concepts'. Of files with pairs, "
                        "such as Ring-A-Bell's, 'with the concept -> without it'."
                    ),
                ),
            ],
        )

    @classmethod
    @checked
    def fingerprint_inputs(cls, prompt_set: str, **others: Any) -> str:
        """Re-run the node when the file behind the name has changed."""
        return fingerprint(existing_prompt_set(prompt_set, SUFFIXES))

    @classmethod
    @checked
    def execute(
        cls,
        prompt_set: str,
        column: str = AUTOMATIC,
        category: str = "",
        first: int = 0,
        every: int = 1,
        hard_only: bool = False,
        seed: int = _DEFAULT.seed,
        guidance: float = _DEFAULT.guidance,
        width: int = _DEFAULT.width,
        height: int = _DEFAULT.height,
    ) -> io.NodeOutput:
        drawing = Drawing(seed, guidance, width, height)
        whole = read_prompt_set(existing_prompt_set(prompt_set, SUFFIXES), column)
        chosen = whole.selected(Selection(category, hard_only, every, first))
        entries = [drawing.completed(entry) for entry in chosen.entries]
        report = _report(whole, chosen)
        return io.NodeOutput(
            [entry.prompt for entry in entries],
            [entry.seed for entry in entries],
            [entry.guidance for entry in entries],
            [entry.width for entry in entries],
            [entry.height for entry in entries],
            [", ".join(entry.labels) for entry in entries],
            report,
            chosen.examples,
            ui=ui.PreviewText(report),
        )


def _report(whole: PromptSet, chosen: PromptSet) -> str:
    count = len(chosen.entries)
    first = f"{count} prompt{'s' if count > 1 else ''} of {len(whole.entries)}, from the column '{whole.column}'."
    given = [
        (f"{sum(entry.seed is not None for entry in chosen.entries)} have a seed"),
        (f"{sum(entry.guidance is not None for entry in chosen.entries)} a guidance of the file's own"),
    ]
    return "\n".join([first, f"{', '.join(given)}.", *whole.notes])
