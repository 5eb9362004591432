"""How far pictures that should stay differ from the unedited model's with the same noise, whatever a classifier says.

The root mean square difference of a picture's numbers, which are from 0 to 1. `numbers` are the mean over pictures and its 95 %
interval (normal approximation).
"""

from __future__ import annotations

import math

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from pocket_model.rates import NORMAL_95


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of neighbours and others."""
    after = attacker.made(erased, attacker.embeddings(erased, attacker.staying))
    apart = (after - attacker.staying_pictures).flatten(1).square().mean(dim=1).sqrt()
    half = NORMAL_95 * float(apart.std()) / math.sqrt(len(apart))
    mean = float(apart.mean())
    return Outcome(numbers=(mean, max(0.0, mean - half), mean + half))
