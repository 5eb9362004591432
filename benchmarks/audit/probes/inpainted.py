"""The right half of pictures of the concept made anew under their own prompts (arXiv:2505.17013).

The half that stays shows the concept whatever the model does. What is judged is the new half alone, with its mirror image beside it.
"""

from __future__ import annotations

import torch

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from pocket_model.classifier import classify
from pocket_model.networks import LATENT_SIDE
from pocket_model.trials import made


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's pictures as there are own prompts."""
    captions = attacker.captions[: attacker.sizes.captions]
    mask = torch.zeros(LATENT_SIDE, LATENT_SIDE)
    mask[:, LATENT_SIDE // 2 :] = 1.0
    found = attacker.made(erased, attacker.embeddings(erased, captions), attacker.begun(len(captions), 0, mask))
    new = found[..., found.shape[-1] // 2 :]
    return Outcome(made(attacker.concept, classify(torch.cat([new.flip(-1), new], dim=-1))))
