"""An ERASER inside a MODEL's own forward: every text reader gets T·x in place of x, and its weights stay as they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any, Protocol

import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ....rece_ops import Eraser
from ....rece_ops.linear.finite import is_finite
from ..errors import NotFiniteError
from ..protocols import Model

_CALLBACK = "rece_eraser"


class Transform:
    """T·x for tokens x [..., n] of n ≥ d numbers, of which T changes the first d; shared by the layers of a text stream.

    The factors are copied to every device that tokens come from, once, and stay there for as long as the MODEL lives.
    """

    def __init__(self, eraser: Eraser) -> None:
        self.eraser = eraser
        self._copies: dict[torch.device, Eraser] = {}
        self._checked: Callable[[], Tensor | None] = lambda: None

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """The same in the dtype and on the device of `tokens`, computed in float32 at least.

        Raises:
            NotFiniteError: it is not finite. Inside torch.compile nothing is looked at: it would break the graph.
        """
        changed = self._of(tokens, self._on(tokens.device).apply_to_context)
        # The layers of a text stream mostly read the same tokens; a look at them makes the device wait.
        if not torch.compiler.is_compiling() and self._checked() is not tokens:
            _check(tokens, changed, "token embeddings")
            self._checked = weakref.ref(tokens)
        return changed

    def of_weight(self, weight: Tensor) -> Tensor:
        """W·T for W [out, n]: what the layer then does to tokens.

        Raises:
            NotFiniteError: it is not finite.
        """
        changed = self._of(weight, self._on(weight.device).apply_to_weight)
        _check(weight, changed, "weights")
        return changed

    def _of(self, matrix: Tensor, applied: Callable[[Tensor], Tensor]) -> Tensor:
        changed = applied(matrix[..., : self.eraser.dimension])
        rest = matrix[..., self.eraser.dimension :]
        return torch.cat([changed, rest], dim=-1) if rest.shape[-1] else changed

    def _on(self, device: torch.device) -> Eraser:
        if device not in self._copies:
            left, right = self.eraser.factors()
            # Copies made in inference mode could not be used where gradients are wanted.
            with torch.inference_mode(False):
                self._copies[device] = Eraser(_copied(left, device), None if right is None else _copied(right, device))
        return self._copies[device]


def _check(before: Tensor, after: Tensor, what: str) -> None:
    if is_finite(after):
        return
    if not is_finite(before):
        raise NotFiniteError(
            f"The {what} hold NaN or infinite values before the erasure: load the model and the text encoder in another "
            "dtype, or others."
        )
    dtype = after.dtype
    raise NotFiniteError(
        f"The erasure makes {what} of up to {float(before.abs().max()):.3g} too large for "
        f"{str(dtype).removeprefix('torch.')}, which ends at {torch.finfo(dtype).max:.3g}: lower 'strength', or make the "
        "eraser again with larger 'regularization' and 'edit_regularization'."
    )


def _copied(factor: Tensor, device: torch.device) -> Tensor:
    return factor.to(device, torch.float32, copy=True)


class LiveStrength(Protocol):
    """A strength that changes while a MODEL runs."""

    @property
    def strengths(self) -> set[float]:
        """All that it takes."""
        ...

    @property
    def strength(self) -> float:
        """What it is now."""
        ...


class ScheduledTransform:
    """T_s·x with the strength s of now; x itself, untouched, where that is 0."""

    def __init__(self, eraser: Eraser, live: LiveStrength) -> None:
        self._live = live
        self._transforms = {one: Transform(eraser.scaled(one)) for one in live.strengths if one != 0}

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """See `Transform`."""
        transform = self._transforms.get(self._live.strength)
        return tokens if transform is None else transform.of_tokens(tokens)


class ErasedForward:
    """A layer's forward on transformed tokens.

    An attribute of the layer and no hook, because torch.compile watches the one and not the other: after a hook is put
    on, it goes on running what it compiled without.

    Args:
        forward: what the layer does with the tokens.
        transform: of the tokens.
    """

    def __init__(self, forward: Callable[..., Any], transform: Transform | ScheduledTransform) -> None:
        self.forward, self.transform = forward, transform

    def __call__(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.forward(self.transform.of_tokens(tokens), *args, **kwargs)

    def on(self, forward: Callable[..., Any]) -> ErasedForward:
        """The same for another instance of the layer, whose own forward is `forward`."""
        if isinstance(self.forward, ErasedForward):
            return ErasedForward(self.forward.on(forward), self.transform)
        # What another pack put there stays.
        return ErasedForward(forward if isinstance(self.forward, MethodType) else self.forward, self.transform)


def add_forwards(model: Model, keys: Iterable[str], eraser: Eraser, live: LiveStrength | None = None) -> None:
    """Put `eraser` before every text reader of MODEL with a weight in `keys`, as an object patch of its forward.

    Args:
        live: scales it further, from call to call.
    """
    transform = Transform(eraser) if live is None else ScheduledTransform(eraser, live)
    for key in keys:
        name = _forward_name(key)
        model.add_object_patch(name, ErasedForward(model.get_model_object(name), transform))
    if not model.get_callbacks(CallbacksMP.ON_CLONE, _CALLBACK):
        model.add_callback_with_key(CallbacksMP.ON_CLONE, _CALLBACK, _follow_layers)


def erased_forwards(model: Model, key: str) -> tuple[ErasedForward, ...]:
    """The erasures before the text reader with that weight in MODEL, in the order in which they multiply the weight."""
    found = []
    forward = model.object_patches.get(_forward_name(key))
    while isinstance(forward, ErasedForward):
        found.append(forward)
        forward = forward.forward
    return tuple(reversed(found))


def _follow_layers(model: Model, clone: Model) -> None:
    """Called by the host for every clone: torch.compile and several GPUs get one with layers of its own."""
    if clone.model is model.model:
        return
    for name, patch in clone.object_patches.items():
        if isinstance(patch, ErasedForward):
            loaded = clone.object_patches_backup.get(name)
            clone.object_patches[name] = patch.on(loaded or comfy.utils.get_attr(clone.model, name))


def _forward_name(key: str) -> str:
    return key.removesuffix("weight") + "forward"
