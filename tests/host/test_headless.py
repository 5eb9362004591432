"""A model on the disk that is erased without being loaded is the one that the node would have made."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch
from rece_pack.nodes.erase_concepts import EraseConcepts
from rece_pack.nodes.host.errors import UnsupportedModelError
from rece_pack.nodes.host.jobs import rewrite
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.rewrite import NOTE, rewrite_file
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.stored.checkpoint import checkpoint_session
from rece_pack.rece_ops import (
    Eraser,
    EraserSet,
    InputError,
    LowRank,
    Schedule,
    Shape,
    SparseChange,
    SparseNumbers,
    WeightChange,
)
from rece_pack.rece_ops.formats.checkpoint_file import DTYPES, open_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.erase import parser, run

UNET = "model.diffusion_model."
CONCEPTS = ("church", "Van Gogh -> art")
ROWS_APART = 61


def erase(*arguments: object) -> str:
    return run(parser().parse_args([str(one) for one in arguments]))


def eraser(path: Path, architecture: str, **dimensions: int) -> EraserSet:
    generator = torch.Generator().manual_seed(0)
    streams = {}
    for name, dimension in dimensions.items():
        left, right = (torch.randn(dimension, 3, generator=generator) / dimension**0.5 for _ in range(2))
        streams[name] = Eraser(left, right.T.contiguous())
    made = EraserSet(streams, {"method": "UCE", "architecture": architecture, "concepts": ["a"], "targets": [""]})
    made.save(path)
    return made


def transform(erasers: EraserSet, stream: str, dimension: int) -> Tensor:
    """T [d, d] in float64."""
    return erasers[stream].apply_to_context(torch.eye(dimension, dtype=torch.float64)).T


def assert_erased(before: Tensor, after: Tensor, matrix: Tensor) -> None:
    """`after` is W·T, computed in float32 and rounded to what it is stored in."""
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    assert not torch.equal(before.double(), after.double())
    columns = len(matrix)
    # Rows do not depend on each other, and all of them in float64 take long.
    before, after = before[::ROWS_APART], after[::ROWS_APART]
    exact = torch.cat([before.double()[:, :columns] @ matrix, before.double()[:, columns:]], dim=1)
    sizes = before.double()[:, :columns].abs() @ (matrix.abs() + torch.eye(columns))
    summed = torch.zeros_like(exact)
    # A sum of d products, of which each is itself rounded, then the factors of T.
    summed[:, :columns] = (columns + 8) * torch.finfo(torch.float32).eps * sizes
    info = torch.finfo(after.dtype)
    # Below the smallest normal number the steps are as wide as there.
    rounding = info.eps / 2 * (exact.abs() + summed).clamp(min=info.tiny)
    assert ((after.double() - exact).abs() <= summed + rounding).all()


def assert_same_but(before: Path, after: Path, changed: set[str]) -> None:
    with safe_open(before, "pt") as one, safe_open(after, "pt") as other:
        assert list(one.keys()) == list(other.keys())
        for key in one.keys():  # noqa: SIM118
            if key not in changed:
                assert torch.equal(
                    one.get_tensor(key).flatten().view(torch.uint8), other.get_tensor(key).flatten().view(torch.uint8)
                ), key


@pytest.fixture(scope="module")
def by_the_node(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CheckpointSave writes after the node."""
    path = tmp_path_factory.mktemp("node") / "erased.safetensors"
    with torch.inference_mode():
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")))
        patched = EraseConcepts.execute(model, clip, "\n".join(CONCEPTS), preset="easy object").args[0]
        comfy.sd.save_checkpoint(str(path), patched, clip, vae)
    return path


def is_read(key: str) -> bool:
    return ".attn2.to_k." in key or ".attn2.to_v." in key


def assert_as_the_node(found: Mapping[str, Tensor], node: Path, name: Callable[[str], str]) -> None:
    saved = load_file(node)
    compared = [key for key in saved if is_read(key)]
    assert len(compared) == 8
    assert_close(found, saved, compared, name)


def assert_close(
    found: Mapping[str, Tensor], saved: Mapping[str, Tensor], keys: Iterable[str], name: Callable[[str], str] = str
) -> None:
    for key in keys:
        ours, theirs = found[name(key)], saved[key]
        # Either may be rounded to half precision; T itself is the same to float32, whose share is far below.
        close = (ours.double() - theirs.double()).abs() <= 1.01 * 2**-10 * theirs.double().abs() + 2**-24
        assert close.all(), key


