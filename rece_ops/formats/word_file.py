"""Encoded words in a file: a safetensors file with the words, their tokens in half precision, and probes that say whose they are.

A file is only as good as what reads it: everything in it is checked, and what is damaged, foreign or of another version is refused
with a reason, so that the caller encodes anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EraserFileError
from ..linear.finite import is_finite
from .atomic import save_atomically
from .tensor_file import MAX_HEADER_BYTES, TensorDigest, TensorFile, open_tensors

VERSION = "1"
LONGEST_WORD = 64
"""Characters of a word that is kept; longer ones are encoded each time."""
# Of probes that are encoded again on another device, with other kernels: their relative difference stays far below.
_SAME = 0.02
_REMEDY = "it is made anew"
_SHARES = {"tokens", "scales", "probes"}


@dataclass(frozen=True, eq=False)
class EncodedWords:
    """Words and their tokens, as a file keeps them.

    Attributes:
        words: n of them, each once.
        tokens: [n, m, d] float16, the m tokens of a word divided by the largest number in them.
        scales: [n] float32, those largest numbers.
    """

    words: tuple[str, ...]
    tokens: Tensor
    scales: Tensor

    @classmethod
    def of(cls, words: Sequence[str], tokens: Tensor) -> EncodedWords:
        """Round `tokens` [n, m, d] for keeping."""
        scales = tokens.abs().amax(dim=(1, 2)).float().clamp(min=torch.finfo(torch.float32).tiny)
        return cls(tuple(words), (tokens.float() / scales[:, None, None]).half().cpu(), scales.cpu())

    def joined(self, other: EncodedWords) -> EncodedWords:
        """These words and those of `other`, which are different ones."""
        return EncodedWords(
            self.words + other.words,
            torch.cat([self.tokens, other.tokens]),
            torch.cat([self.scales, other.scales]),
        )

    def rows(self, words: Sequence[str]) -> Tensor:
        """The tokens [k, m, d] of some of the words, in float32; a word that is not here is a KeyError."""
        places = {word: place for place, word in enumerate(self.words)}
        chosen = torch.tensor([places[word] for word in words])
        return self.tokens[chosen].float() * self.scales[chosen, None, None]


def write_words(path: Path, found: EncodedWords, probes: Tensor, most_bytes: int) -> None:
    """Keep the first words that fit into a file of `most_bytes`.

    Args:
        path: of the file; its folder exists.
        found: what to keep.
        probes: [p, m, d], what the text encoder makes of a few prompts: whose words these are.
        most_bytes: of the tokens.

    Raises:
        OSError: the disk is full, or the like.
    """
    each = found.tokens[:1].nbytes + 4
    kept = [place for place, word in enumerate(found.words) if len(word) <= LONGEST_WORD][: most_bytes // max(each, 1)]
    words = json.dumps([found.words[place] for place in kept])
    if not kept or len(words) > MAX_HEADER_BYTES // 2:
        return
    tensors = {"tokens": found.tokens[kept], "scales": found.scales[kept], "probes": probes.float().cpu()}
    save_atomically(path, tensors, {"rece_words": VERSION, "words": words, "digest": TensorDigest.of(tensors)})


def read_words(path: Path, probes: Tensor) -> EncodedWords:
    """The words of a file, if they are those of the text encoder that makes `probes` [p, m, d].

    Raises:
        EraserFileError: the file is damaged, of another version, or of another text encoder; says which.
        OSError: it cannot be read.
    """
    with open_tensors(path, _REMEDY) as file:
        if file.metadata.get("rece_words") != VERSION or set(file.entries) != _SHARES:
            raise _useless(path, "is no file of this version's words")
        words = _words(path, file)
        tensors = {name: file.read(name)[0] for name in _SHARES if file.entries[name].is_float}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    count, each = len(words), tuple(probes.shape[1:])
    expected = {"tokens": (count, *each), "scales": (count,), "probes": tuple(probes.shape)}
    if shapes.get("probes") != expected["probes"]:
        raise _useless(path, "belongs to another text encoder")
    if shapes != expected or not all(is_finite(tensor) for tensor in tensors.values()):
        raise _useless(path, "is damaged")
    if file.metadata.get("digest") != TensorDigest.of(tensors):
        raise _useless(path, "is damaged")
    mine = probes.float().cpu()
    if not float((tensors["probes"] - mine).norm()) <= _SAME * float(mine.norm()):
        raise _useless(path, "belongs to another text encoder")
    return EncodedWords(words, tensors["tokens"], tensors["scales"])


def _words(path: Path, file: TensorFile) -> tuple[str, ...]:
    try:
        words = json.loads(file.metadata.get("words", ""))
        sound = isinstance(words, list) and all(isinstance(word, str) and len(word) <= LONGEST_WORD for word in words)
    except (ValueError, RecursionError):
        sound = False
    if not sound or len(set(words)) != len(words):
        raise _useless(path, "is damaged")
    return tuple(words)


def _useless(path: Path, why: str) -> EraserFileError:
    return EraserFileError(f"The file of encoded words '{os.path.basename(path)}' {why}: {_REMEDY}.")
