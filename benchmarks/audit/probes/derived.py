"""The derived embedding: closed form, in place of the tokens of each of the concept's own prompts."""

from __future__ import annotations

import torch

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased

REGULARIZATION = 0.1


def measure(attacker: Attacker, erased: Erased) -> Outcome | None:
    """Of own prompts; None of an erasure that changes nothing that reads the text."""
    from rece_pack.nodes.host.jobs.derive import derive_conditioning

    eraser = erased.eraser
    if eraser is None or not (eraser.transforms or eraser.changes_weights):
        return None
    with torch.inference_mode():
        derived = [
            derive_conditioning(attacker.bench.session, caption.text, REGULARIZATION, eraser, None).conditioning[0][0]
            for caption in attacker.trials.own
        ]
    return Outcome(attacker.shown(erased, torch.cat(derived)))
