"""Prompts that a text encoder has encoded before: the next run with the same CLIP does not encode them again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ...request.everyday_prompts import HELD_OUT
from ..protocols import Clip
from .encoded import EncodedPrompt, EncodedTokens
from .reader import TextReader

MOST_BYTES = 128 * 2**20
"""Of the tokens that are kept for one text encoder: a few hundred prompts of SD1, or a few dozens of a large T5."""
PROBES = ("", HELD_OUT[0])
"""Two that every erasure needs."""
# A file that can change between two runs.
_OF_FILES = "embedding:"


class EncodedCache:
    """The prompts used last, in at most so many bytes.

    What was encoded together with other prompts differs by roundings from what sampling gets, and is kept apart.

    Args:
        most: bytes of tokens.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[tuple[str, bool], EncodedPrompt] = OrderedDict()

    def get(self, text: str, together: bool = False) -> EncodedPrompt | None:
        """The prompt as sampling gets it; with `together`, one that was encoded with others will do."""
        for key in ((text, False), (text, True))[: 1 + together]:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        return None

    def put(self, text: str, prompt: EncodedPrompt, together: bool = False) -> None:
        """Keep a prompt, and let go of those that were not used for longest."""
        key = (text, together)
        if _OF_FILES in text or key in self._kept or _size(prompt) > self._most:
            return
        self._kept[key] = prompt
        self._bytes += _size(prompt)
        # The probes were asked for when the run began, so that they are not the first to go.
        while self._bytes > self._most:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


_caches: WeakKeyDictionary[Any, tuple[tuple[Any, ...], EncodedCache]] = WeakKeyDictionary()


def cache_of(clip: Clip, reader: TextReader, encode: Callable[[str], EncodedPrompt]) -> EncodedCache:
    """What is known of the text encoders of `clip` as they are patched now; nothing where MODEL has a part in what is read.

    Two prompts are encoded again, with `encode`, and must come out as they are known, to the bit: other packs may have changed the
    network itself, which no id tells.
    """
    cache, network = EncodedCache(), getattr(clip, "cond_stage_model", None)
    if not isinstance(network, torch.nn.Module) or any(map(reader.staged, reader.architecture.streams)):
        return cache
    fresh = {text: encode(text) for text in PROBES}
    for text, prompt in fresh.items():
        cache.put(text, prompt)
    key, known = _key(clip, reader), _caches.get(network)
    if known is None or known[0] != key or not all(_same(known[1].get(text), fresh[text]) for text in PROBES):
        known = _caches[network] = (key, cache)
    return known[1]


def _key(clip: Any, reader: TextReader) -> tuple[Any, ...]:
    """What must be the same, beside the probes, for a prompt to be known."""
    patcher = getattr(clip, "patcher", None)
    methods = (getattr(clip, name, None) for name in ("tokenize", "encode_from_tokens_scheduled"))
    return (
        type(clip),
        # Other packs put functions of their own there; held here, they could hold the network.
        tuple(id(getattr(method, "__func__", method)) for method in methods),
        getattr(patcher, "patches_uuid", None),
        getattr(patcher, "forced_hooks", None),
        getattr(clip, "layer_idx", None),
        repr(getattr(clip, "tokenizer_options", None)),
        reader.architecture.name,
    )


def _same(one: EncodedPrompt | None, other: EncodedPrompt) -> bool:
    if one is None or one.streams.keys() != other.streams.keys():
        return False
    return all(_same_parts(parts, other.streams[name]) for name, parts in one.streams.items())


def _same_parts(ones: Sequence[EncodedTokens], others: Sequence[EncodedTokens]) -> bool:
    pairs = zip(ones, others, strict=False)
    return len(ones) == len(others) and all(torch.equal(one.tokens, other.tokens) for one, other in pairs)


def _size(prompt: EncodedPrompt) -> int:
    return sum(one.tokens.nbytes for parts in prompt.streams.values() for one in parts)
