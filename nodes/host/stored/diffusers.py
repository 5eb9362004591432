"""A diffusers folder: which architecture its configuration names, and where its weights lie."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ....rece_ops import InputError
from ....rece_ops.formats.checkpoint_file import CheckpointFile, open_checkpoint
from ....rece_ops.texts import quoted
from ..architectures.detection import Architecture, TextStream
from ..architectures.table import FAMILIES, Family
from ..errors import UnsupportedModelError
from ..protocols import Clip
from .model import StoredSession, StoredTensor

NETWORKS = ("unet", "transformer")
_STEM = "diffusion_pytorch_model"
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True)
class _Names:
    """Where a network of diffusers reads the text: readers by regular expressions, in the family's order of streams."""

    family: str
    readers: tuple[str, ...]


_ATTENTION, _EMBEDDER = r".*\.attn2\.to_[kv]", r"time_text_embed\.text_embedder\.linear_1"
# By the dimension of the text that the UNet reads.
_UNETS: Mapping[int, _Names] = {
    768: _Names("SD1", (_ATTENTION,)),
    1024: _Names("SD2", (_ATTENTION,)),
    2048: _Names("SDXL", (_ATTENTION, r"add_embedding\.linear_1")),
    1280: _Names("SDXL refiner", (_ATTENTION, r"add_embedding\.linear_1")),
}
_TRANSFORMERS: Mapping[str, _Names] = {
    "FluxTransformer2DModel": _Names("Flux", ("context_embedder", _EMBEDDER)),
    "SD3Transformer2DModel": _Names("SD3", ("context_embedder", _EMBEDDER)),
    "PixArtTransformer2DModel": _Names("PixArt", (r"caption_projection\.linear_1",)),
    "AuraFlowTransformer2DModel": _Names("AuraFlow", ("context_embedder",)),
}


def is_diffusers_folder(path: Path) -> bool:
    """Whether it has the configuration of a network."""
    return any((path / name / "config.json").is_file() for name in NETWORKS)


@contextmanager
def open_folder(folder: Path) -> Iterator[dict[str, CheckpointFile]]:
    """The files that hold the network's weights, open, by their path below the folder.

    Raises:
        InputError: there are none, or they are no safetensors files.
    """
    network = folder / _network_of(folder)
    with ExitStack() as stack:
        yield {
            path.relative_to(folder).as_posix(): stack.enter_context(open_checkpoint(path))
            for path in _weight_files(network, _STEM)
        }


def folder_session(folder: Path, files: Mapping[str, CheckpointFile], clip: Clip | None) -> StoredSession:
    """The model in a diffusers folder.

    Raises:
        UnsupportedModelError: its configuration names none that this pack knows, or its weights do not fit it.
    """
    names = _names(folder)
    family = next(family for family in FAMILIES if family.name == names.family)
    tensors = {key: StoredTensor(file, key) for file in files.values() for key in file.entries}
    architecture = Architecture(family, tuple(_streams(family, names, tensors)))
    # Nothing reads a MODEL here but what comes before the readers, of which these architectures have nothing.
    network = SimpleNamespace(diffusion_model=None)
    # Files carry no erasures of a chain.
    model: Any = SimpleNamespace(model=network, get_attachment=lambda name: None)
    return StoredSession(model, architecture, clip, tensors=tensors)


def family_of(folder: Path) -> str:
    """The name of the architecture; raises as `folder_session` does."""
    return _names(folder).family


def text_encoder_files(folder: Path) -> list[list[Path]]:
    """The weights of every text encoder in the folder, in order, each in one file or several.

    Raises:
        InputError: one has weights that are no safetensors files.
    """
    present = [folder / f"text_encoder{number}" for number in ("", "_2", "_3")]
    return [_weight_files(one, "model") for one in present if one.is_dir()]


def _streams(family: Family, names: _Names, tensors: Mapping[str, StoredTensor]) -> Iterator[TextStream]:
    for row, pattern in zip(family.streams_of({}), names.readers, strict=True):
        shapes = {
            key: tensor.file.entries[key].shape
            for key, tensor in tensors.items()
            if re.fullmatch(rf"{pattern}\.weight", key)
        }
        if not shapes and row.pooled:
            continue
        widths = {shape[-1] for shape in shapes.values()}
        if len(widths) != 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise UnsupportedModelError(
                f"The weights in this folder are not those of {family.name}, which its config.json names: there is no "
                f"projection {quoted(pattern)}, or there are several that read text of different sizes."
            )
        (width,) = widths
        dimension = row.columns or width
        yield TextStream(row.name, dimension, tuple(shapes), row.sources, sliced=dimension != width)


def _network_of(folder: Path) -> str:
    for name in NETWORKS:
        if (folder / name / "config.json").is_file():
            return name
    raise InputError(
        f"{quoted(folder.name)} is no diffusers folder: it has no unet/config.json and no transformer/config.json. Give the "
        "folder that has model_index.json in it, or a .safetensors file."
    )


def _names(folder: Path) -> _Names:
    path = folder / _network_of(folder) / "config.json"
    told = read_json(path)
    kind = told.get("_class_name")
    if kind == "UNet2DConditionModel":
        size = told.get("cross_attention_dim")
        names = _UNETS.get(size) if isinstance(size, int) else None
    else:
        names = _TRANSFORMERS.get(kind) if isinstance(kind, str) else None
    if names is None:
        known = ", ".join(["UNet2DConditionModel (SD1, SD2, SDXL)", *_TRANSFORMERS])
        raise UnsupportedModelError(
            f"{path.parent.name}/config.json names the class {quoted(kind)}, which cannot be erased from in a folder. Known are: "
            f"{known}. Erase from a single-file checkpoint of it, or with the node."
        )
    return names


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file.

    Raises:
        InputError: it is none.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("no object")
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(
            f"{path.parent.name}/{path.name} cannot be read as a JSON object: get the file again."
        ) from None
    return found


def _weight_files(folder: Path, stem: str) -> list[Path]:
    """One file, or those that an index lists; half precision where both are there, as ComfyUI's loader takes it."""
    for name in (f"{stem}.fp16.safetensors", f"{stem}.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    for index in (folder / f"{stem}.safetensors.index.fp16.json", folder / f"{stem}.safetensors.index.json"):
        if index.is_file():
            return [_shard(folder, name) for name in _listed(read_json(index))]
    raise InputError(
        f"{folder.name} has no {stem}.safetensors. Where it has a .bin file, that is a pickle, which can run any program when it "
        "is read, so it is not: get the model as safetensors."
    )


def _listed(index: Mapping[str, Any]) -> Sequence[str]:
    places = index.get("weight_map")
    return sorted(set(map(str, places.values()))) if isinstance(places, dict) else []


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if "/" in name or "\\" in name or not path.is_file():
        raise InputError(
            f"The index of {folder.name} lists {quoted(name)}, which is not beside it: get the folder again."
        )
    return path
