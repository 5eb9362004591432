"""Metrics of pictures: exact on what can be said beforehand, equal to other libraries, and clear about what they lack."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bounds import gamma
from PIL import Image
from rece_pack.nodes.host.errors import MissingPackageError
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.measures.means import mean_with_error
from safetensors.torch import save_file

from tools.evaluation.columns import Columns
from tools.evaluation.command import parse
from tools.evaluation.metrics import chosen, clip_score
from tools.evaluation.metrics.inception import Frechet, Inception, Kernel, Reference, frechet_distance, kernel_distance
from tools.evaluation.metrics.metric import Measured, Planned, kept_numbers
from tools.evaluation.metrics.perceptual import Perceptual
from tools.evaluation.metrics.pictures import batches, pictures_in
from tools.evaluation.metrics.weights import read_weights

COLUMNS = Columns(("own",), ("others",))


@pytest.fixture(scope="module")
def fidelity() -> None:
    """FID and KID can be computed."""
    pytest.importorskip("torch_fidelity", reason="the optional package torch-fidelity is not installed")


def features(count: int, seed: int, size: int = 4) -> torch.Tensor:
    """[count, size], like Inception's: of one spread, not around 0."""
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1


def rounding(one: torch.Tensor) -> float:
    """How far FID may be off: eigenvalues of Σ₁Σ₂ are as exact as the product, and their roots here as well, since Σ is
    well-conditioned; every sum has n or d terms of the size of the trace."""
    count, size = one.shape
    return 16 * size * gamma(count + 8 * size * size) * float(one.square().sum() / count)