def test_a_checkpoint_is_what_the_node_and_checkpoint_save_make(
    checkpoint: Callable[[str], Path], by_the_node: Path, tmp_path: Path
) -> None:
    source, out = checkpoint("sd15"), tmp_path / "out.safetensors"
    report = erase("--checkpoint", source, "--concepts", *CONCEPTS, "--preset", "easy object", "--out", out)
    assert "Erased 2 concepts from this SD1 model" in report
    assert f"Wrote {out}: 8 tensors changed" in report
    found = load_file(out)
    assert_as_the_node(found, by_the_node, lambda key: key)
    assert_same_but(source, out, {key for key in found if is_read(key)})
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()[NOTE])["concepts"] == ["church", "Van Gogh"]


@pytest.mark.large
def test_an_sdxl_checkpoint_is_what_the_node_and_checkpoint_save_make(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source, node, out = checkpoint("sdxl"), tmp_path / "node.safetensors", tmp_path / "out.safetensors"
    with torch.inference_mode():
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(source))
        patched = EraseConcepts.execute(model, clip, "\n".join(CONCEPTS), preset="easy object").args[0]
        comfy.sd.save_checkpoint(str(node), patched, clip, vae)
    report = erase("--checkpoint", source, "--concepts", *CONCEPTS, "--preset", "easy object", "--out", out)
    assert "Erased 2 concepts from this SDXL model" in report
    before, found, saved = map(load_file, (source, out, node))
    changed = [key for key in before if not torch.equal(before[key], found[key])]
    label = f"{UNET}label_emb.0.0.weight"
    assert {*changed} == {*filter(is_read, before), label}
    assert_close(found, saved, changed)


def test_a_shape_is_written_by_weight_and_its_steps_are_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source, out, file = checkpoint("sd15"), tmp_path / "out.safetensors", tmp_path / "eraser.safetensors"
    made = eraser(file, "SD1", text=768)
    made.shaped(Shape({"input": 0.5}, keys=0.0)).save(file)
    assert "Wrote" in erase("--checkpoint", source, "--eraser", file, "--out", out)
    before, found = load_file(source), load_file(out)
    matrix = transform(made, "text", 768)
    half = (matrix + torch.eye(768, dtype=matrix.dtype)) / 2
    values = {key for key in found if ".attn2.to_v." in key}
    assert_same_but(source, out, values)
    for key in values:
        assert_erased(before[key], found[key], half if "input_blocks" in key else matrix)
    assert {"input_blocks" in key for key in values} == {True, False}
    with safe_open(out, "pt") as written:
        assert json.loads(written.metadata()[NOTE])["shape"] == "input at 0.5; keys off"
    made.shaped(Shape(schedule=Schedule.between(0.5, 1.0))).save(file)
    with pytest.raises(UnsupportedModelError, match="A checkpoint holds weights that are the same in every step"):
        erase("--checkpoint", source, "--eraser", file, "--out", tmp_path / "other.safetensors")


