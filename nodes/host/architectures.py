"""Where each supported architecture reads the text: one row per family of model configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...rece_ops import EraserSet
from .errors import UnsupportedModelError, WrongConnectionError

_BLOCK = r"diffusion_model\.(?:input_blocks\.\d+|middle_block|output_blocks\.\d+)\.1\.transformer_blocks\.\d+"
_CROSS_ATTENTION = re.compile(_BLOCK + r"\.attn2\.to_[kv]\.weight")
_FIRST_ATTENTION = re.compile(_BLOCK + r"\.attn1\.to_[kv]\.weight")


@dataclass(frozen=True)
class Family:
    """A row of the table: the model configurations of ComfyUI that read the text in the same way.

    Attributes:
        name: as reports and eraser files call it.
        configurations: class names in ComfyUI's `supported_models`.
        base_version: what LoRA tools call this base (`ss_base_model_version`).
    """

    name: str
    configurations: tuple[str, ...]
    base_version: str


FAMILIES = (
    Family("SD1", ("SD15", "SD15_instructpix2pix"), "sd_v1"),
    Family("SD2", ("SD20", "SD21UnclipL", "SD21UnclipH", "SD_X4Upscaler", "LotusD"), "sd_v2"),
    Family(
        "SDXL",
        ("SDXL", "SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix"),
        "sdxl_base_v1-0",
    ),
    Family("SDXL refiner", ("SDXLRefiner",), "sdxl_base_v1-0"),
)

_NO_TEXT = ("SVD_img2vid", "SV3D_u", "SV3D_p", "Stable_Zero123", "StableAudio")


@dataclass(frozen=True)
class TextStream:
    """One kind of text embedding that a model reads.

    Attributes:
        name: as eraser files call it.
        dimension: d, the size of a token embedding.
        keys: state-dict keys of the projections [out, d] that read it, in the model's order.
    """

    name: str
    dimension: int
    keys: tuple[str, ...]


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
    def projections(self) -> int:
        """The number of projections in all streams."""
        return sum(len(stream.keys) for stream in self.streams)

    def check_eraser(self, eraser: EraserSet) -> None:
        """Raise WrongConnectionError unless `eraser` has this architecture's streams and dimensions."""
        made_for = str(eraser.metadata.get("architecture", "another model"))
        ours = {stream.name: stream.dimension for stream in self.streams}
        theirs = {name: one.dimension for name, one in eraser.items()}
        if ours != theirs:
            raise WrongConnectionError(
                f"This ERASER was made for {made_for} (text dimension {_listed(theirs)}), but the MODEL is "
                f"{self.name} (text dimension {_listed(ours)}): use an eraser that was made on the same base."
            )


def architecture_of(model: Any) -> Architecture:
    """The architecture of a MODEL (a ModelPatcher).

    Raises:
        WrongConnectionError: the MODEL is None.
        UnsupportedModelError: it reads no text, or is of a family that is not in the table.
    """
    if model is None:
        raise WrongConnectionError("MODEL is None: connect the MODEL output of a checkpoint or diffusion-model loader.")
    family = _family(type(model.model.model_config).__name__)
    dimension = int(model.model.model_config.unet_config["context_dim"])
    keys = _cross_attention_keys(model.model, dimension)
    if not keys:
        raise UnsupportedModelError(
            f"This {family.name} model has no cross-attention projection that reads text embeddings of dimension "
            f"{dimension}: its layers were replaced by something this pack does not know."
        )
    return Architecture(family, (TextStream("text", dimension, keys),))


def _family(configuration: str) -> Family:
    for family in FAMILIES:
        if configuration in family.configurations:
            return family
    if configuration in _NO_TEXT:
        raise UnsupportedModelError(
            f"This MODEL ({configuration}) is not conditioned on text, so there is no concept to erase from it."
        )
    supported = ", ".join(f"{family.name} ({', '.join(family.configurations)})" for family in FAMILIES)
    raise UnsupportedModelError(
        f"This MODEL is of the architecture {configuration}, which is not supported yet. Supported are: {supported}."
    )


def _cross_attention_keys(base: Any, dimension: int) -> tuple[str, ...]:
    shapes = {key: tuple(weight.shape) for key, weight in base.state_dict().items()}
    return tuple(key for key in shapes if shapes[key][1:] == (dimension,) and _reads_text(base, key))


def _reads_text(base: Any, key: str) -> bool:
    if _CROSS_ATTENTION.fullmatch(key):
        return True
    # The x4 upscaler's first attention also reads the text where its self-attention is disabled.
    if not _FIRST_ATTENTION.fullmatch(key):
        return False
    block = base.get_submodule(key.split(".attn1.")[0])
    return bool(getattr(block, "disable_self_attn", False))


def _listed(dimensions: Mapping[str, int]) -> str:
    return ", ".join(str(dimension) for dimension in dimensions.values())
