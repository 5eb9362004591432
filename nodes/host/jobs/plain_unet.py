"""What a MODEL must be for its other weights to be changed: a Stable Diffusion UNet in plain floating point."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UnsupportedModelError
from ..patching.schedules import check_unscheduled
from ..patching.weights import quantised_as
from ..session import Session
from .apply import why_inside


def check_unet(session: Session, way: str) -> None:
    """Raise UnsupportedModelError unless MODEL is Stable Diffusion's UNet; `way` is how an eraser would be made, as in 'training'."""
    if not session.architecture.family.unet:
        raise UnsupportedModelError(
            f"This MODEL is {session.architecture.name}, for which no eraser can be made by {way} yet: connect a Stable "
            "Diffusion 1, 2 or XL model, or use 'Erase Concepts'."
        )


def check_plain(session: Session, keys: Iterable[str], way: str) -> None:
    """Raise UnsupportedModelError where MODEL is compiled or erased from in part of the steps, or one of those weights is quantised."""
    check_unscheduled(session.model, way)
    quantised = quantised_as(session.model, keys)
    inside = f"the model is quantised ({quantised})" if quantised else why_inside(session)
    if inside:
        raise UnsupportedModelError(
            f"No eraser can be made by {way} on this MODEL, because {inside}: connect the same model in float16, bfloat16 or "
            "float32, before it is compiled."
        )
