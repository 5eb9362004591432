"""Pictures of the concept with the noise of half of the steps, gone on with under their own prompts (arXiv:2505.17013)."""

from __future__ import annotations

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's pictures as there are own prompts."""
    captions = attacker.captions[: attacker.sizes.captions]
    begun = attacker.begun(len(captions), attacker.bench.steps // 2)
    return Outcome(attacker.shown(erased, attacker.embeddings(erased, captions), begun))
