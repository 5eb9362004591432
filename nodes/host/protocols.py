"""What this pack uses of the host's MODEL, CLIP and VAE. The host carries no types of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Model(Protocol):
    """A MODEL: the host's ModelPatcher, a chain of patches over a network that its clones share.

    Nothing here is ever written into: patches go onto a clone.
    """

    model: Any
    model_options: dict[str, Any]
    patches: dict[str, list[Any]]
    backup: dict[str, Any]
    hook_backup: dict[str, Any]
    object_patches: dict[str, Any]
    object_patches_backup: dict[str, Any]
    load_device: torch.device

    def clone(self) -> Model:
        """A MODEL with the same network and a chain of its own."""
        ...

    def add_patches(self, patches: Mapping[Any, Any], strength_patch: float = 1.0) -> Any:
        """Queue patches of weights by their keys."""
        ...

    def add_object_patch(self, name: str, obj: Any) -> None:
        """Put `obj` in the place of an attribute, for as long as the MODEL is loaded."""
        ...

    def get_model_object(self, name: str) -> Any:
        """An attribute, as the chain's object patches have it."""
        ...

    def add_callback_with_key(self, call_type: str, key: str, callback: Callable[..., None]) -> None:
        """Have `callback` called on an event."""
        ...

    def add_hook_patches(self, hook: Any, patches: Mapping[Any, Any], strength_patch: float = 1.0) -> Any:
        """Queue patches of weights that count only where a hook does."""
        ...

    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Callable[..., Any]) -> None:
        """Have `wrapper` called in place of a function of the host, which it gets to call."""
        ...

    def get_wrappers(self, wrapper_type: str, key: str) -> list[Callable[..., Any]]:
        """The wrappers of a function that were added under `key`."""
        ...

    def set_model_attn2_output_patch(self, patch: Callable[..., torch.Tensor]) -> None:
        """Have what cross-attentions write go through `patch`, behind the patches that are there."""
        ...

    def set_attachments(self, key: str, attachment: Any) -> None:
        """Hang something on the MODEL, which its clones carry too."""
        ...

    def get_attachment(self, key: str) -> Any:
        """What hangs on the MODEL under `key`, or None."""
        ...

    def get_callbacks(self, call_type: str, key: str) -> list[Callable[..., None]]:
        """The callbacks of an event that were added under `key`."""
        ...

    def memory_required(self, input_shape: Sequence[int]) -> float:
        """Bytes that one pass over latents of that shape takes."""
        ...


class Clip(Protocol):
    """A CLIP: the host's text encoders with their tokenizers."""

    cond_stage_model: Any
    patcher: Model
    layer_idx: int | None

    def clone(self) -> Clip:
        """A CLIP with the same network and a chain of patches of its own."""
        ...

    def add_patches(self, patches: Mapping[Any, Any], strength_patch: float = 1.0) -> Any:
        """Queue patches of weights by their keys."""
        ...

    def tokenize(self, text: str, return_word_ids: bool = False, **options: Any) -> Mapping[str, Any]:
        """Windows of (token, weight) by the tokenizer's name; with word ids, of (token, weight, word)."""
        ...

    def encode_from_tokens_scheduled(self, tokens: Mapping[str, Any]) -> list[list[Any]]:
        """CONDITIONING of what `tokenize` gave."""
        ...


class Vae(Protocol):
    """A VAE."""

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Latents of pictures [n, height, width, 3]."""
        ...

    def decode(self, samples_in: Tensor) -> Tensor:
        """Pictures [n, height, width, 3] of latents."""
        ...
