"""Attacks that bring an erased concept back: what they are called, and learned tokens as an evaluation makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DERIVED, VECTOR, INVERSION = "derived", "vector", "inversion"
NAMES = {DERIVED: "derived embedding", VECTOR: "concept vector", INVERSION: "learned tokens"}
"""What a prompt set under an attack is called."""
REGULARIZATION = 0.1
"""λ_r of derived embeddings."""
TOKENS, STARTS, PICTURES = 4, 3, 8
"""Learned tokens, starts of which the best counts, and pictures that are learned from and that a start is judged by."""


@dataclass
class Learner:
    """Learns token embeddings that make an erased MODEL draw given pictures (Invert Concept), once for each MODEL.

    Args:
        clip, vae: of the model.
        images: gives [n, height, width, 3], which show the concept.
        shown: says how many pictures that the MODEL makes of a CONDITIONING show the concept.
        steps, batch: of the learning.
    """

    clip: Any
    vae: Any
    images: Callable[[], Tensor]
    shown: Callable[[Any, Any], int]
    steps: int
    batch: int
    _last: tuple[Any, Any] | None = None

    def best(self, model: Any) -> Any:
        """The CONDITIONING of the start that brings the concept back most often."""
        if self._last is None or self._last[0] is not model:
            self._last = (model, self._learned(model))
        return self._last[1]

    @torch.inference_mode()
    def _learned(self, model: Any) -> Any:
        from rece_pack.nodes.host.jobs.invert import invert_concept
        from rece_pack.nodes.host.session import Session
        from rece_pack.rece_ops.attacks.inversion import InversionSettings

        session, images = Session.open(model, self.clip, self.vae), self.images()
        found = []
        for start in range(STARTS):
            settings = InversionSettings(TOKENS, self.steps, seed=start, batch=self.batch)
            found.append(invert_concept(session, images, "", settings).conditioning)
        return max(found, key=lambda conditioning: self.shown(model, conditioning))
