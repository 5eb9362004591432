"""An ERASER on a MODEL: in its weights where a patch changes them exactly, else inside its forward."""

from __future__ import annotations

import comfy.utils

from ....rece_ops import EraserSet, Provenance
from ....rece_ops.settings import check_strength
from ..architectures.places import by_strength
from ..errors import UnsupportedModelError
from ..patching.adapters import add_adapters
from ..patching.forwards import add_forwards
from ..patching.schedules import add_schedule
from ..patching.weight_patch import add_weight_changes, add_weight_patches
from ..patching.weights import quantised_as
from ..protocols import Model
from ..session import Session

_ATTACHMENT = "rece_erasures"


def apply_eraser(session: Session, eraser: EraserSet, strength: float) -> Model:
    """A clone of MODEL that is erased from; the MODEL itself is not touched.

    An erasure that counts only in part of the steps runs inside the forward in any case: it is exact whatever patches and
    memory do to the weights. Changes of weights that add up are patches under the host's hook then. Adapters always run inside
    the MODEL, whatever its weights are stored as.

    Raises:
        InputError: the strength is not finite, the erasure is not at that strength, or its shape does not fit the MODEL.
        UnsupportedModelError: MODEL is quantised or compiled, and the eraser changes weights.
        WrongConnectionError: the eraser belongs to another architecture, or its shape names a block that is not there.
    """
    check_strength(strength)
    streams, strengths = session.streams_of(eraser), session.strengths_of(eraser)
    patched = session.model.clone()
    if strength == 0:
        return patched
    # All streams in the same way: a file with some of them erased would be taken for the whole.
    inside = why_inside(session)
    if inside and eraser.changes_weights:
        raise UnsupportedModelError(
            f"This ERASER changes more weights of the model than those that read text, but {inside}, where a patch would round "
            "them again or not count at all: put it on the model in half precision, before it is compiled."
        )
    schedule = eraser.shape.schedule
    scheduled = None if schedule.is_always else add_schedule(patched, schedule)
    for stream in streams:
        transform = eraser.transforms[stream.name]
        for factor, keys in by_strength(stream.keys, strengths).items():
            scaled = transform.scaled(factor * strength)
            if inside or scheduled is not None:
                add_forwards(patched, keys, scaled, scheduled)
            else:
                add_weight_patches(patched, stream.patch_keys(keys), transform, factor * strength)
    for change in eraser.changes:
        for factor, keys in by_strength(change.changes, strengths).items():
            add_weight_changes(patched, change, keys, factor * strength, scheduled and scheduled.hook)
    for adapters in eraser.adapters.values():
        for factor, layers in by_strength(adapters.adapters, strengths).items():
            add_adapters(patched, adapters, layers, factor * strength, scheduled)
    patched.set_attachments(_ATTACHMENT, (*upstream_erasures(session.model), eraser.provenance_as_applied()))
    return patched


def upstream_erasures(model: Model) -> tuple[Provenance, ...]:
    """How the erasures in MODEL's chain were made, in the order in which they were applied.

    Those that were saved in a checkpoint are weights like any other, and are not among them.
    """
    return model.get_attachment(_ATTACHMENT) or ()


def describe_application(session: Session, eraser: EraserSet | None = None) -> str:
    """A sentence about where `apply_eraser` puts an erasure of MODEL, and what that means.

    Args:
        session: with the MODEL.
        eraser: None for one that only changes what reads the text, everywhere and always.
    """
    if eraser is not None and not eraser.shape.schedule.is_always:
        return (
            f"The erasure counts from {eraser.shape.schedule.describe()}. CheckpointSave, ModelSave and LoRAs hold no steps and "
            "do without it: save the ERASER instead."
        )
    if eraser is not None and eraser.adapters:
        return (
            "Adapters run inside the model, after its cross-attentions: CheckpointSave and ModelSave write the model without them. "
            "Save the ERASER instead."
        )
    inside = why_inside(session)
    if not inside:
        return "The erasure is a patch of the model's weights: CheckpointSave and ModelSave write the erased weights."
    return (
        f"The erasure runs inside the model, before every layer that reads text, because {inside}: it is exact, but "
        "CheckpointSave and ModelSave write the weights without it. Save the ERASER instead."
    )


def why_inside(session: Session) -> str:
    """Why a patch would not change the weights of MODEL exactly, or not at all; empty where it would."""
    model = session.model
    keys = session.architecture.keys
    quantised = quantised_as(model, keys)
    if quantised:
        return f"the model is quantised ({quantised})"
    return "the model is compiled" if any(_is_compiled(model, key) for key in keys) else ""


def _is_compiled(model: Model, key: str) -> bool:
    """Whether the layer is in a module that torch.compile made, which gives its weights other names than patches know."""
    layers = key.split(".")[:-1]
    names = [".".join(layers[:end]) for end in range(1, len(layers) + 1)]
    return any(
        hasattr(module, "_orig_mod")
        for name in names
        for module in (model.get_model_object(name), comfy.utils.get_attr(model.model, name))
    )
