"""The same prompts and seeds with the model before and after an erasure, looked at by a detector: a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...rece_ops import InputError
from ...rece_ops.measures.means import mean_with_error
from ...rece_ops.measures.rates import Rate
from ...rece_ops.texts import plain_json, printable
from ..host.detectors.detector import Detected, Detector
from ..host.detectors.nudity import DEFAULT_THRESHOLD
from ..host.detectors.zero_shot import ClipSpace
from ..host.errors import WrongConnectionError
from ..host.folders import existing_prompt_set, fingerprint, prompt_set_names
from ..host.jobs.sample import Sampling
from ..host.progress import JobProgress
from ..host.protocols import Clip, Model, Vae
from ..request.choices import check_choice
from ..request.prompt_sets import SUFFIXES, Drawing, PromptEntry, Selection, read_prompt_set
from ..schema.checked import checked
from ..schema.compat import build
from ..schema.files import NO_FILE
from ..schema.inputs import clip_input, count_input
from ..schema.sockets import TEST
from .detectors import classifier_input, concept_inputs, detector_clip_input, detector_input, detector_of
from .sampling import sampler_inputs

if TYPE_CHECKING:
    from ..host.jobs.sample import Sampler

_DEFAULT, _SAMPLING = Drawing(), Sampling()
MOST = 200
"""Pictures are in memory until the end; `python -m tools.evaluate` is for more."""
_SIDE = 256


class EvaluateErasure(io.ComfyNode):
    """Two MODELs + CLIP + VAE + prompts + detector → table, pictures, JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="RECE_EvaluateErasure",
            display_name="Evaluate Erasure (RECE)",
            category=TEST,
            description=(
                "Samples the same prompts and seeds with the model before and after an erasure, and counts with a detector how "
                "many pictures show the concept. For a few dozen prompts; it takes as long as sampling them twice."
            ),
            search_aliases=["benchmark", "attack success rate", "before after", "I2P"],
            inputs=[
                io.Model.Input("model", tooltip="The model without the erasure."),
                io.Model.Input("erased", tooltip="The model with it."),
                clip_input(),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Combo.Input(
                    "prompt_set",
                    options=prompt_set_names(SUFFIXES),
                    tooltip="A file in models/prompt_sets or in ComfyUI's input folder: see 'Load Prompt Set'.",
                ),
                detector_input(),
                *concept_inputs("With detector_clip, the report also has the CLIP scores."),
                detector_clip_input(),
                classifier_input(),
                io.String.Input(
                    "category", default="", optional=True, tooltip="Only prompts of this class, artist or category."
                ),
                io.Int.Input(
                    "first", default=8, min=1, max=MOST, optional=True, tooltip="How many prompts of the set at most."
                ),
                count_input("every", 1, "2 takes every other prompt, 3 every third, and so on.", low=1, high=100_000),
                *sampler_inputs(
                    "Where the file does not say.", "Width and height in pixels, where the file does not say."
                ),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="Both rates, and a table in Markdown."),
                io.Image.Output(
                    "strip",
                    display_name="images",
                    tooltip="For each prompt the picture before above the one after; a red frame where the concept is shown.",
                ),
                io.String.Output("json", display_name="json", tooltip="Every picture's result for programs."),
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
        model: Model | None,
        erased: Model | None,
        clip: Clip | None,
        vae: Vae | None,
        prompt_set: str,
        detector: str,
        concept: str = "",
        others: str = "",
        threshold: float = DEFAULT_THRESHOLD,
        clip_vision: Any = None,
        detector_clip: Clip | None = None,
        classifier: str = NO_FILE,
        category: str = "",
        first: int = 8,
        every: int = 1,
        steps: int = _SAMPLING.steps,
        sampler: str = _SAMPLING.sampler,
        scheduler: str = _SAMPLING.scheduler,
        negative: str = "",
        guidance: float = _DEFAULT.guidance,
        size: int = _DEFAULT.width,
    ) -> io.NodeOutput:
        from ..host.jobs.sample import SAMPLERS, SCHEDULERS, Sampler
        from ..reporting.detection import detection_record

        present = {"MODEL": model, "erased MODEL": erased, "CLIP": clip, "VAE": vae}
        missing = [name for name, value in present.items() if value is None]
        if missing or model is None or erased is None or clip is None or vae is None:
            raise WrongConnectionError(f"{', '.join(missing)} is None: connect the outputs of a checkpoint loader.")
        check_choice("sampler", sampler, SAMPLERS)
        check_choice("scheduler", scheduler, SCHEDULERS)
        if not 1 <= first <= MOST or not 1 <= steps <= 1000:
            raise InputError(f"'first' is {first} and 'steps' is {steps}: give 1 to {MOST}, and 1 to 1000.")
        drawing = Drawing(0, guidance, size, size)
        chosen = read_prompt_set(existing_prompt_set(prompt_set, SUFFIXES)).selected(
            Selection(category, every=every, first=first)
        )
        looks = detector_of(detector, concept, others, threshold, clip_vision, detector_clip, classifier)
        space = None if clip_vision is None or detector_clip is None else ClipSpace(clip_vision, detector_clip)
        entries = [drawing.completed(entry) for entry in chosen.entries]
        sampled = Sampler(clip, vae, Sampling(steps, sampler, scheduler, negative))
        progress = JobProgress(before=1, after=1)
        before = _look(looks, sampled, model, entries, progress, "before")
        after = _look(looks, sampled, erased, entries, progress, "after")
        scores = {} if space is None else {"before": _fit(space, before, entries), "after": _fit(space, after, entries)}
        report = _report(looks, [result for _, result in before], [result for _, result in after], entries, scores)
        record = {
            **({"clip_scores": scores} if scores else {}),
            "prompts": [{"prompt": entry.prompt, "seed": entry.seed} for entry in entries],
            "before": detection_record(looks, [result for _, result in before]),
            "after": detection_record(looks, [result for _, result in after]),
        }
        return io.NodeOutput(report, _strip(before, after), plain_json(record, indent=1), ui=ui.PreviewText(report))


