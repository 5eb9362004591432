"""An eraser that takes out the numbers of feed-forward layers that a concept uses (ConceptPrune, arXiv:2405.19237)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import comfy.model_management
import torch

from ....rece_ops import EraserSet, InputError, Provenance, SparseChange, SparseNumbers, __version__
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.methods.pruning import PairedNorms, check_share, pruned_numbers, pruned_places
from ....rece_ops.provenance import cleaned
from ....rece_ops.texts import quoted
from ...request.concept_lines import ConceptLine
from ...request.everyday_prompts import HELD_OUT
from ...request.pruning_request import PruningRequest
from ..errors import NotFiniteError
from ..patching.weights import effective_weight
from ..progress import JobProgress, PictureProgress
from ..session import Session
from ..training.drift import PredictedDrift
from ..training.layers import TrainedLayers, sparse_differences
from ..training.neurons import NeuronNorms, feed_forward_outputs
from ..training.pictures import make_pictures
from ..training.prompts import check_one_window
from .plain_unet import check_plain, check_unet

PRUNED = "pruned"
PART = "pruned"
"""The name of the part in an ERASER."""

_WAY = "pruning"
# So many pairs of each concept are looked at again for the drift.
_MEASURED = 4
_BLOCK = re.compile(r"diffusion_model\.(\w+?)s?\.(\d+)\.")


@dataclass(frozen=True)
class Pruned:
    """What came of a pruning.

    Attributes:
        eraser: the ERASER.
        counts: how many numbers were pruned, and of how many, by the block of the UNet.
        drifts: see `PredictedDrift`; of the concepts' prompts, of the bases' and of held-out everyday prompts.
        pairs: of pictures that were looked at.
        seconds: that it took.
        device: where it ran.
    """

    eraser: EraserSet
    counts: Mapping[str, tuple[int, int]]
    drifts: Mapping[str, float]
    pairs: int
    seconds: float
    device: torch.device


def prune_concepts(session: Session, request: PruningRequest) -> Pruned:
    """An ERASER for `request`; MODEL and CLIP are not changed, however it ends.

    Raises:
        InputError: a share is less than one number, a prompt is too long, nothing is found, or memory does not suffice.
        NotFiniteError: the MODEL's activations are not finite.
        UnsupportedModelError: MODEL is no UNet in plain floating point.
        WrongConnectionError: CLIP is missing.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel.
    """
    check_unet(session, _WAY)
    shapes = feed_forward_outputs(session.model)
    check_plain(session, shapes, _WAY)
    check_share(request.settings.share, {key: columns for key, (_, columns) in shapes.items()})
    prompts = {
        side: [getattr(pair, side) for line in request.concepts for pair in request.pairs(line)] for side in _SIDES
    }
    check_one_window(session, list(dict.fromkeys([*prompts["concept"], *prompts["anchor"], ""])))
    started = time.perf_counter()
    progress = JobProgress(look=10, choose=2, measure=2)
    try:
        norms = [
            _paired_norms(session, request, line, shapes, progress, (place, len(request.concepts)))
            for place, line in enumerate(request.concepts)
        ]
        change = _chosen(session, request, shapes, norms, progress.part("choose"))
        drifts = _drifts(session, request, change, progress)
    except comfy.model_management.OOM_EXCEPTION:
        raise InputError(
            "There is not enough memory to look at these pictures: lower 'size'. MODEL and CLIP are as they were."
        ) from None
    return Pruned(
        EraserSet({PART: change}, _provenance(session, request)),
        _counts(shapes, change),
        drifts,
        request.pictures.concept * len(request.concepts),
        time.perf_counter() - started,
        session.model.load_device,
    )


_SIDES = ("concept", "anchor")


def _paired_norms(
    session: Session,
    request: PruningRequest,
    line: ConceptLine,
    shapes: Mapping[str, tuple[int, int]],
    progress: JobProgress,
    turn: tuple[int, int],
) -> dict[str, PairedNorms]:
    """The norms of every layer, of pictures of the concept and of its base from the same noise."""
    settings, (place, count) = request.settings, turn
    sides = []
    for number, side in enumerate(_SIDES):
        found = NeuronNorms(session.model, {key: shape[1] for key, shape in shapes.items()}, settings.first_steps)
        prompts = [getattr(pair, side) for pair in request.pairs(line)]
        report = progress.part("look", 2 * place + number, 2 * count)
        with found.listening():
            make_pictures(session, prompts, request.pictures, settings.seed, report, settings.first_steps, found.begin)
        sides.append(found)
    concept, base = sides
    norms = {key: PairedNorms(concept.norms(key), base.norms(key)) for key in shapes}
    if not all(is_finite(one) for pair in norms.values() for one in pair):
        raise NotFiniteError(
            f"The MODEL's activations for {quoted(line.concept)} hold NaN or infinite values: load it in float32 or bfloat16."
        )
    return norms


def _chosen(
    session: Session,
    request: PruningRequest,
    shapes: Mapping[str, tuple[int, int]],
    norms: Sequence[Mapping[str, PairedNorms]],
    progress: PictureProgress,
) -> SparseChange:
    settings, found = request.settings, dict[str, SparseNumbers]()
    generator = torch.Generator().manual_seed(settings.seed)
    for done, key in enumerate(shapes, start=1):
        weight = effective_weight(session.model, key, session.model.load_device)
        places = pruned_places(weight, [one[key] for one in norms], settings.share)
        if len(places):
            found[key] = pruned_numbers(weight, places, settings.fill, generator)
        progress(done, len(shapes), "choosing neurons")
    if not found:
        pairs = ", ".join(f"{quoted(line.concept)} and {quoted(line.target)}" for line in request.concepts)
        raise InputError(
            f"No neuron is more active for the concept than for its base ({pairs}): connect the MODEL before any erasure, and a "
            "CLIP that belongs to it."
        )
    return SparseChange(found)


def _drifts(session: Session, request: PruningRequest, change: SparseChange, progress: JobProgress) -> dict[str, float]:
    """How far predictions move, by what the prompts say."""
    pairs = [pair for line in request.concepts for pair in request.pairs(line)[:_MEASURED]]
    groups = {
        "concept": list(dict.fromkeys(pair.concept for pair in pairs)),
        "base": list(dict.fromkeys(pair.anchor for pair in pairs)),
        "held-out": list(HELD_OUT),
    }
    device, found = session.model.load_device, {}
    differences = sparse_differences(session.model, change, device)
    layers = TrainedLayers(session.model, {key: (difference,) for key, difference in differences.items()})
    with layers.attached():
        for turn, (name, prompts) in enumerate(groups.items()):
            drift = PredictedDrift(layers)
            watched = session.on(drift.watching(session.model))
            report = progress.part("measure", turn, len(groups))
            make_pictures(
                watched, prompts, request.pictures, request.settings.seed, report, request.settings.first_steps
            )
            found[name] = drift.value
    return found


def _counts(shapes: Mapping[str, tuple[int, int]], change: SparseChange) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for key, (rows, columns) in shapes.items():
        match = _BLOCK.match(key)
        block = " ".join(match.groups()).replace("_", " ") if match else key
        own = len(change.changes[key].places) if key in change.changes else 0
        before = found.get(block, (0, 0))
        found[block] = (before[0] + own, before[1] + rows * columns)
    return found


def _provenance(session: Session, request: PruningRequest) -> Provenance:
    return Provenance(
        method=PRUNED,
        concepts=tuple(cleaned(line.concept) for line in request.concepts),
        targets=tuple(cleaned(line.target) for line in request.concepts),
        weights=tuple(line.weight for line in request.concepts),
        settings={**request.settings.as_dict(), "pictures": request.pictures.concept},
        architecture=session.architecture.name,
        pack_version=__version__,
    )
