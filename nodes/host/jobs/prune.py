"""An eraser that takes out the numbers of feed-forward layers that a concept uses (ConceptPrune, arXiv:2405.19237).

With adversaries also those by which learned contexts bring it back (after P-ESD, arXiv:2405.16534).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import comfy.model_management
import torch

from ....rece_ops import EraserSet, InputError, Provenance, SparseChange, SparseNumbers, __version__
from ....rece_ops.methods.pruning import check_share, pruned_numbers, pruned_places, united_places
from ....rece_ops.provenance import cleaned
from ....rece_ops.texts import quoted
from ...request.everyday_prompts import HELD_OUT
from ...request.pruning_request import PruningRequest
from ..patching.weights import effective_weight
from ..progress import JobProgress, PictureProgress
from ..session import Session
from ..training.drift import PredictedDrift
from ..training.layers import TrainedLayers, sparse_differences
from ..training.neurons import feed_forward_outputs
from ..training.pictures import make_pictures
from ..training.prompts import check_one_window
from .look_at_neurons import Look, Looked
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
        found_by_adversaries: how many of them were found with adversaries only.
        drifts: see `PredictedDrift`; of the concepts' prompts, of the bases' and of held-out everyday prompts.
        pairs: of pictures that were looked at.
        seconds: that it took.
        device: where it ran.
    """

    eraser: EraserSet
    counts: Mapping[str, tuple[int, int]]
    found_by_adversaries: int
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
    check_one_window(session, list(dict.fromkeys([*request.prompts(), ""])))
    adversaries, keys = request.settings.adversaries, list(shapes)
    started = time.perf_counter()
    progress = JobProgress(look=10, choose=1, attack=10 * adversaries, choose_again=1, measure=2)
    look = Look(session, request, shapes, progress)
    try:
        plain = [look.plain(line) for line in request.concepts]
        change = first = _chosen(session, request, keys, progress.part("choose"), plain)
        if adversaries:
            layers = _attached(session, first)
            with layers.attached():
                attacked = [look.under_attack(line, layers) for line in request.concepts]
            change = _chosen(session, request, keys, progress.part("choose_again"), plain, first, attacked)
        drifts = _drifts(session, request, change, progress)
    except comfy.model_management.OOM_EXCEPTION:
        raise InputError(
            "There is not enough memory to look at these pictures: lower 'size'. MODEL and CLIP are as they were."
        ) from None
    return Pruned(
        EraserSet({PART: change}, _provenance(session, request)),
        _counts(shapes, change),
        change.count - first.count,
        drifts,
        request.pictures.concept * len(request.concepts),
        time.perf_counter() - started,
        session.model.load_device,
    )


def _chosen(
    session: Session,
    request: PruningRequest,
    keys: Sequence[str],
    progress: PictureProgress,
    plain: Sequence[Looked],
    first: SparseChange | None = None,
    attacked: Sequence[Looked] = (),
) -> SparseChange:
    """Which numbers of each layer are pruned, and what becomes of them; one layer at a time is in float32.

    Args:
        session, request: with MODEL; what was asked for.
        keys: of the layers' weights.
        progress: told of every layer.
        plain: what was seen of every concept with its own prompts.
        first: what is pruned by that alone, where adversaries were learned against it.
        attacked: what was seen of every concept with them.

    Raises:
        InputError: nothing is more active for a concept.
    """
    settings, found = request.settings, dict[str, SparseNumbers]()
    generator = torch.Generator().manual_seed(settings.seed)
    for done, key in enumerate(keys, start=1):
        weight = effective_weight(session.model, key, session.model.load_device)
        places = pruned_places(weight, [one.norms[key] for one in plain], settings.share)
        if first is not None:
            standing = weight + first.of_weight(key, weight) if key in first.changes else weight
            more = pruned_places(standing, [one.norms[key] for one in attacked], settings.share)
            places = united_places(places, more)
        if len(places):
            directions = torch.cat([one.directions[key] for one in (*plain, *attacked)])
            found[key] = pruned_numbers(weight, places, settings.fill, generator, directions)
        progress(done, len(keys), "choosing neurons")
    if not found:
        pairs = ", ".join(f"{quoted(line.concept)} and {quoted(line.target)}" for line in request.concepts)
        raise InputError(
            f"No neuron is more active for the concept than for its base ({pairs}): connect the MODEL before any erasure, and a "
            "CLIP that belongs to it."
        )
    return SparseChange(found)


def _attached(session: Session, change: SparseChange) -> TrainedLayers:
    """The layers with `change`, on the device."""
    differences = sparse_differences(session.model, change, session.model.load_device)
    return TrainedLayers(session.model, {key: (difference,) for key, difference in differences.items()})


def _drifts(session: Session, request: PruningRequest, change: SparseChange, progress: JobProgress) -> dict[str, float]:
    """How far predictions move, by what the prompts say."""
    pairs = [pair for line in request.concepts for pair in request.pairs(line)[:_MEASURED]]
    groups = {
        "concept": list(dict.fromkeys(pair.concept for pair in pairs)),
        "base": list(dict.fromkeys(pair.anchor for pair in pairs)),
        "held-out": list(HELD_OUT),
    }
    found, layers = {}, _attached(session, change)
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
