"""What a loaded MODEL is, and where it reads the text, by the table in `families`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.utils

from ....rece_ops import POOLED_STREAM, EraserSet
from ....rece_ops.texts import QUOTED, printable
from ..errors import UnsupportedModelError, WrongConnectionError
from .sources import TokenSource
from .table import FAMILIES, REFUSED, Family, StreamRow

PREFIX, SUFFIX = "diffusion_model.", ".weight"
_FIRST_ATTENTION = re.compile(r".*\.attn1\.to_[kv]")


@dataclass(frozen=True)
class TextStream:
    """One kind of tokens that a model reads.

    Attributes:
        name: as eraser files call it.
        dimension: d, the size of a token where the text readers read it.
        keys: state-dict keys of the text readers [out, d] that read it, in the model's order.
        sources: where its tokens come from.
        sliced: whether the text readers have more columns than d; the first d read the tokens.
    """

    name: str
    dimension: int
    keys: tuple[str, ...]
    sources: tuple[TokenSource, ...]
    sliced: bool = False

    @property
    def pooled(self) -> bool:
        """Whether this is the pooled embedding, a single token."""
        return self.sources[0].pooled

    @property
    def columns(self) -> int | None:
        """How many of the key and value weights' first columns read the tokens; None where all do."""
        return self.dimension if self.sliced else None

    def patch_keys(self, keys: Iterable[str]) -> list[Any]:
        """What a patch of text readers is queued under: their keys, with the columns where those are not all."""
        return [(key, (1, 0, self.dimension)) for key in keys] if self.sliced else list(keys)


@dataclass(frozen=True)
class Base:
    """What an eraser was made for, or what a model is.

    Attributes:
        name: of the architecture; empty where an eraser does not say it.
        dimensions: of the text streams by name, as far as they are known.
    """

    name: str
    dimensions: Mapping[str, int]

    def fits(self, eraser: Base) -> bool:
        """Whether an eraser for that base is one for this model, as far as both are known."""
        ours, theirs = self.compared(eraser), eraser.dimensions
        # T5 gives tokens of the same size to many models, so that the size alone does not tell them apart.
        return eraser.name in (self.name, "") and (ours == theirs or not theirs or not ours)

    def describe(self) -> str:
        """As a person reads it: 'SDXL (2048)'."""
        name = printable(self.name or "?", QUOTED)
        return f"{name} ({_listed(self.dimensions)})" if self.dimensions else name

    def compared(self, eraser: Base) -> dict[str, int]:
        """The dimensions that the eraser must have: an eraser may leave the pooled embedding as it is."""
        named = eraser.dimensions
        return {name: one for name, one in self.dimensions.items() if name in named or name != POOLED_STREAM}


@dataclass(frozen=True)
class Architecture:
    """What a loaded MODEL is, and where it reads the text."""

    family: Family
    streams: tuple[TextStream, ...]

    @property
    def name(self) -> str:
        """The family's name."""
        return self.family.name

    @property
    def reads_pooled(self) -> bool:
        """Whether it also reads a pooled text embedding."""
        return any(stream.pooled for stream in self.streams)

    @property
    def keys(self) -> tuple[str, ...]:
        """State-dict keys of the key and value weights of all streams."""
        return tuple(key for stream in self.streams for key in stream.keys)

    def erased_by(self, eraser: EraserSet) -> list[TextStream]:
        """The streams that `eraser` changes: all, or all but the pooled one."""
        return [stream for stream in self.streams if stream.name in eraser.transforms]

    def check_eraser(self, eraser: EraserSet) -> None:
        """Raise WrongConnectionError unless `eraser` was made for this architecture, with its streams and dimensions."""
        here = Base(self.name, {one.name: one.dimension for one in self.streams})
        made = Base(
            eraser.provenance.architecture or "", {name: one.dimension for name, one in eraser.transforms.items()}
        )
        if not here.fits(made):
            made_for = printable(made.name or "another model", QUOTED)
            raise WrongConnectionError(
                f"This ERASER was made for {made_for} (text dimension {_listed(made.dimensions)}), but the MODEL is "
                f"{self.name} (text dimension {_listed(here.compared(made))}): use an eraser that was made on the same base."
            )