def test_fid_of_what_is_known(fidelity: None) -> None:
    one = features(200, 0)
    shift = torch.tensor([3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    bound = rounding(one + shift)
    assert abs(frechet_distance(one, one)) < bound
    assert abs(frechet_distance(one, one + shift) - 25) < bound
    # Σ₂ = 4Σ₁ and the roots multiply: Tr(Σ + 4Σ − 2·2Σ) = Tr Σ, beside the mean's share.
    mean, trace = one.mean(dim=0), float(one.var(dim=0).sum())
    assert abs(frechet_distance(one, 2 * one) - float(mean @ mean) - trace) < 4 * bound
    other = features(150, 1)
    assert abs(frechet_distance(one, other) - frechet_distance(other, one)) < bound
    order = torch.randperm(len(one), generator=torch.Generator().manual_seed(2))
    assert abs(frechet_distance(one, other) - frechet_distance(one[order], other)) < bound


def test_kid_of_what_is_known(fidelity: None) -> None:
    one, other = features(40, 0), features(40, 1) * 1.5

    def kernel(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return (left @ right.T / left.shape[1] + 1) ** 3

    # Of all pictures at once, every subset is the same but for its order.
    within = [(kernel(x, x).sum() - kernel(x, x).diagonal().sum()) / (40 * 39) for x in (one, other)]
    expected = float(within[0] + within[1] - 2 * kernel(one, other).mean())
    bound = (
        4
        * gamma(40 * 40 + 4 + 8)
        * float(kernel(one.abs(), one.abs()).mean() + kernel(other.abs(), other.abs()).mean())
    )
    mean, deviation = kernel_distance(one, other, 40)
    assert abs(mean - expected) < bound
    assert deviation < bound
    assert abs(kernel_distance(other, one, 40)[0] - expected) < bound
    assert abs(kernel_distance(one.flip(0), other, 40)[0] - expected) < bound
    assert kernel_distance(one, other, 10) == kernel_distance(one, other, 10), "subsets are drawn with a fixed seed"
    assert kernel_distance(one, other, 10)[1] > 0


@pytest.mark.large
def test_fid_and_kid_are_those_of_torchmetrics(fidelity: None) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    kid = pytest.importorskip("torchmetrics.image.kid")

    class Given(torch.nn.Module):
        """Takes features for pictures."""

        num_features = 4

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given

    one, other = features(60, 0), features(60, 1) + 0.5
    metric = fid.FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    metric.update(one, real=True)
    metric.update(other, real=False)
    assert frechet_distance(other, one) == pytest.approx(float(metric.compute()), rel=1e-9)
    kernel = kid.KernelInceptionDistance(feature=Given(), subsets=2, subset_size=60).set_dtype(torch.float64)
    kernel.update(one, real=True)
    kernel.update(other, real=False)
    assert kernel_distance(other, one, 60)[0] == pytest.approx(float(kernel.compute()[0]), rel=1e-9)


def saved(folder: Path, *grey: float, size: tuple[int, int] = (40, 40)) -> list[Path]:
    """Pictures of noise of several strengths, as files."""
    folder.mkdir(exist_ok=True)
    generator, found = torch.Generator().manual_seed(3), []
    noise = torch.rand(size[1], size[0], 3, generator=generator)
    for place, strength in enumerate(grey):
        path = folder / f"{place:05d}.png"
        Image.fromarray((noise * strength * 255).to(torch.uint8).numpy()).save(path)
        found.append(path)
    return found


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of AlexNet's layers, as torchvision saves them, without the classifier that LPIPS does not have."""
    pytest.importorskip("lpips", reason="the optional package lpips is not installed")
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    weights = models.alexnet(weights=None).state_dict()
    torch.save({name: value for name, value in weights.items() if name.startswith("features.")}, path)
    return path


def test_lpips_is_a_distance(alexnet: Path, tmp_path: Path) -> None:
    metric = Perceptual(alexnet)
    files = saved(tmp_path / "a", 0.2, 0.6, 1.0)
    assert metric.distances(files, files) == [0.0] * 3
    there, back = metric.distances(files, files[::-1]), metric.distances(files[::-1], files)
    assert there == back
    assert there[0] > there[1] == 0
    # Whatever is in a batch beside it; float32 may be summed in another order.
    assert metric.distances(files[:1], files[2:]) == pytest.approx(there[:1], rel=1e-5)
    scaled = Perceptual(alexnet, 64).distances(files, files[::-1])
    assert scaled[1] == 0 < scaled[0] != there[0]


def test_lpips_reads_its_weights_from_safetensors_too(alexnet: Path, tmp_path: Path) -> None:
    files = saved(tmp_path / "a", 0.2, 1.0)
    save_file(torch.load(alexnet, weights_only=True), tmp_path / "alexnet.safetensors")
    own = Perceptual(tmp_path / "alexnet.safetensors").distances(files, files[::-1])
    assert own == Perceptual(alexnet).distances(files, files[::-1])


@pytest.mark.large
def test_lpips_is_that_of_torchmetrics(alexnet: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("torchmetrics.functional.image.lpips")
    network = package._LPIPS(pretrained=True, net="alex", pnet_rand=True)
    weights = torch.load(alexnet, weights_only=True)
    own = network.net.state_dict()
    network.net.load_state_dict({name: weights[f"features.{name.partition('.')[2]}"] for name in own})
    files = saved(tmp_path / "a", 0.2, 0.6, 1.0)
    (one,) = batches(files)
    with torch.inference_mode():
        expected = network(one / 255, one.flip(0) / 255, normalize=True).flatten().tolist()
    assert Perceptual(alexnet).distances(files, files[::-1]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the Inception that FID is defined by."""
    package = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="the optional package torch-fidelity is not installed"
    )
    empty = tmp_path_factory.mktemp("weights") / "empty.pth"
    torch.save({}, empty)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        # It has no way to be made without weights.
        patch.setattr(package.FeatureExtractorInceptionV3, "load_state_dict", lambda self, weights: None)
        network = package.FeatureExtractorInceptionV3("i", ["2048"], feature_extractor_weights_path=str(empty))
    path = empty.with_name("inception.pth")
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.large
def test_inception_is_that_of_torch_fidelity(inception_weights: Path, tmp_path: Path) -> None:
    package = sys.modules["torch_fidelity.feature_extractor_inceptionv3"]
    network = package.FeatureExtractorInceptionV3("i", ["2048"], feature_extractor_weights_path=str(inception_weights))
    files = [*saved(tmp_path / "a", 0.2, 1.0), *saved(tmp_path / "b", 0.7, size=(64, 48))]
    found = Inception(inception_weights).look(files)
    assert found.shape == (3, Inception.features)
    expected = torch.cat([network(batch)[0] for batch in batches(files)])
    assert torch.equal(found, expected)
    assert torch.allclose(Inception(inception_weights).look(files[::-1]).flip(0), found, rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused(alexnet: Path, inception_weights: Path, tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "small.safetensors")
    (tmp_path / "text.pth").write_text("nothing", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pth")

    class Harm:
        def __reduce__(self) -> tuple[Callable[[Any], None], tuple[Any]]:
            return os.mkdir, (tmp_path / "harm",)

    (tmp_path / "harm.pth").write_bytes(pickle.dumps(Harm()))
    torch.save({"a": Harm()}, tmp_path / "harm_inside.pth")
    small = tmp_path / "small.safetensors"
    for opened, message in (
        (
            lambda: Perceptual(None),
            r"--alexnet is not given: .* Download it from https://download\.pytorch\.org/.*alexnet",
        ),
        (lambda: Perceptual(tmp_path / "none.pth"), r"--alexnet names '.*none\.pth', which is no file"),
        (lambda: Perceptual(small), r"'small\.safetensors' does not hold the weights of torchvision's AlexNet"),
        (lambda: Perceptual(inception_weights), r"does not hold the weights of torchvision's AlexNet"),
        (lambda: Inception(None), r"--inception is not given: .* Download it from https://github\.com/toshas/"),
        (lambda: Inception(alexnet), r"'alexnet\.pth' does not hold the weights of Inception v3 for FID"),
        (lambda: Inception(tmp_path / "text.pth"), r"'text\.pth' cannot be read as weights of Inception"),
        (lambda: Inception(tmp_path / "list.pth"), r"'list\.pth' holds no table of weights"),
        (lambda: Perceptual(tmp_path / "harm.pth"), r"'harm\.pth' cannot be read as weights"),
        (lambda: Inception(tmp_path / "harm_inside.pth"), r"'harm_inside\.pth' cannot be read as weights"),
    ):
        with pytest.raises(InputError, match=message):
            opened()
    assert not (tmp_path / "harm").exists(), "a file ran what was in it"


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingPackageError, match=r"LPIPS needs the package lpips, .*pip install \"lpips==0\.1\.4\""):
        Perceptual(None)
    with pytest.raises(
        MissingPackageError, match=r"FID and KID needs? the package torch_fidelity, .*\"torch-fidelity=="
    ):
        Inception(None)


def test_weights_are_read_as_they_are(tmp_path: Path) -> None:
    weights = {"a": torch.rand(2, 3)}
    torch.save(weights, tmp_path / "a.pth")
    assert torch.equal(read_weights(tmp_path / "a.pth", "--x", "a network", "nowhere")["a"], weights["a"])


class Means:
    """A network that says of a picture what its colours are on average, and writes down how many it looked at."""

    features, source = 3, ["means", 1]

    def __init__(self, weights: Path | None = None) -> None:
        self.looked = 0

    def look(self, paths: list[Path]) -> torch.Tensor:
        self.looked += len(paths)
        return torch.cat([batch.float().mean(dim=(2, 3)) / 255 for batch in batches(paths)])


def test_too_few_pictures_are_named_before_any_is_made(tmp_path: Path) -> None:
    reference = Reference(Means(), None)
    Frechet(reference).check(Planned(COLUMNS, {"own": 1, "others": 4}))
    Kernel(reference, 4).check(Planned(COLUMNS, {"own": 1, "others": 4}))
    saved(tmp_path / "few", 0.1, 0.2, 0.3)
    few = Reference(Means(), tmp_path / "few")
    for metric, kept, message in (
        (Frechet(reference), 3, "needs at least 4 pictures on either side, and one has 3"),
        (Frechet(few), 100, "needs at least 4 pictures on either side, and one has 3"),
        (Kernel(reference), 999, r"KID draws subsets of 1,000 pictures, and one side has 999: .* from 2 to 999"),
        (Kernel(few, 50), 60, r"subsets of 50 pictures, and one side has 3"),
        (Kernel(reference, 1), 60, r"subsets of 1 pictures"),
        (Kernel(reference), 0, "give some with --keep"),
        (clip_score.ClipScore(None, []), 0, "give some with --keep"),
    ):
        with pytest.raises(InputError, match=message):
            metric.check(Planned(COLUMNS, {"own": 9, "others": kept}))
    with pytest.raises(InputError, match=r"2,048 features and needs at least 2,049 pictures"):
        Frechet(Reference(SimpleNamespace(features=2048, source=[]), None)).check(Planned(COLUMNS, {"others": 2048}))  # type: ignore[arg-type]


def test_lpips_needs_pictures_of_some_size(alexnet: Path) -> None:
    Perceptual(alexnet).check(Planned(COLUMNS, {}, 32))
    Perceptual(alexnet, 64).check(Planned(COLUMNS, {}, 16))
    with pytest.raises(InputError, match="LPIPS needs pictures of at least 32 pixels, and these have 24"):
        Perceptual(alexnet).check(Planned(COLUMNS, {}, 24))


def test_a_folder_of_pictures_of_any_size(tmp_path: Path) -> None:
    files = [*saved(tmp_path / "all", 0.2, 0.4), *saved(tmp_path / "all" / "inner", 0.6, size=(64, 48))]
    assert pictures_in(tmp_path / "all") == files
    assert [tuple(batch.shape) for batch in batches(files)] == [(2, 3, 40, 40), (1, 3, 48, 64)]
    (tmp_path / "all" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png' is no picture that can be read"):
        pictures_in(tmp_path / "all")
    with pytest.raises(InputError, match="is no folder with pictures"):
        pictures_in(tmp_path / "none")


def test_numbers_are_kept_until_something_else_finds_them(tmp_path: Path) -> None:
    calls: list[int] = []

    def found() -> list[float]:
        calls.append(1)
        return [0.5, float(len(calls))]

    assert kept_numbers(tmp_path, "a", ["w", 1], 2, found) == [0.5, 1.0]
    assert kept_numbers(tmp_path, "a", ["w", 1], 2, found) == [0.5, 1.0]
    assert kept_numbers(tmp_path, "a", ["w", 2], 2, found) == [0.5, 2.0]
    (tmp_path / "a.json").write_text("[", encoding="utf-8")
    assert kept_numbers(tmp_path, "a", ["w", 2], 2, found) == [0.5, 3.0]


def test_means_have_standard_errors() -> None:
    assert mean_with_error([1.0, 2.0, 3.0]) == (2.0, pytest.approx(math.sqrt(1 / 3)))
    assert mean_with_error([4.0]) == (4.0, None)
    assert math.isnan(mean_with_error([])[0])
    assert str(Measured.mean("CLIP ↑", [30.0, 31.0, 32.0], digits=2)) == "31.00 ± 0.58 (n 3)"
    assert str(Measured.mean("CLIP ↑", [])) == "–"
    assert str(Measured("FID ↓", 12.25, None, 30, 40, digits=2)) == "12.25 (n 30 against 40)"


def metrics_of(*given: object) -> list[Any]:
    return chosen.open_metrics(parse(["--pocket", "--out", "x", *map(str, given)]))


def test_a_metric_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        metrics_of("--metrics", "LPIPS", "SSIM")
    # Some versions of Python put quotation marks around the choices.
    assert "invalid choice: SSIM (choose from CLIP, LPIPS, FID, KID)" in capsys.readouterr().err.replace("'", "")


def test_both_halves_of_clip_are_needed(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for given, message in (
        ((), "--clip-vision is not given: give a .safetensors file with CLIP's picture encoder"),
        (("--clip-vision", tmp_path / "a.ckpt"), r"--clip-vision is '.*a\.ckpt': give a \.safetensors file"),
        (
            ("--clip-vision", tmp_path / "other.safetensors"),
            r"'other\.safetensors' (cannot be loaded|is not CLIP's picture encoder)",
        ),
    ):
        with pytest.raises(InputError, match=message):
            metrics_of("--metrics", "CLIP", *given)


@pytest.mark.large
def test_clip_score_is_that_of_torchmetrics() -> None:
    """Of given embeddings, since no CLIP is at hand."""
    package = pytest.importorskip("torchmetrics.functional.multimodal.clip_score")
    from rece_pack.nodes.host.detectors.zero_shot import ClipSpace

    generator = torch.Generator().manual_seed(0)
    seen, read = (torch.randn(3, 8, generator=generator) for _ in range(2))

    class Model(torch.nn.Module):
        config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=77))
        device = torch.device("cpu")

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return seen

        def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return read

    def processor(**given: Any) -> dict[str, torch.Tensor]:
        ones = torch.ones(3, 4, dtype=torch.long)
        return {"pixel_values": torch.zeros(3, 3, 4, 4), "input_ids": ones, "attention_mask": ones}

    pictures = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * 3
    scores, _ = package._clip_score_update(pictures, ["a", "b", "c"], Model(), processor)
    space = ClipSpace.__new__(ClipSpace)
    space.of_pictures = lambda pictures: torch.nn.functional.normalize(seen, dim=1)  # type: ignore[method-assign]
    space.of_texts = lambda texts: torch.nn.functional.normalize(read, dim=1)  # type: ignore[method-assign]
    found = space.scores(torch.zeros(3, 4, 4, 3), ["a", "b", "c"])
    assert found == pytest.approx(scores.clamp(min=0).tolist(), rel=1e-5)
    assert min(found) == 0 < max(found)


@pytest.mark.large
def test_clip_is_loaded_by_the_hosts_loaders(tmp_path: Path, checkpoint: Callable[[str], Path]) -> None:
    """Both halves of a ViT-L/14 with random weights, from files as they are published."""
    import comfy.clip_vision
    import comfy.sd

    torch.manual_seed(0)
    config = Path(str(comfy.clip_vision.__file__)).with_name("clip_vision_config_vitl.json")
    weights = comfy.clip_vision.ClipVisionModel(str(config)).get_sd()
    save_file(
        {name: torch.randn(one.shape).half() / 50 for name, one in weights.items()}, tmp_path / "vision.safetensors"
    )
    _, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_model=False, output_vae=False)
    text = {name: one.clone() for name, one in clip.cond_stage_model.clip_l.transformer.state_dict().items()}
    halves = ("--clip-vision", tmp_path / "vision.safetensors", "--clip-text", tmp_path / "text.safetensors")
    save_file(text, tmp_path / "text.safetensors")
    # As checkpoints of Stable Diffusion have it.
    with pytest.raises(InputError, match="no projection of texts into the space of pictures"):
        metrics_of("--metrics", "CLIP", *halves)
    save_file({**text, "text_projection.weight": torch.randn(768, 768) / 768**0.5}, tmp_path / "text.safetensors")
    (metric,) = metrics_of("--metrics", "CLIP", *halves)
    files = saved(tmp_path / "a", 0.2, 1.0)
    there, back = (metric._scores(one, texts) for one, texts in ((files, ["a", "b"]), (files[::-1], ["b", "a"])))
    assert there == pytest.approx(back[::-1], rel=1e-3, abs=1e-2)
    assert all(0 <= one < 100 for one in there)


class Space:
    """Says of each picture how red it is."""

    def scores(self, pictures: torch.Tensor, texts: list[str]) -> list[float]:
        return [float(picture[..., 0].mean()) * 100 for picture in pictures]


def test_all_of_them_in_the_table(
    fidelity: None, alexnet: Path, tmp_path: Path, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.evaluation.command import evaluate

    means = Means()
    monkeypatch.setattr(chosen, "Inception", lambda weights: means)
    monkeypatch.setattr(chosen, "open_clip_score", lambda vision, text: clip_score.ClipScore(Space(), ["red"]))
    (tmp_path / "p.csv").write_text(
        "prompt,seed,class\na church,5,church\na dog,7,dog\na cat,8,cat\na house,9,house\na tree,10,tree\n",
        encoding="utf-8",
    )
    reference = tmp_path / "photos"
    saved(reference, 0.1, 0.3, 0.5, 0.7, 0.9)
    own = ["--checkpoint", checkpoint("sd15"), "--concepts", "church", "--prompts", tmp_path / "p.csv"]
    own += ["--keep", tmp_path / "p.csv", "--category", "church", "--detector", "none", "--steps", 1, "--size", 32]
    own += ["--erase", "UCE", "preset=UCE only", "--out", tmp_path / "out", "--chunk", 3]
    wanted = ["--metrics", "CLIP", "LPIPS", "FID", "KID", "--alexnet", alexnet, "--reference", reference]

    def run(*more: object) -> Path:
        return evaluate(parse([str(one) for one in (*own, *more)]))

    with pytest.raises(InputError, match=r"KID draws subsets of 1,000 pictures, and one side has 4"):
        run(*wanted)
    assert not (tmp_path / "out" / "pictures").exists(), "no picture was made before"
    page = run(*wanted, "--kid-subset-size", 3)
    lines = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    metrics = "CLIP ↑ | LPIPS_e ↑ | LPIPS_u ↓ | LPIPS_e − LPIPS_u ↑ | FID ↓ | KID × 1000 ↓"
    assert lines[2] == f"| erasure | p, church ↓ | p, others ↑ | change ↓ | {metrics} | H_o ↑ | seconds | size |"
    unedited, erased = (dict(zip(lines[2].split(" | "), line.split(" | "), strict=True)) for line in lines[4:6])
    assert [unedited[head] for head in ("LPIPS_e ↑", "LPIPS_u ↓")] == ["–", "–"]
    assert erased["LPIPS_e ↑"].endswith("(n 1)")
    assert erased["LPIPS_u ↓"].endswith("(n 4)")
    assert erased["FID ↓"].endswith("(n 4 against 5)")
    assert erased["CLIP ↑"].endswith("(n 4)")
    assert "Pictures of each erasure: p, church 1, p, others 4." in lines
    record = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    told = record["erasures"][1]["metrics"]
    assert set(told) == {"CLIP", "LPIPS_e", "LPIPS_u", "LPIPS_e − LPIPS_u", "FID", "KID × 1000"}
    assert told["LPIPS_e − LPIPS_u"]["value"] == told["LPIPS_e"]["value"] - told["LPIPS_u"]["value"]
    assert (told["FID"]["pictures"], told["FID"]["against"]) == (4, 5)
    text = page.read_text(encoding="utf-8")
    assert "LPIPS_u of those that should stay" in text
    assert "from those in the folder &#x27;photos&#x27;" in text
    rows = (tmp_path / "out" / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].endswith("clip_score,lpips")
    looked = means.looked
    assert looked == 4 + 4 + 5
    # Nothing is looked at twice, and of itself the unedited model's own pictures say nothing.
    run("--metrics", "KID", "--kid-subset-size", 4)
    assert means.looked == looked
    line = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()[4]
    assert line.split(" | ")[4] == "–"
