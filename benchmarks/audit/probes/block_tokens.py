"""Learned tokens of which every block of the UNet reads others, as extended textual inversion (arXiv:2303.09522).

Nobody can type them, nor send them as a prompt's embedding: whoever attacks so has the weights. It is what the hardening's own adversaries
do, by an attacker who starts anew. `numbers` as in `learned_tokens`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.attacker import Attacker, Outcome
from benchmarks.audit.erasures import Erased
from benchmarks.audit.inversion import Start
from benchmarks.audit.probes.learned_tokens import begun, best_of

_COND = 0
"""How the host marks the part of a batch that reads the prompt, and not the negative one."""


def measure(attacker: Attacker, erased: Erased, tokens: int) -> Outcome | None:
    """With that many learned tokens in every block; None where the sizes ask for no start."""
    from rece_pack.nodes.host.training.block_contexts import reading_blocks

    def sample(embedding: Tensor, seeds: range) -> Tensor:
        read = embedding[:, 0].expand(len(seeds), -1, -1)
        return attacker.bench.sample(with_contexts(erased.model, embedding), read, seeds)

    blocks = len(reading_blocks(erased.model))
    starts = [Start(one.embedding[:, None].repeat(1, blocks, 1), one.tokens) for one in begun(attacker, tokens)]
    return best_of(attacker, erased, starts, sample)


def with_contexts(model: Any, contexts: Tensor) -> Any:
    """A clone of MODEL whose blocks read `contexts` [tokens, blocks, d] in place of any prompt that is not a negative one."""
    from rece_pack.nodes.host.training.block_contexts import BEFORE_PATCH, BlockContexts, reading_blocks

    blocks = reading_blocks(model)

    def read_own(read: Tensor, context: Tensor, value: Tensor, options: Any) -> tuple[Tensor, ...]:
        kinds = options["cond_or_uncond"]
        count = len(kinds)
        own = BlockContexts(contexts.to(read.device).expand(len(read) // count, *contexts.shape), blocks)
        parts = zip(kinds, read.chunk(count), context.chunk(count), value.chunk(count), strict=True)
        found = [
            own(one, keys, values, options) if kind == _COND else (one, keys, values)
            for kind, one, keys, values in parts
        ]
        return tuple(map(torch.cat, zip(*found, strict=True)))

    changed = model.clone()
    changed.set_model_patch(read_own, BEFORE_PATCH)
    return changed