def architecture_of(model: Any) -> Architecture:
    """The architecture of a MODEL (a ModelPatcher).

    Raises:
        WrongConnectionError: the MODEL is None.
        UnsupportedModelError: it reads no text, or reads it in a way that is not in the table.
    """
    if model is None:
        raise WrongConnectionError("MODEL is None: connect the MODEL output of a checkpoint or diffusion-model loader.")
    configuration = model.model.model_config
    family = family_of(type(configuration).__name__)
    # In a model that was compiled in place the names have a part that patches and layers do without.
    keys = [key.replace("_orig_mod.", "") for key in model.model.state_dict()]
    rows = family.streams_of(configuration.unet_config)
    streams = (_stream(model.model, family, row, keys) for row in rows if not _lacks(keys, row))
    return Architecture(family, tuple(streams))


def family_of(configuration: str) -> Family:
    """The family of a class in ComfyUI's `supported_models`.

    Raises:
        UnsupportedModelError: it is not in the table.
    """
    for family in FAMILIES:
        if configuration in family.configurations:
            return family
    supported = ", ".join(family.name for family in FAMILIES)
    reason = REFUSED.get(configuration, "this pack does not know it")
    raise UnsupportedModelError(
        f"This MODEL is of the architecture {configuration}, which is not supported: {reason}. Supported are: {supported}."
    )


def _lacks(keys: Sequence[str], row: StreamRow) -> bool:
    """Whether a model does without the pooled embedding that others of its family read."""
    return row.pooled and not readers_among(row, keys)


def _stream(base: Any, family: Family, row: StreamRow, keys: Sequence[str]) -> TextStream:
    if row.unless and any(re.fullmatch(row.unless, key.removeprefix(PREFIX)) for key in keys):
        raise UnsupportedModelError(f"This {family.name} model cannot be erased from exactly: {row.because}.")
    # The weights themselves say their shapes; a state dict may say how quantised ones are packed.
    shapes = {
        key: tuple(comfy.utils.get_attr(base, key).shape) for key in readers_among(row, keys) if _reads_text(base, key)
    }
    configuration = base.model_config.unet_config
    dimension, configured = dimension_of(row, configuration, shapes.values()), configuration.get(row.dimension)
    dimensions = {shape[1] for shape in shapes.values() if len(shape) == 2}
    read = tuple(
        key for key, shape in shapes.items() if shape[1:] == (dimension,) or (row.columns and shape[1] > dimension)
    )
    if not read or (configured is None and len(read) < len(shapes)):
        expected = f"of dimension {dimension}" if dimension else "where this architecture has one"
        raise UnsupportedModelError(
            f"This {family.name} model has no layer that reads text embeddings {expected}, or several that read "
            "different ones: its layers were replaced by something this pack does not know."
        )
    return TextStream(row.name, dimension, read, row.sources, sliced=dimensions != {dimension})


def dimension_of(row: StreamRow, configuration: Mapping[str, Any], shapes: Iterable[tuple[int, ...]]) -> int:
    """How large a token of a stream is, in a model with that `unet_config` and text readers of those shapes; 0: unknown."""
    configured = configuration.get(row.dimension)
    told = int(configured) if configured is not None else min((one[1] for one in shapes if len(one) == 2), default=0)
    return row.columns or told


def readers_among(row: StreamRow, keys: Iterable[str]) -> list[str]:
    """The keys of a state dict that are weights of layers by which a stream may be read."""
    return [key for key in keys if _matches(row, key)]


def _matches(row: StreamRow, key: str) -> bool:
    if not key.startswith(PREFIX) or not key.endswith(SUFFIX):
        return False
    layer = key[len(PREFIX) : -len(SUFFIX)]
    return any(re.fullmatch(pattern, layer) for pattern in row.readers)


def _reads_text(base: Any, key: str) -> bool:
    """False for the first attention of a UNet's block, unless its self-attention is disabled (the x4 upscaler)."""
    if not _FIRST_ATTENTION.fullmatch(key.removesuffix(SUFFIX)):
        return True
    block = base.get_submodule(key.split(".attn1.")[0])
    return bool(getattr(block, "disable_self_attn", False))


def _listed(dimensions: Mapping[str, int]) -> str:
    """The dimensions, each once, in order."""
    return printable(", ".join(str(dimension) for dimension in dict.fromkeys(dimensions.values())))