def test_a_diffusers_folder_is_what_the_node_makes(
    checkpoint: Callable[[str], Path], by_the_node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UNet of the small checkpoint under diffusers' names, in two files with an index, and its text encoder."""
    source, folder, out = checkpoint("sd15"), tmp_path / "folder", tmp_path / "out"
    model = comfy.sd.load_checkpoint_guess_config(str(source), output_clip=False, output_vae=False)[0]
    names = {
        UNET + ours: theirs
        for theirs, ours in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items()
    }
    weights = load_file(source)
    unet = {names[key]: value for key, value in weights.items() if key in names}
    reads = {theirs for key, theirs in names.items() if is_read(key) and key in weights}
    (folder / "unet").mkdir(parents=True)
    parts = {"a.safetensors": sorted(unet)[::2], "b.safetensors": sorted(unet)[1::2]}
    for name, keys in parts.items():
        save_file({key: unet[key].contiguous() for key in keys}, folder / "unet" / name, {"format": "pt"})
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    for name, content in {
        "model_index.json": {},
        "unet/config.json": {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768},
        "unet/diffusion_pytorch_model.safetensors.index.json": index,
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "text_encoder").mkdir()
    encoder = "cond_stage_model.transformer."
    kept = {key.removeprefix(encoder): value for key, value in weights.items() if key.startswith(encoder)}
    save_file(kept, folder / "text_encoder" / "model.safetensors")

    report = erase("--checkpoint", folder, "--concepts", *CONCEPTS, "--preset", "easy object", "--out", out)
    assert f"Wrote {out}: 8 tensors changed" in report
    found = {key: value for name in parts for key, value in load_file(out / "unet" / name).items()}
    assert_as_the_node(found, by_the_node, lambda key: names[key])
    for name in parts:
        assert_same_but(folder / "unet" / name, out / "unet" / name, reads)
    assert (out / "model_index.json").read_text(encoding="utf-8") == "{}"
    assert_same_but(folder / "text_encoder/model.safetensors", out / "text_encoder/model.safetensors", set())
    with pytest.raises(InputError, match=r"there is a '.*out' already"):
        erase("--checkpoint", folder, "--concepts", "church", "--out", out, "--replace")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewrite, "_copy", full)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        erase("--checkpoint", folder, "--concepts", "church", "--out", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_diffusers_own_models(tmp_path: Path) -> None:
    """What diffusers itself saves is found, changed, and loaded by it again."""
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=2048,
        attention_head_dim=8,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=1280 + 48,
    )
    flux = diffusers.FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        pooled_projection_dim=48,
        axes_dims_rope=(4, 4, 8),
    )
    cases: dict[str, tuple[Any, str, str, dict[str, int], Callable[[str], str]]] = {
        "sdxl": (
            unet,
            "unet",
            "SDXL",
            {"text": 2048, "pooled": 1280},
            lambda key: "text" if is_read(key) else "pooled",
        ),
        "flux": (
            flux,
            "transformer",
            "Flux",
            {"text": 96, "pooled": 48},
            lambda key: "text" if key.startswith("context") else "pooled",
        ),
    }
    for name, (network, place, architecture, dimensions, stream) in cases.items():
        folder, out = tmp_path / name, tmp_path / f"{name}_out"
        network.save_pretrained(folder / place)
        made = eraser(tmp_path / f"{name}.safetensors", architecture, **dimensions)
        erase("--checkpoint", folder, "--eraser", tmp_path / f"{name}.safetensors", "--out", out)
        before, after = network.state_dict(), type(network).from_pretrained(out / place).state_dict()
        changed = [key for key in before if not torch.equal(before[key], after[key])]
        text = [key for key in changed if stream(key) == "text"]
        assert len(text) == (len([key for key in before if is_read(key)]) if name == "sdxl" else 1)
        assert len(changed) == len(text) + 1
        for key in changed:
            assert_erased(before[key], after[key], transform(made, stream(key), dimensions[stream(key)]))


def test_changes_of_weights_are_what_apply_eraser_and_checkpoint_save_make(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = checkpoint("sd15")
    read, other, convolution = (
        f"diffusion_model.input_blocks.1.{name}.weight"
        for name in ("1.transformer_blocks.0.attn2.to_k", "1.transformer_blocks.0.ff.net.2", "0.in_layers.2")
    )
    weights = {key: value for key, value in load_file(source).items() if key.startswith(UNET)}
    shapes = {key: weights[f"model.{key}"].flatten(1).shape for key in (read, other, convolution)}
    generator = torch.Generator().manual_seed(1)
    low_rank = {
        key: LowRank(torch.randn(rows, 2, generator=generator) / 16, torch.randn(2, columns, generator=generator) / 16)
        for key, (rows, columns) in shapes.items()
    }
    sparse = {
        key: SparseNumbers(
            (rows, columns), torch.tensor([0, columns, 2 * columns + 1], dtype=torch.int32), *torch.rand(2, 3)
        )
        for key, (rows, columns) in shapes.items()
    }
    text = eraser(tmp_path / "text.safetensors", "SD1", text=768)
    parts = {**text, "first": WeightChange(low_rank), "pruned": SparseChange(sparse)}
    made = EraserSet(parts, text.metadata).shaped(Shape({"input": 0.5}, others=0.75))
    made.save(tmp_path / "eraser.safetensors")
    erase(
        "--checkpoint",
        source,
        "--eraser",
        tmp_path / "eraser.safetensors",
        "--strength",
        0.5,
        "--out",
        tmp_path / "out.safetensors",
    )
    with torch.inference_mode():
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(source))
        patched = apply_eraser(Session.open(model), made, 0.5)
        comfy.sd.save_checkpoint(str(tmp_path / "node.safetensors"), patched, clip, vae)
    ours, theirs, before = (
        load_file(path) for path in (tmp_path / "out.safetensors", tmp_path / "node.safetensors", source)
    )
    for key in map("model.{}".format, shapes):
        assert not torch.equal(ours[key], before[key])
        # Either may be rounded to half precision once; what float32 sums differ by is far below.
        sizes = torch.maximum(theirs[key].double().abs(), before[key].double().abs())
        assert ((ours[key].double() - theirs[key].double()).abs() <= 1.01 * 2**-10 * sizes + 2**-24).all(), key
    changed = {f"model.{key}" for key in shapes} | {key for key in before if is_read(key)}
    assert_same_but(source, tmp_path / "out.safetensors", changed)