Looked = tuple[Tensor, Detected]


def _look(
    detector: Detector, sampler: Sampler, model: Model, entries: Sequence[PromptEntry], progress: JobProgress, part: str
) -> list[Looked]:
    found: list[Looked] = []
    step = progress.part(part)
    for done, entry in enumerate(entries, start=1):
        picture = sampler.picture(model, entry)
        found.append((picture[0], detector.detect(picture)[0]))
        step(done, len(entries), part)
    return found


def _fit(space: ClipSpace, looked: Sequence[Looked], entries: Sequence[PromptEntry]) -> list[float]:
    """Of each picture, how well it fits its prompt."""
    return [
        score
        for (picture, _), entry in zip(looked, entries, strict=True)
        for score in space.scores(picture[None], [entry.prompt])
    ]


def _strip(before: Sequence[Looked], after: Sequence[Looked]) -> Tensor:
    """[n, height, width, 3]: each prompt's pictures above each other, all scaled to one size."""
    from ..reporting.detection import annotated

    pairs = []
    for pair in zip(before, after, strict=True):
        drawn = [annotated(picture, result).movedim(-1, 0)[None] for picture, result in pair]
        scaled = [torch.nn.functional.interpolate(one, (_SIDE, _SIDE), mode="area")[0] for one in drawn]
        pairs.append(torch.cat(scaled, dim=1).movedim(0, -1))
    return torch.stack(pairs)


def _report(
    detector: Detector,
    before: Sequence[Detected],
    after: Sequence[Detected],
    entries: Sequence[PromptEntry],
    scores: Mapping[str, Sequence[float]],
) -> str:
    from ..reporting.detection import rate_sentence

    rates = {name: Rate.of(one.shown for one in found) for name, found in (("before", before), ("after", after))}
    lines = [f"{name}: {rate_sentence(rate)}" for name, rate in rates.items()]
    lines += [_compared(rates["before"], rates["after"]), f"A picture counts if {detector.rule}."]
    lines += [_scores_sentence(scores), ""] if scores else [""]
    lines += ["| prompt | seed | before | after |", "| --- | --- | --- | --- |"]
    for entry, one, other in zip(entries, before, after, strict=True):
        prompt = printable(entry.prompt, 60).replace("|", "/")
        lines.append(f"| {prompt} | {entry.seed} | {_mark(one)} | {_mark(other)} |")
    return "\n".join(lines)


def _compared(before: Rate, after: Rate) -> str:
    if before.hits == 0:
        return "The model shows the concept in none of these pictures even before the erasure: take other prompts."
    if after.interval()[1] < before.interval()[0]:
        return "The intervals lie apart: the erasure made the difference."
    return "The intervals overlap: take more prompts before you say that the erasure made a difference."


def _scores_sentence(scores: Mapping[str, Sequence[float]]) -> str:
    told = []
    for name, values in scores.items():
        mean, error = mean_with_error(values)
        told.append(f"{name} {mean:.2f}" + ("" if error is None else f" ± {error:.2f}"))
    count = len(scores["before"])
    return (
        f"CLIP score: {', '.join(told)} (100 times the cosine of picture and prompt; mean and standard error of {count} "
        f"picture{'s' if count > 1 else ''} each). Of prompts that name the concept it should fall, of others it should not."
    )


def _mark(one: Detected) -> str:
    return f"{'shown' if one.shown else '–'} {one.score:.2f}"
