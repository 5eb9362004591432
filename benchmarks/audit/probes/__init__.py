"""One module a probe, with `measure(attacker, erased)`: an `Outcome`, or None where it cannot be made of that erasure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.audit.probes import (
    block_tokens,
    concept_vector,
    continued,
    derived,
    fine_tuned,
    inpainted,
    learned_tokens,
    null_text,
    prefix_words,
    similarity,
    start_noise,
)

PROBES: dict[str, Callable[[Attacker, Erased], Outcome | None]] = {
    "picture difference": similarity.measure,
    "derived embedding": derived.measure,
    "concept vector": concept_vector.measure,
    "half-noised pictures": continued.measure,
    "inpainting": inpainted.measure,
    "start noise": start_noise.measure,
    "learned null embeddings": null_text.measure,
    "words before prompts": prefix_words.measure,
    "1 learned token": partial(learned_tokens.measure, tokens=1),
    "4 learned tokens": partial(learned_tokens.measure, tokens=4),
    "16 learned tokens": partial(learned_tokens.measure, tokens=16),
    "4 learned tokens, 1,000 steps": partial(learned_tokens.measure, tokens=4, steps=1000),
    "16 learned tokens, 1,000 steps": partial(learned_tokens.measure, tokens=16, steps=1000),
    "16 learned tokens, from its own prompts": partial(learned_tokens.measure, tokens=16, own=True),
    "16 learned tokens, weighted": partial(learned_tokens.measure, tokens=16, weighted=True),
    "16 learned tokens, weighted, 1,000 steps": partial(learned_tokens.measure, tokens=16, weighted=True, steps=1000),
    "4 learned tokens in every block": partial(block_tokens.measure, tokens=4),
    "16 learned tokens in every block": partial(block_tokens.measure, tokens=16),
    **{f"fine-tuning on {count}": partial(fine_tuned.measure, count=count) for count in fine_tuned.PICTURES},
}
"""By the names that records and commands have, the cheap ones first."""
