"""What reaches an input of a node through the API or from another pack's node: is it what the input's type says?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...rece_ops import EraserSet
from ...rece_ops.texts import quoted
from .errors import WrongConnectionError


def check_connection(kind: str, name: str, value: Any) -> None:
    """Raise WrongConnectionError where the input `name` of the type `kind` got something else.

    None passes: what it means, and what to do about it, depends on the node.
    """
    kinds = [one for one in kind.split(",") if one in _KINDS]
    if value is None or not kinds or any(_KINDS[one][0](value) for one in kinds):
        return
    remedies = ", or ".join(_KINDS[one][1] for one in kinds)
    raise WrongConnectionError(f"The {' or '.join(kinds)} input '{name}' got {quoted(value)}: connect {remedies}.")


def _has(*attributes: str) -> Callable[[Any], bool]:
    """Other packs bring classes of their own, which have what is used of the host's."""
    return lambda value: all(hasattr(value, attribute) for attribute in attributes)


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], Tensor)
        and isinstance(entry[1], dict)
        for entry in value
    )


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[-1] >= 3 and value.is_floating_point()


def _is_eraser(value: Any) -> bool:
    return isinstance(value, EraserSet)


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "MODEL": (
            _has("model", "model_options", "get_model_object"),
            "the MODEL output of a checkpoint or diffusion-model loader",
        ),
        "CLIP": (
            _has("tokenize", "encode_from_tokens_scheduled"),
            "the CLIP output of a checkpoint or text-encoder loader",
        ),
        "CLIP_VISION": (_has("encode_image"), "the CLIP_VISION output of 'Load CLIP Vision'"),
        "VAE": (_has("encode", "decode"), "the VAE output of a checkpoint or VAE loader"),
        "CONDITIONING": (_is_conditioning, "the CONDITIONING output of a text-encoding node"),
        "IMAGE": (_is_image, "the IMAGE output of a node that loads or decodes pictures"),
        "ERASER": (_is_eraser, "the ERASER output of an 'Erase Concepts' or 'Load Eraser' node"),
    }
)
