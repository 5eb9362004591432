"""Another tool's erased weights as an ERASER: what they are apart from the MODEL's own, as low-rank changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import comfy.utils
import torch
from torch import Tensor

from ....rece_ops import InputError, LowRank, WeightChange
from ....rece_ops.formats.checkpoint_file import CheckpointFile
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.low_rank import nearest_of_rank
from ....rece_ops.texts import quoted
from ..architectures.detection import PREFIX
from ..errors import WrongConnectionError
from ..patching.weights import effective_weight
from ..progress import JobProgress
from ..session import Session


@dataclass
class _Tally:
    """Sums of squares, and counts, while a file is read."""

    changed: float = 0.0
    kept: float = 0.0
    before: float = 0.0
    equal: int = 0


@dataclass(frozen=True, eq=False)
class ImportedChange:
    """What a file changes of a MODEL.

    Attributes:
        change: low-rank changes by the MODEL's state-dict keys.
        share: how much of the change the ranks keep, 0 … 1, of its sum of squares.
        size: ‖W' − W‖ / ‖W‖ over the weights that are changed.
        equal: how many tensors of the file are the MODEL's own, up to rounding.
        left_out: how many tensors of the file are none of the diffusion model's.
    """

    change: WeightChange
    share: float
    size: float
    equal: int
    left_out: int


@torch.no_grad()
def import_change(session: Session, file: CheckpointFile, max_rank: int) -> ImportedChange:
    """Read the erased weights in `file`, and take those of the MODEL away.

    Names may be ComfyUI's (with or without `model.diffusion_model.`) or, for Stable Diffusion's UNets, diffusers' (with or
    without `unet.`), as the published code of UCE, ESD and SPEED writes them.

    Args:
        session: the MODEL that the erasure was made on, not erased.
        file: open.
        max_rank: of each weight's change; 0 keeps it whole.

    Raises:
        WrongConnectionError: no tensor of the file is a weight of MODEL, one has another size, or all are equal.
        InputError: a tensor is not finite, or damaged.
    """
    found = dict(_matching(file.entries, _names_of(session)))
    if not found:
        some = ", ".join(quoted(name) for name in list(file.entries)[:3])
        raise WrongConnectionError(
            f"{quoted(file.name)} has no weight of this {session.architecture.name} model, but {some or 'nothing'}: connect the "
            "MODEL that the file was made on. A LoRA is loaded with 'Load LoRA' instead."
        )
    progress = JobProgress(compare=1).part("compare")
    device = session.device(session.architecture.streams[0])
    changes, tally = {}, _Tally()
    for done, (name, key) in enumerate(found.items(), start=1):
        stored = comfy.utils.get_attr(session.model.model, key).dtype
        factors = _change_of(file, name, effective_weight(session.model, key, device), stored, max_rank, tally)
        if factors is not None:
            changes[key] = factors
        progress(done, len(found), "comparing weights")
    if not changes:
        raise WrongConnectionError(
            f"All {len(found)} weights in {quoted(file.name)} are those of the MODEL: connect the MODEL as it was before the "
            "erasure, not the erased one."
        )
    return ImportedChange(
        WeightChange(changes),
        share=tally.kept / tally.changed,
        size=(tally.changed / max(tally.before, torch.finfo(torch.float64).tiny)) ** 0.5,
        equal=tally.equal,
        left_out=len(file.entries) - len(found),
    )


def _names_of(session: Session) -> dict[str, str]:
    """The MODEL's state-dict keys by every name that a file may have for them."""
    model = session.model.model
    keys = [key for key in model.state_dict() if key.startswith(PREFIX)]
    names = {name: key for key in keys for name in (key, f"model.{key}", key.removeprefix(PREFIX))}
    if session.architecture.family.unet:
        known = set(keys)
        for name, key in comfy.utils.unet_to_diffusers(model.model_config.unet_config).items():
            if PREFIX + key in known:
                names |= {name: PREFIX + key, f"unet.{name}": PREFIX + key}
    return names


def _matching(entries: Mapping[str, object], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tensors of a file that are weights of the MODEL, each with its state-dict key; of two for one weight the first."""
    seen = set()
    for name in entries:
        key = names.get(name)
        if key is not None and key not in seen:
            seen.add(key)
            yield name, key


def _change_of(
    file: CheckpointFile, name: str, before: Tensor, dtype: torch.dtype, max_rank: int, tally: _Tally
) -> LowRank | None:
    """The change of one weight, which the MODEL stores in `dtype`; None where the file's is the same up to rounding."""
    erased = file.read(name)
    if erased.numel() != before.numel() or erased.shape[:1] != before.shape[:1]:
        raise WrongConnectionError(
            f"The tensor {quoted(name)} of {quoted(file.name)} is {list(erased.shape)}, but the MODEL's is "
            f"{list(before.shape)}: connect the MODEL that the file was made on."
        )
    after = erased.to(before.device, torch.float32).reshape(before.shape)
    if not is_finite(after):
        raise InputError(
            f"The tensor {quoted(name)} of {quoted(file.name)} holds NaN or infinite values: get the file again."
        )
    change = after - before
    if bool((change.abs() <= _rounding(before, erased.dtype, dtype)).all()):
        tally.equal += 1
        return None
    factors = nearest_of_rank(change.reshape(len(change), -1), max_rank)
    tally.changed += float(change.double().square().sum())
    tally.kept += float((factors.up.double() @ factors.down.double()).square().sum())
    tally.before += float(before.double().square().sum())
    return factors


def _rounding(weight: Tensor, *dtypes: torch.dtype) -> Tensor:
    """How far a weight moves at most when it is stored in those dtypes, or in float16, in which most are published."""
    kinds = [torch.finfo(kind) for kind in (*dtypes, torch.float16) if kind.is_floating_point]
    return weight.abs() * max(kind.eps for kind in kinds) + max(kind.smallest_normal * kind.eps for kind in kinds)
