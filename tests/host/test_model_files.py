"""What the header of a model's file tells of it, and whether an eraser's file fits, before either is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import pytest
import torch
from rece_pack.nodes.apply_eraser import find_misfit
from rece_pack.nodes.host.architectures.detection import Base, architecture_of
from rece_pack.nodes.host.architectures.model_file import base_of_file
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet, InputError
from safetensors.torch import load_file, save_file

from tools.server import ComfyServer

SMALL = ("sd15", "sd2", "sdxl")
SECRET = "secret"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]) -> Path:
    """Model folders with a checkpoint, an eraser for it, and a secret beside them."""
    kinds = {"checkpoints": "checkpoints", "diffusion_models": "unet", "erasers": "erasers"}
    for kind, folder in kinds.items():
        (tmp_path / folder).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / folder)], {".safetensors"}))
    (tmp_path / "checkpoints" / "sd15.safetensors").symlink_to(checkpoint("sd15"))
    (tmp_path / f"{SECRET}.safetensors").symlink_to(checkpoint("sdxl"))
    _save_eraser(tmp_path / "erasers" / "sd.safetensors", "SD1", {"text": 768})
    return tmp_path


def _save_eraser(path: Path, architecture: str, dimensions: Mapping[str, int]) -> None:
    transforms = {name: Eraser(torch.ones(one, 1), torch.ones(1, one)) for name, one in dimensions.items()}
    EraserSet(transforms, {"architecture": architecture}).save(path)


def _write(path: Path, header: Any, size: int = 0) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)  # the numbers are a hole in the file
    return path


def _told(shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16", width: int = 2) -> tuple[dict[str, Any], int]:
    """A header for tensors of these shapes, and how many bytes they have."""
    header, reached = {}, 0
    for name, shape in shapes.items():
        end = reached + width * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [reached, end]}
        reached = end
    return header, reached


@pytest.mark.parametrize("kind", SMALL)
def test_a_header_says_what_the_loaded_model_is(checkpoint: Callable[[str], Path], kind: str) -> None:
    model = comfy.sd.load_checkpoint_guess_config(
        str(checkpoint(kind)), output_vae=False, output_clip=False, output_clipvision=False
    )[0]
    found = architecture_of(model)
    expected = Base(found.name, {stream.name: stream.dimension for stream in found.streams})
    assert base_of_file(checkpoint(kind)) == expected


def test_a_diffusion_model_is_known_without_the_rest_of_its_checkpoint(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    inside = "model.diffusion_model."
    network = {key.removeprefix(inside): value for key, value in load_file(checkpoint("sd15")).items() if inside in key}
    save_file(network, tmp_path / "unet.safetensors")
    assert base_of_file(tmp_path / "unet.safetensors") == Base("SD1", {"text": 768})


def test_flux_is_told_from_its_names_and_shapes(tmp_path: Path) -> None:
    names = {
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 4096),
        "vector_in.in_layer.weight": (3072, 768),
        "guidance_in.in_layer.weight": (3072, 256),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.img_mlp.0.weight": (12288, 3072),
        "single_blocks.0.linear1.weight": (21504, 3072),
        "final_layer.linear.weight": (64, 3072),
    }
    path = _write(tmp_path / "flux.safetensors", *_told(names))
    assert base_of_file(path) == Base("Flux", {"text": 4096, "pooled": 768})
    # Weights that are packed, four bits a number, have other shapes than what they stand for.
    header, size = _told(names)
    header["txt_in.weight"] |= {"dtype": "U8"}
    assert base_of_file(_write(path, header, size)) == Base("Flux", {})


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"weight": (1,)},
        {"input_blocks.0.0.weight": ()},
        {"model.diffusion_model.input_blocks.0.0.weight": (4,)},
        {"double_blocks.0.img_attn.norm.key_norm.scale": ()},
        {"img_in.weight": (), "double_blocks.0.img_attn.norm.key_norm.scale": (1,)},
        {"cap_embedder.1.weight": (0,), "noise_refiner.0.attention.k_norm.weight": (0,)},
        {"head.modulation": (1,), "blocks.9999999999.cross_attn.k.weight": (1,)},
        {f"joint_blocks.{place}.context_block.attn.qkv.weight": (1, 1) for place in range(50)},
    ],
)
def test_a_header_of_anything_else_is_unknown(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    assert base_of_file(_write(tmp_path / "some.safetensors", *_told(shapes))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xff",
        b'{"a": 1}',
        b'{"a": {"dtype": "F16", "shape": [1000], "data_offsets": [0, 2000]}}',
    ],
)
def test_a_damaged_header_is_told_of(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EraserFileError, match=r"'bad\.safetensors' is damaged or no safetensors file"):
        base_of_file(_write(tmp_path / "bad.safetensors", content))


def test_shapes_that_no_tensor_can_have_are_unknown(tmp_path: Path) -> None:
    header = {"a": {"dtype": "X", "shape": [10**20, 10**20], "data_offsets": [0, 0]}}
    assert base_of_file(_write(tmp_path / "some.safetensors", header)) is None


def test_files_fit_or_say_why_not(folders: Path) -> None:
    asked = {"eraser": "sd.safetensors", "folder": "checkpoints", "model": "sd15.safetensors"}
    assert find_misfit(asked) == {}
    _save_eraser(folders / "erasers" / "sd.safetensors", "SDXL", {"text": 2048})
    assert find_misfit(asked) == {"made_for": "SDXL (2048)", "here": "SD1 (768)"}
    # One that does not say what it was made for is told by its dimensions.
    _save_eraser(folders / "erasers" / "sd.safetensors", "", {"text": 1024})
    assert find_misfit(asked) == {"made_for": "? (1024)", "here": "SD1 (768)"}
    _save_eraser(folders / "erasers" / "sd.safetensors", "", {"text": 768})
    assert find_misfit(asked) == {}


@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("checkpoints", f"../{SECRET}.safetensors"),
        ("checkpoints", f"..\\{SECRET}.safetensors"),
        ("checkpoints", f"/{SECRET}"),
        ("checkpoints", "none.safetensors"),
        ("checkpoints", "none.ckpt"),
        ("checkpoints", ""),
        ("checkpoints", "\0"),
        ("diffusion_models", "sd15.safetensors"),
        ("erasers", "sd.safetensors"),
        ("..", "checkpoints/sd15.safetensors"),
        ("", "checkpoints/sd15.safetensors"),
        (".", f"{SECRET}.safetensors"),
    ],
)
def test_no_name_leaves_its_folder(folders: Path, folder: str, model: str) -> None:
    with pytest.raises(InputError) as caught:
        find_misfit({"eraser": "sd.safetensors", "folder": folder, "model": model})
    assert str(folders) not in str(caught.value)


def test_the_server_answers(server: ComfyServer, checkpoint: Callable[[str], Path], root: Path) -> None:
    server.link_model(checkpoint("sdxl"))
    _save_eraser(server.base / "models" / "erasers" / "misfit.safetensors", "SD1", {"text": 768})
    asked = "/rece/misfit?eraser=misfit.safetensors&folder=checkpoints&model="
    assert server.request(f"{asked}sdxl.safetensors") == {"made_for": "SD1 (768)", "here": "SDXL (2048)"}
    for model in ("", "..%2Fsecret.safetensors", "%00", "none.safetensors"):
        assert set(server.request(f"{asked}{model}")) == {"error"}
    assert set(server.request("/rece/misfit")) == {"error"}
