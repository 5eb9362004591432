"""The derived embedding: closed form, in place of the tokens of each of the concept's own prompts."""

from __future__ import annotations

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.efficacy.records import DERIVED


def measure(attacker: Attacker, erased: Erased) -> Outcome | None:
    """Of own prompts, with the first regularization of `DERIVED`; None of an erasure without a transform of the text."""
    from rece_pack.rece_ops import derive_embedding

    transforms = {} if erased.eraser is None else erased.eraser.transforms
    if not transforms:
        return None
    (transform,) = transforms.values()
    own = attacker.embeddings(erased, attacker.trials.own)
    derived = derive_embedding(attacker.bench.gram, transform, own.flatten(0, 1), DERIVED[0])
    return Outcome(attacker.shown(erased, derived.view_as(own)))
