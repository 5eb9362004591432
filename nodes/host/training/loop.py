"""What every training of an eraser does around its own steps: go on until the end, Cancel or NaN, and say what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import comfy.model_management
import torch
from torch import Tensor

from ....rece_ops import EraserSet, InputError, Provenance, __version__
from ....rece_ops.provenance import cleaned
from ....rece_ops.training.record import Record
from ....rece_ops.training.state import TrainingState
from ...request.training_request import TrainingRequest
from ..folders import default_name, training_to_save
from ..log import tell
from ..progress import PictureProgress
from ..session import Session
from .denoiser import LOSS_SCALE

# How memory is used does not change what is learned: whoever ran out of it may go on with other values.
_MEMORY = ("pictures_at_once", "low_memory")
# So many steps in a row without finite gradients, and nothing will come of it.
_MOST_SKIPPED = 20


class Training(Protocol):
    """A training of some method, on the device."""

    @property
    def record(self) -> Record:
        """Of the steps so far."""
        ...

    def check(self) -> None:
        """Raise InputError where there is nothing to learn."""
        ...

    def step(self) -> None:
        """The next step; where it is cancelled, nothing that is learned has changed."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, on the CPU."""
        ...


def run_steps(training: Training, steps: int, told: Mapping[str, Any], progress: PictureProgress) -> None:
    """All steps that are left.

    Args:
        training: does them.
        steps: how many there are in all.
        told: what the training is recognised by when it is to be gone on with.
        progress: told of every step.

    Raises:
        InputError: there is nothing to learn, or not enough memory.
        comfy.model_management.InterruptProcessingException: the person pressed Cancel; where the training stands is saved.
    """
    record = training.record
    try:
        training.check()
        while record.steps < steps and not record.stopped:
            progress(record.steps, steps, "training")
            training.step()
    except comfy.model_management.InterruptProcessingException:
        _save(told, record, training.tensors())
        raise
    except comfy.model_management.OOM_EXCEPTION:
        raise InputError(
            "There is not enough memory to train on pictures of this 'size', even one at a time: lower it, or turn 'low_memory' on. "
            "MODEL and CLIP are as they were."
        ) from None


def shapes_of(training: Training) -> dict[str, torch.Size]:
    """Of all tensors of its state."""
    return {name: tensor.shape for name, tensor in training.tensors().items()}


def step_generator(seed: int, turn: int) -> torch.Generator:
    """Of one step: what it draws does not depend on the steps before it, so that a training can be gone on with."""
    return torch.Generator().manual_seed((seed * 1_000_003 + turn) % 2**63)


def update(
    optimizer: torch.optim.Optimizer, losses: Tensor, record: Record, rate: float, largest: float = math.inf
) -> None:
    """One step of the optimizer down gradients of LOSS_SCALE times a loss, unless there is nothing finite to go by.

    Args:
        optimizer: of what is learned.
        losses: for the record.
        record: gets the losses, a skipped step, or why the training ends.
        rate: the learning rate of this step.
        largest: that the gradients' norm may be.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= LOSS_SCALE
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
    *found, size = torch.cat([losses, norm[None].to(losses)]).tolist()
    if not all(map(math.isfinite, found)):
        record.stopped = "the loss was no finite number; what was learned before is kept"
        return
    if math.isfinite(size):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    else:
        record.skipped += 1
    record.add(found)
    if record.skipped >= _MOST_SKIPPED and record.skipped * 2 > record.steps:
        record.stopped = "most steps had gradients that were not finite; load the model in float32 or bfloat16"


def moments_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What Adam has gathered, on the CPU: 'first/NAME' and 'second/NAME' of every parameter, zero before the first step."""
    found = {}
    for name, parameter in parameters.items():
        moments = optimizer.state.get(parameter, {})
        for key, moment in (("first", "exp_avg"), ("second", "exp_avg_sq")):
            found[f"{key}/{name}"] = moments.get(moment, torch.zeros_like(parameter)).detach().cpu().clone()
    return found


def take_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], steps: float
) -> None:
    """Give Adam back what `moments_of` gave after so many `steps`."""
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(steps)),
            "exp_avg": tensors[f"first/{name}"].to(parameter),
            "exp_avg_sq": tensors[f"second/{name}"].to(parameter),
        }


def within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def told_of(session: Session, request: TrainingRequest[Any], **more: Any) -> dict[str, Any]:
    """What a training is recognised by when it is to be gone on with: what was asked for, and `more`."""
    return {
        "architecture": session.architecture.name,
        "concepts": [[line.concept, line.target, line.weight] for line in request.concepts],
        "contexts": list(request.contexts),
        "preserve": list(request.preserved),
        **{name: value for name, value in request.settings.as_dict().items() if name not in _MEMORY},
        **{f"picture {name}": value for name, value in vars(request.pictures).items()},
        **more,
    }


def provenance_of(
    session: Session,
    request: TrainingRequest[Any],
    method: str,
    given: EraserSet | None,
    begun: EraserSet | None,
    **settings: Any,
) -> Provenance:
    """How what was trained was made.

    Args:
        session: with the MODEL.
        request: what was asked for.
        method: by which it was trained.
        given: the eraser that a person connected.
        begun: what the training began from, that one or one of its own.
        settings: beside those of the request.
    """
    told = begun.provenance if begun is not None else Provenance()
    own = Provenance(
        method=method,
        concepts=tuple(cleaned(line.concept) for line in request.concepts),
        targets=tuple(cleaned(line.target) for line in request.concepts),
        weights=tuple(line.weight for line in request.concepts),
        preserve=tuple(map(cleaned, request.preserved)),
        settings={**request.settings.as_dict(), **settings},
        architecture=session.architecture.name,
        dimensions=told.dimensions,
        fronts=told.fronts,
        pack_version=__version__,
    )
    if given is None:
        return own
    return Provenance(
        method="combined",
        parts=(given.provenance, own),
        architecture=session.architecture.name,
        fronts=told.fronts,
        pack_version=__version__,
    )


def _save(told: Mapping[str, Any], record: Record, tensors: Mapping[str, Tensor]) -> None:
    """Where the training stands, into ComfyUI's output folder; nothing where nothing was learned."""
    if record.steps == 0:
        return
    names = tuple(cleaned(concept) for concept, _, _ in told["concepts"])
    path = training_to_save(f"{default_name(Provenance(concepts=names, targets=names))}_step_{record.steps}")
    saved = TrainingState(told, tensors, record).save(path)
    tell(f"The training stands at step {record.steps}; 'resume' can go on from {saved.name}.")
