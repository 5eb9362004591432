"""Encoded words of each text encoder, kept in the user's folder between runs, up to a size."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ....rece_ops import EraserFileError
from ....rece_ops.formats.word_file import EncodedWords, read_words, write_words
from ..protocols import Clip

FOLDER = "rece_words"
MAX_BYTES = 1 << 30
"""Of all files together; the oldest go first."""
_SAMPLED = 64


class WordCache:
    """The file of one text encoder's words.

    Args:
        clip: the CLIP; what it is loaded with counts, and LoRAs on it, and clip skip.
        stream: the text stream that the tokens are for, by its name, and the architecture's.
        probes: [p, m, d], what the CLIP makes of a few prompts: a file that says otherwise is another encoder's.

    Attributes:
        notes: what happened to the file, as sentences.
    """

    def __init__(self, clip: Clip | None, stream: str, probes: Tensor) -> None:
        self._folder = Path(folder_paths.get_user_directory()) / FOLDER
        self._path = self._folder / f"{encoder_hash(clip, stream)}.safetensors"
        self._probes = probes
        self.notes: list[str] = []

    def read(self) -> EncodedWords | None:
        """What is kept; None where nothing is, or nothing that can be used."""
        try:
            found = read_words(self._path, self._probes)
            self._path.touch()  # what was used last is removed last
            return found
        except FileNotFoundError:
            return None
        except (EraserFileError, OSError) as error:
            self.notes.append(str(error))
            return None

    def write(self, found: EncodedWords) -> None:
        """Keep words; where that fails, the run goes on without."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_words(self._path, found, self._probes, MAX_BYTES)
            self._prune()
        except OSError as error:
            self.notes.append(
                f"The encoded words could not be kept in the user folder ({error.strerror}): the next run starts anew."
            )

    def _prune(self) -> None:
        """Remove the files that were not used for longest, but not this one, until the others fit."""
        others = [path for path in self._folder.glob("*.safetensors") if path != self._path]
        left = MAX_BYTES - self._path.stat().st_size
        for path in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True):
            left -= path.stat().st_size
            if left < 0:
                with contextlib.suppress(OSError):
                    path.unlink()


def encoder_hash(clip: Any, stream: str) -> str:
    """A name for a text encoder: of its weights, their patches and its clip skip, sampled at a few places of each."""
    digest = hashlib.sha256(f"{stream}\n{getattr(clip, 'layer_idx', None)}\n".encode())
    patcher = getattr(clip, "patcher", None)
    network = getattr(clip, "cond_stage_model", None)
    if isinstance(network, torch.nn.Module):
        backup = getattr(patcher, "backup", {})
        for name, weight in network.state_dict().items():
            kept = backup.get(name)
            digest.update(f"{name}{list(weight.shape)}".encode() + _sampled(weight if kept is None else kept.weight))
    for name, patches in sorted(getattr(patcher, "patches", {}).items()):
        digest.update(str(name).encode())
        for value in _flattened(patches):
            digest.update(_sampled(value) if isinstance(value, Tensor) else f"{value}\n".encode())
    return digest.hexdigest()[:32]


def _sampled(tensor: Tensor) -> bytes:
    flat = tensor.detach().flatten()
    chosen = flat[:: max(1, flat.numel() // _SAMPLED)][:_SAMPLED]
    return chosen.float().cpu().numpy().tobytes() if chosen.is_floating_point() else str(chosen.tolist()).encode()


def _flattened(value: Any) -> Iterator[Any]:
    """The numbers, names and tensors in the nested patches of a key; objects count by what they hold."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flattened(one)
    elif hasattr(value, "weights"):
        yield from _flattened(value.weights)
    elif isinstance(value, (str, int, float, Tensor)):
        yield value
