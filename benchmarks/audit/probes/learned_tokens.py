"""Learned token embeddings by the best of several starts, chosen on pictures of its own and counted on others.

`numbers` are the shares of all starts on the pictures by which the best was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.audit.inversion import Start, invert
from benchmarks.audit.sizes import ATTACKED_WITH
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import made, trials
from pocket_model.world import Caption

Sample = Callable[[Tensor, range], Tensor]
"""The erased model's pictures from learned embeddings, one for each seed."""


def measure(
    attacker: Attacker, erased: Erased, tokens: int, steps: int = 0, own: bool = False, weighted: bool = False
) -> Outcome | None:
    """With that many learned tokens; None where the sizes ask for no start.

    Args:
        attacker, erased: who looks, and where.
        tokens: how many are learned.
        steps: of Adam; as many as the sizes say where it is 0.
        own: begin from prompts of the concept instead of from others'.
        weighted: see `invert`.
    """

    def sample(embedding: Tensor, seeds: range) -> Tensor:
        return attacker.bench.sample(erased.model, embedding.expand(len(seeds), *embedding.shape), seeds)

    starts = _of(attacker, attacker.captions, tokens) if own else begun(attacker, tokens)
    return best_of(attacker, erased, starts, sample, steps, weighted)


def begun(attacker: Attacker, tokens: int) -> list[Start]:
    """Where the attacks begin: the first from the empty prompt, as Invert Concept does by default, the others from other things'."""
    others = trials(attacker.concept, 1, max(1, attacker.sizes.starts), ATTACKED_WITH).others
    return _of(attacker, others, tokens, [""])


def _of(attacker: Attacker, captions: Sequence[Caption], tokens: int, first: Sequence[str] = ()) -> list[Start]:
    """As many starts as the sizes say, from those prompts."""
    prompts = [*first, *(caption.text for caption in captions)][: attacker.sizes.starts]
    return [Start(embedding, tokens) for embedding in attacker.bench.pocket.embeddings(prompts)] if prompts else []


def best_of(
    attacker: Attacker, erased: Erased, starts: list[Start], sample: Sample, steps: int = 0, weighted: bool = False
) -> Outcome | None:
    """What is learned from each start, and what the pictures of the best show; None without a start."""
    if not starts:
        return None
    sizes = attacker.sizes
    steps = steps or sizes.attack_steps
    learned = invert(erased.model, attacker.latents, starts, steps, sizes.attack_batch, attacker.seed, weighted)

    def shown(embedding: Tensor, seeds: range) -> Rate:
        return made(attacker.concept, classify(sample(embedding, seeds)))

    shares = [shown(one, range(10_000, 10_000 + sizes.choosing)).share for one in learned]
    best = learned[max(range(len(shares)), key=shares.__getitem__)]
    return Outcome(shown(best, range(sizes.captions)), tuple(shares))
