"""Finds what belongs to a concept, what is near and must be spared, and where to send it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..rece_ops import EraserSet
from .host.folders import existing_prompt_set, fingerprint, prompt_set_names
from .host.protocols import Clip, Model
from .request.prompt_sets import SUFFIXES, read_prompt_set
from .request.suggestion_request import (
    ALIKE,
    DEFAULT_VOCABULARY,
    LEAK,
    LIST_NAMES,
    NO_LIST,
    VOCABULARIES,
    suggestion_request,
)
from .schema.checked import checked
from .schema.compat import build
from .schema.files import NO_FILE
from .schema.inputs import choice_input, clip_input, count_input, number_input
from .schema.sockets import ERASE, Eraser

_MOST = 200


class SuggestConcepts(io.ComfyNode):
    """MODEL + CLIP + concepts (+ ERASER) → lines for Erase Concepts, report, figure."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_SuggestConcepts",
            display_name="Suggest Concepts (RECE)",
            category=ERASE,
            description=(
                "Looks at every word that the text encoder knows, and finds those that say the same as a concept (to erase with it), "
                "those that are near (to preserve), and a word to send it to. With an eraser, it finds the words that still bring "
                "the concept back. The first run takes minutes; later ones read a cache in the user folder."
            ),
            search_aliases=["synonyms", "vocabulary", "neighbours", "leak scan", "paraphrases"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model without the erasure."),
                clip_input(),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="nudity",
                    tooltip="What is to be erased, one concept a line, as in 'Erase Concepts'. A typed target is kept.",
                ),
                Eraser.Input(
                    "eraser",
                    optional=True,
                    tooltip="An erasure to look through: words that still have a share of a concept are added to 'concepts'.",
                ),
                choice_input(
                    "vocabulary",
                    list(VOCABULARIES),
                    DEFAULT_VOCABULARY,
                    "How many of the text encoder's own whole words to look at.",
                ),
                choice_input(
                    "word_list",
                    list(LIST_NAMES),
                    NO_LIST,
                    "Words of a list that comes with the pack, in addition.",
                ),
                io.String.Input(
                    "words",
                    multiline=True,
                    default="",
                    optional=True,
                    placeholder="naked\nunclothed",
                    tooltip="Words and phrases of your own to look at, one a line.",
                ),
                choice_input(
                    "word_file",
                    [NO_FILE, *prompt_set_names(SUFFIXES)],
                    NO_FILE,
                    "More of them from a file in models/prompt_sets or the input folder: a text a line, or a table with prompts.",
                    advanced=True,
                ),
                number_input(
                    "likeness",
                    ALIKE,
                    "A word at least that like a concept is erased with it. Lower finds more words, and more that say something else.",
                    low=0.01,
                    high=1.0,
                    step=0.01,
                ),
                number_input(
                    "leak",
                    LEAK,
                    "With an eraser: a word that keeps at least that share of a concept leaks.",
                    low=0.01,
                    high=1.0,
                    step=0.01,
                ),
                count_input("most_erased", 20, "How many words of each concept to erase at most.", high=_MOST),
                count_input("most_preserved", 50, "How many words near each concept to preserve at most.", high=_MOST),
            ],
            outputs=[
                io.String.Output(
                    "erase",
                    display_name="concepts",
                    tooltip="The concepts and what says the same, with targets. Connect it to 'concepts' of Erase Concepts.",
                ),
                io.String.Output(
                    "keep",
                    display_name="preserve",
                    tooltip="What is near. Connect it to 'preserve' of Erase Concepts.",
                ),
                io.String.Output(
                    "targets",
                    display_name="targets",
                    tooltip="The concepts with their targets, without any other word.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What was looked at and found, with numbers."
                ),
                io.Image.Output("figure", display_name="figure", tooltip="The same as bars (needs matplotlib)."),
            ],
        )

    @classmethod
    @checked
    def fingerprint_inputs(cls, word_file: str = NO_FILE, **others: Any) -> str:
        """Re-run the node when the file behind the name has changed."""
        return NO_FILE if word_file == NO_FILE else fingerprint(existing_prompt_set(word_file, SUFFIXES))

    @classmethod
    @checked
    def execute(
        cls,
        model: Model | None,
        clip: Clip | None,
        concepts: str,
        eraser: EraserSet | None = None,
        vocabulary: str = DEFAULT_VOCABULARY,
        word_list: str = NO_LIST,
        words: str = "",
        word_file: str = NO_FILE,
        likeness: float = ALIKE,
        leak: float = LEAK,
        most_erased: int = 20,
        most_preserved: int = 50,
    ) -> io.NodeOutput:
        from .host.jobs.suggest import suggest
        from .host.session import Session
        from .reporting.suggestions import (
            concept_lines,
            preserve_lines,
            suggestion_figure,
            suggestion_report,
            target_lines,
        )

        from_file = () if word_file == NO_FILE else _words_of(word_file)
        inputs = {
            "vocabulary": vocabulary,
            "word_list": word_list,
            "words": words,
            "likeness": likeness,
            "leak": leak,
            "most_erased": most_erased,
            "most_preserved": most_preserved,
        }
        request = suggestion_request(concepts, inputs, from_file)
        suggestions = suggest(Session.open(model, clip), request, eraser)
        report = suggestion_report(request, suggestions)
        return io.NodeOutput(
            concept_lines(suggestions),
            preserve_lines(suggestions),
            target_lines(suggestions),
            report,
            suggestion_figure(suggestions),
            ui=ui.PreviewText(report),
        )


def _words_of(name: str) -> list[str]:
    """The texts of a prompt set, each once."""
    entries = read_prompt_set(existing_prompt_set(name, SUFFIXES)).entries
    return list(dict.fromkeys(entry.prompt.strip() for entry in entries))