def flux_outline(dtype: torch.dtype) -> dict[str, Tensor]:
    """As much of Flux as says what it is."""
    shapes = {
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 4096),
        "vector_in.in_layer.weight": (3072, 768),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "single_blocks.0.norm.key_norm.scale": (128,),
        "guidance_in.in_layer.weight": (3072, 256),
        "final_layer.linear.weight": (64, 3072),
    }
    generator = torch.Generator().manual_seed(1)
    return {
        key: (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).to(dtype) for key, shape in shapes.items()
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("prefix", ["", UNET])
def test_flux_in_every_dtype(tmp_path: Path, dtype: torch.dtype, prefix: str) -> None:
    source, out, weights = tmp_path / "in.safetensors", tmp_path / "out.safetensors", flux_outline(dtype)
    metadata = {"modelspec.title": "é", "modelspec.hash_sha256": "0x1", NOTE: "{}"}
    save_file({prefix + key: value for key, value in weights.items()}, source, metadata)
    made = eraser(tmp_path / "e.safetensors", "Flux", text=4096, pooled=768)
    erase("--checkpoint", source, "--eraser", tmp_path / "e.safetensors", "--out", out)
    found = load_file(out)
    changed = {"txt_in.weight": ("text", 4096), "vector_in.in_layer.weight": ("pooled", 768)}
    for key, (stream, dimension) in changed.items():
        assert_erased(weights[key], found[prefix + key], transform(made, stream, dimension))
    assert_same_but(source, out, {prefix + key for key in changed})
    with safe_open(out, "pt") as file:
        kept = file.metadata()
    assert set(kept) == {"modelspec.title", NOTE, f"{NOTE}_2"}
    assert kept["modelspec.title"] == "é"


def test_sdxl_is_read_by_its_header_and_its_pooled_columns_alone_change(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    made = eraser(tmp_path / "e.safetensors", "SDXL", text=2048, pooled=1280)
    with open_checkpoint(checkpoint("sdxl")) as file:
        session = checkpoint_session(file, None)
        assert {stream.name: stream.dimension for stream in session.architecture.streams} == {
            "text": 2048,
            "pooled": 1280,
        }
        from rece_pack.nodes.host.stored.model import changes_of

        (changes,) = changes_of(session, made, 1.0).values()
        label = f"{UNET}label_emb.0.0.weight"
        assert {key for key in changes if not is_read(key)} == {label}
        before = file.read(label)
        after = changes[label](before)
    assert torch.equal(after[:, 1280:], before[:, 1280:].float())
    assert_erased(before.float(), after, transform(made, "pooled", 1280))


def test_a_scaled_weight_is_changed_as_the_model_reads_it(tmp_path: Path) -> None:
    source, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    weights = flux_outline(torch.float8_e4m3fn)
    scales = {"txt_in.scale_weight": torch.tensor(0.25)}
    save_file({**weights, **scales, "scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}, source)
    made = eraser(tmp_path / "e.safetensors", "Flux", text=4096, pooled=768)
    with open_checkpoint(source) as file:
        session = checkpoint_session(file, None)
        (stream, *_) = session.architecture.streams
        read = session.weights(stream)["diffusion_model.txt_in.weight"]
        assert torch.equal(read, weights["txt_in.weight"].float() / 4)
        rewrite_file(session, file, out, made, 1.0, lambda done, total, stage: None)
    assert_erased(weights["txt_in.weight"], load_file(out)["txt_in.weight"], transform(made, "text", 4096))


def test_a_run_that_ends_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(flux_outline(torch.bfloat16), source)
    made = eraser(tmp_path / "e.safetensors", "Flux", text=4096, pooled=768)
    out.write_bytes(b"what was there")

    def full(done: int, total: int, stage: str) -> None:
        if done == 3:
            raise OSError(28, "No space left on device")

    before = sorted(path.name for path in tmp_path.iterdir())
    with open_checkpoint(source) as file, pytest.raises(OSError, match="No space left"):
        rewrite_file(checkpoint_session(file, None), file, out, made, 1.0, full)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert out.read_bytes() == b"what was there"


def test_what_cannot_be_erased_from_says_why(tmp_path: Path) -> None:
    made = tmp_path / "e.safetensors"
    eraser(made, "Flux", text=4096, pooled=768)
    weights = flux_outline(torch.bfloat16)
    files: dict[str, dict[str, Tensor]] = {
        "quantised": {**weights, "txt_in.comfy_quant": torch.zeros(3)},
        "whole_numbers": {**weights, "txt_in.weight": torch.zeros(3072, 4096, dtype=torch.int8)},
        "unknown": {"a.weight": torch.zeros(3, 3)},
        "huge": {**weights, "txt_in.weight": torch.full((3072, 4096), 3e38, dtype=torch.bfloat16)},
    }
    for name, content in files.items():
        save_file(content, tmp_path / f"{name}.safetensors")
    (tmp_path / "pickle.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "renamed.safetensors").write_bytes(b"\x80\x04." * 100)
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "unknown.safetensors").read_bytes()[:-1])
    (tmp_path / "endless.safetensors").write_bytes(struct.pack("<Q", 2**60))
    for name in ("bin", "other", "none"):
        (tmp_path / name / "unet").mkdir(parents=True)
    for name, kind in (("bin", "UNet2DConditionModel"), ("other", "SomeTransformer")):
        config = {"_class_name": kind, "cross_attention_dim": 768}
        (tmp_path / name / "unet" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "bin" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    save_file({"x": torch.zeros(1)}, tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors")
    for name, message in {
        "quantised.safetensors": "is quantised",
        "whole_numbers.safetensors": "is stored as 'I8', which cannot be changed exactly",
        "unknown.safetensors": "ComfyUI does not recognise the model",
        "huge.safetensors": "would hold numbers that are not finite, or too large for bfloat16",
        "pickle.ckpt": "is a pickle, which can run any program",
        "renamed.safetensors": "is damaged or no safetensors file .* get the file again",
        "short.safetensors": "is damaged or no safetensors file",
        "endless.safetensors": "its header has no sensible length",
        "bin": "unet has no diffusion_pytorch_model.safetensors. Where it has a .bin file, that is a pickle",
        "other": "names the class 'SomeTransformer', which cannot be erased from in a folder",
        "none": "is no diffusers folder",
        "missing.safetensors": "There is no '",
    }.items():
        with pytest.raises((InputError, ValueError), match=message):
            erase("--checkpoint", tmp_path / name, "--eraser", made, "--out", tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


def test_outputs_are_looked_at_before_any_work(tmp_path: Path) -> None:
    source = tmp_path / "in.safetensors"
    save_file(flux_outline(torch.bfloat16), source)
    given = ("--checkpoint", source, "--concepts", "a")
    (tmp_path / "there.safetensors").write_bytes(b"")
    for arguments, message in (
        ((), "Nothing is to be written"),
        (("--out", source), "is the model itself"),
        (("--out", tmp_path / "there.safetensors"), "already. Give another name, or --replace"),
        (("--out", tmp_path / "no" / "a.safetensors"), "there is no folder"),
        (("--out", tmp_path / "a.safetensors"), "give those of Flux with --text-encoders"),
        (("--out", tmp_path / "a.safetensors", "--set", "epochs=x"), "--text-encoders|give a number"),
    ):
        with pytest.raises(InputError, match=message):
            erase(*given, *arguments)


def test_every_dtype_of_a_checkpoint_that_can_be_changed_has_its_size() -> None:
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == sizes
