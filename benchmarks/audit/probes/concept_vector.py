"""What the unedited text encoder adds to a prompt for the concept, added to prompts without it (Ring-A-Bell, arXiv:2310.10012)."""

from __future__ import annotations

import torch

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.efficacy.records import VECTOR_PAIRS, VECTOR_SCALE
from pocket_model.trials import other_captions, vector_pairs


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Added to as many other prompts as there are own ones."""
    from rece_pack.nodes.host.jobs.concept_vector import concept_vector

    pairs = [(one.text, other.text) for one, other in vector_pairs(attacker.concept, VECTOR_PAIRS)]
    elsewhere = other_captions([attacker.concept], len(attacker.trials.own), seed=1)
    with torch.inference_mode():
        vector = concept_vector(attacker.bench.pocket.clip, pairs).tokens.cpu()
    return Outcome(attacker.shown(erased, attacker.embeddings(erased, elsewhere) + VECTOR_SCALE * vector))
