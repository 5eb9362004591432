"""CLIP score: how well pictures fit their prompts (Hessel et al., EMNLP 2021), with the host's own CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.evaluation.chunks import Results
from tools.evaluation.columns import Columns
from tools.evaluation.metrics.metric import Found, Measured, Planned, kept_numbers
from tools.evaluation.metrics.pictures import read_picture
from tools.evaluation.metrics.weights import identity

HEAD = "CLIP ↑"
_ASKED = "a photo"


class ClipScore:
    """See `Metric`: the mean of 100 · max(cos, 0) over the pictures of the sets that should stay, each with its own prompt.

    Args:
        space: of the CLIP that looks, a `ClipSpace`.
        source: what the numbers depend on, as plain values.
    """

    name = "CLIP"
    says = (
        "CLIP is the mean CLIP score of the prompt sets that should stay, 100 times the cosine of a picture and its prompt "
        "(no less than 0), with its standard error."
    )

    def __init__(self, space: Any, source: Sequence[Any]) -> None:
        self._space, self._source = space, list(source)

    def check(self, planned: Planned) -> None:
        """See `Metric`."""
        from rece_pack.rece_ops import InputError

        if not planned.pictures(planned.columns.kept):
            raise InputError("The metric CLIP is of prompts that should stay: give some with --keep.")

    def of(self, results: Results, erasure: str, unedited: str, columns: Columns) -> Found:
        """See `Metric`."""
        rows = {name: self._of_set(results, erasure, name) for name in columns.kept}
        values = [one["clip_score"] for found in rows.values() for one in found]
        return Found((Measured.mean(HEAD, values, digits=2),), rows)

    def _of_set(self, results: Results, erasure: str, prompts: str) -> list[dict[str, float]]:
        found: list[float] = []
        for chunk in results.chunks(erasure, prompts):
            rows = results.rows_in(chunk)
            files, texts = [chunk / row["file"] for row in rows], [str(row["prompt"]) for row in rows]
            found += kept_numbers(chunk, "clip_score", self._source, len(rows), partial(self._scores, files, texts))
        return [{"clip_score": one} for one in found]

    @torch.inference_mode()
    def _scores(self, files: Sequence[Path], texts: Sequence[str]) -> list[float]:
        # One by one: their sizes may differ.
        pairs = zip(files, texts, strict=True)
        return [score for path, text in pairs for score in self._space.scores(_in_unit(read_picture(path)), [text])]


def open_clip_score(vision: Path | None, text: Path | None) -> ClipScore:
    """With both halves of one CLIP from files, through the host's loaders.

    Raises:
        InputError: a file is missing, is no safetensors file, or holds something else; or the two do not fit together.
    """
    return ClipScore(open_clip_space(vision, text), [identity(path) for path in (vision, text) if path is not None])


def open_clip_space(vision: Path | None, text: Path | None) -> Any:
    """The space of a picture encoder and a text encoder, tried out.

    Raises:
        InputError: see `open_clip_score`.
    """
    import comfy.clip_vision
    import comfy.sd
    from rece_pack.nodes.host.detectors.zero_shot import ClipSpace

    seen = _loaded(vision, "--clip-vision", "CLIP's picture encoder", comfy.clip_vision.load)
    read = _loaded(text, "--clip-text", "CLIP's text encoder", lambda path: comfy.sd.load_clip([path]))
    space = ClipSpace(seen, read)
    with torch.inference_mode():
        space.scores(torch.full((1, 32, 32, 3), 0.5), [_ASKED])
    return space


def _loaded(path: Path | None, option: str, what: str, load: Any) -> Any:
    from rece_pack.rece_ops import InputError
    from rece_pack.rece_ops.texts import printable

    example = "clip-vit-large-patch14" if option == "--clip-vision" else "clip_l"
    wanted = (
        f"a .safetensors file with {what}, such as {example}, as ComfyUI's loaders take it (models/clip_vision and "
        "models/text_encoders); both must be of one CLIP"
    )
    if path is None or not path.is_file() or path.suffix != ".safetensors":
        raise InputError(f"{option} {'is not given' if path is None else f'is {str(path)!r}'}: give {wanted}.")
    try:
        found = load(str(path))
    except Exception as error:  # whatever a loader of the host's says of a foreign file
        raise InputError(
            f"'{path.name}' cannot be loaded ({printable(str(error), 120)}): {option} takes {wanted}."
        ) from None
    if found is None:
        raise InputError(f"'{path.name}' is not {what}: {option} takes {wanted}.")
    return found


def _in_unit(picture: Tensor) -> Tensor:
    """[1, height, width, 3] in 0 … 1, as the host's nodes pass pictures on."""
    return picture.movedim(0, -1)[None].float() / 255
