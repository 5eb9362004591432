"""Learned token embeddings by the best of several starts, chosen on pictures of its own and counted on others.

`numbers` are the shares of all starts on the pictures by which the best was chosen.
"""

from __future__ import annotations

from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.audit.inversion import Start, invert
from benchmarks.audit.sizes import ATTACKED_WITH
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import made, trials


def measure(attacker: Attacker, erased: Erased, tokens: int) -> Outcome | None:
    """With that many learned tokens; None where the sizes ask for no start."""
    sizes, bench = attacker.sizes, attacker.bench
    if not sizes.starts:
        return None
    # The first from the empty prompt, as Invert Concept by default; the others from prompts of other things.
    others = trials(attacker.concept, 1, sizes.starts, ATTACKED_WITH).others
    begun = bench.pocket.embeddings(["", *(caption.text for caption in others)])[: sizes.starts]
    starts = [Start(embedding, tokens) for embedding in begun]
    learned = invert(erased.model, attacker.latents, starts, sizes.attack_steps, sizes.attack_batch, attacker.seed)
    shares = [_shown(attacker, erased, one, sizes.choosing, 10_000).share for one in learned]
    best = learned[max(range(len(shares)), key=shares.__getitem__)]
    return Outcome(_shown(attacker, erased, best, sizes.captions, 0), tuple(shares))


def _shown(attacker: Attacker, erased: Erased, embedding: Tensor, count: int, seed: int) -> Rate:
    embeddings = embedding[None].expand(count, *embedding.shape)
    pictures = attacker.bench.sample(erased.model, embeddings, range(seed, seed + count))
    return made(attacker.concept, classify(pictures))
