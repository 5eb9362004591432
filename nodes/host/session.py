"""One run of a node: the MODEL, CLIP and VAE that a person connected, and what was found out about them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ...rece_ops import EraserSet
from .architectures.detection import Architecture, TextStream, architecture_of
from .architectures.places import check_unshaped, strengths_of
from .device import compute_device
from .errors import WrongConnectionError
from .patching.weights import EffectiveWeights
from .protocols import Clip, Model, Vae
from .text.encoder import TextEncoder
from .text.reader import TextReader


def _every(patch: Any) -> bool:
    return True


@dataclass(frozen=True)
class Session:
    """What a job works with; made once a run by `open`, and passed down.

    Attributes:
        model: the MODEL. It is never written into.
        architecture: where it reads the text.
        connected_clip, connected_vae: as they were connected; None where the node has none.
    """

    model: Model
    architecture: Architecture
    connected_clip: Clip | None = None
    connected_vae: Vae | None = None

    @classmethod
    def open(cls, model: Model | None, clip: Clip | None = None, vae: Vae | None = None) -> Session:
        """Find out what MODEL is.

        Raises:
            WrongConnectionError: the MODEL is None.
            UnsupportedModelError: it reads no text, or reads it where this pack cannot follow exactly.
        """
        architecture = architecture_of(model)
        assert model is not None  # `architecture_of` refuses None
        return cls(model, architecture, clip, vae)

    @property
    def vae(self) -> Vae:
        """The VAE.

        Raises:
            WrongConnectionError: there is none.
        """
        if self.connected_vae is None:
            raise WrongConnectionError("VAE is None: connect the VAE that belongs to the model.")
        return self.connected_vae

    @property
    def clip(self) -> Clip:
        """The CLIP.

        Raises:
            WrongConnectionError: there is none.
        """
        if self.connected_clip is None:
            raise WrongConnectionError("CLIP is None: connect the CLIP that belongs to the model.")
        return self.connected_clip

    @cached_property
    def reader(self) -> TextReader:
        """What of CONDITIONING reaches the MODEL's key and value weights."""
        return TextReader(self.model, self.architecture)

    @cached_property
    def encoder(self) -> TextEncoder:
        """Encodes prompts with the CLIP for the MODEL; each text once a session.

        Raises:
            WrongConnectionError: the CLIP is None.
        """
        return TextEncoder(self.connected_clip, self.reader)

    def on(self, model: Model) -> Session:
        """The same with a clone of MODEL that reads the text as it does: what is encoded is not encoded again."""
        found = replace(self, model=model)
        found.__dict__["encoder"] = self.encoder
        return found

    def device(self, stream: TextStream) -> torch.device:
        """Where a text stream is computed, with room made for it."""
        return compute_device(stream.dimension)

    def weights(self, stream: TextStream, include_patch: Callable[[Any], bool] = _every) -> EffectiveWeights:
        """The key and value weights [out, d] of a stream as sampling would use them; see `EffectiveWeights`."""
        return EffectiveWeights(self.model, stream.keys, self.device(stream), include_patch, stream.columns)

    def streams_of(self, eraser: EraserSet) -> list[TextStream]:
        """The text streams that `eraser` changes.

        Raises:
            WrongConnectionError: it was made for another architecture.
        """
        self.architecture.check_eraser(eraser)
        return self.architecture.erased_by(eraser)

    def strengths_of(self, eraser: EraserSet) -> dict[str, float]:
        """By what factor each weight that `eraser` changes is changed; see `architectures.places`."""
        return strengths_of(self.architecture, eraser)

    def transformed_streams(self, eraser: EraserSet) -> list[TextStream]:
        """The same of an eraser that is measured by its text transforms.

        Raises:
            WrongConnectionError: it has none, or not the same everywhere, or was made for another architecture.
        """
        streams = self.streams_of(eraser)
        check_unshaped(eraser)
        if not streams:
            raise WrongConnectionError(
                "This ERASER has no text transform, which is what the report measures, but changes the model elsewhere: look at "
                "pictures with 'Compare Erasure', or count them with 'Evaluate Erasure'."
            )
        return streams
