"""Words next to a concept, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rece_pack.rece_ops import Eraser, EraserFileError, InputError
from rece_pack.rece_ops.formats.tensor_file import TensorDigest
from rece_pack.rece_ops.formats.word_file import EncodedWords, read_words, write_words
from rece_pack.rece_ops.measures.words import SHRINKAGE, Standing, WordSpace, best_target, is_told_from, likest
from safetensors.torch import load_file, save_file
from torch import Tensor

WORDS, TOKENS, DIMENSION = 60, 2, 12
ROUNDING = 1e-9
"""Of sums over 60·24 numbers of about 1 and two solves with a condition below 1e4, in float64, with a wide margin."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gram() -> Tensor:
    weight = torch.randn(40, DIMENSION, generator=generator(1), dtype=torch.float64)
    return weight.T @ weight


def tokens() -> Tensor:
    return torch.randn(WORDS, TOKENS, DIMENSION, generator=generator(2), dtype=torch.float64) + 3


def test_likeness_and_share_are_those_of_their_definition() -> None:
    found = WordSpace(gram(), tokens()).standing(tokens(), tokens()[7])
    root = torch.linalg.cholesky(gram())
    outputs = tokens() @ root
    centred = outputs - outputs.mean(dim=0)
    rows = centred.flatten(0, 1)
    spread = rows.T @ rows
    factor = torch.linalg.cholesky(spread + SHRINKAGE * spread.diagonal().mean() * torch.eye(DIMENSION))
    z = (centred @ torch.linalg.inv(factor).T).flatten(1)
    inner = z @ z[7]
    # The floor under the metric is 1e-9 of its mean eigenvalue.
    assert torch.allclose(found.share, inner / (z[7] @ z[7]), atol=1e-6)
    assert torch.allclose(found.likeness, inner / z.norm(dim=1) / z[7].norm(), atol=1e-6)
    assert abs(float(found.share[7]) - 1) < ROUNDING
    assert float(found.likeness.abs().max()) <= 1 + ROUNDING


def test_what_many_words_differ_by_counts_little() -> None:
    """Two words that share a rare trait are more alike than two that share what half of all words have."""
    words = 0.1 * torch.randn(400, 1, DIMENSION, generator=generator(3), dtype=torch.float64)
    words[::2, 0, 0] += 5
    rare = torch.zeros(DIMENSION, dtype=torch.float64)
    rare[1] = 3
    words[[0, 1, 2], 0] += rare
    found = WordSpace(torch.eye(DIMENSION, dtype=torch.float64), words).standing(words, words[0])
    assert found.likeness[1] > 0.7  # the same trait, without what is common
    assert found.likeness[4] < 0.5  # what is common alone


def test_words_of_any_number_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = WordSpace(gram(), tokens()).standing(tokens(), tokens()[0])
    monkeypatch.setattr("rece_pack.rece_ops.measures.words._AT_ONCE", 7)
    parts = WordSpace(gram(), tokens()).standing(tokens(), tokens()[0])
    assert torch.allclose(whole.likeness, parts.likeness, atol=ROUNDING)


def test_an_eraser_takes_a_concepts_share_away_and_its_drift_is_the_price() -> None:
    words = tokens()
    space = WordSpace(gram(), words)
    assert torch.equal(space.drift(words, Eraser.identity(DIMENSION, torch.float64)), torch.zeros(WORDS).double())
    # Every token of word 3 becomes the mean of all words'.
    mean, own = words.mean(dim=0), words[3]
    change = torch.linalg.lstsq(own, mean - own).solution
    eraser = Eraser(change.T.contiguous())
    after = space.standing(words, own, eraser)
    assert abs(float(after.share[3])) < 1e-6
    moved = (words @ change) @ torch.linalg.cholesky(gram())
    sizes = (words @ torch.linalg.cholesky(gram())).flatten(1).norm(dim=1)
    assert torch.allclose(space.drift(words, eraser), moved.flatten(1).norm(dim=1) / sizes, atol=1e-6)


def test_the_likest_come_first_within_their_limits() -> None:
    likeness = torch.tensor([0.2, 0.9, 0.5, float("-inf"), 0.7, 0.5])
    assert likest(likeness, 10, 0.5) == [1, 4, 2, 5]
    assert likest(likeness, 2, 0.5) == [1, 4]
    assert likest(likeness, 10, 0.3, 0.7) == [2, 5]
    assert likest(likeness, 10, 0.95) == []


def test_a_target_is_the_likest_word_that_may_be_one() -> None:
    standing = Standing(torch.tensor([0.9, 0.6, 0.5, 0.49, 0.4]), torch.tensor([0.9, 0.2, 0.6, 0.4, 0.2]))
    allowed = torch.tensor([False, False, False, True, True])
    assert best_target(standing, allowed, 0.3) == 3
    assert best_target(standing, allowed & torch.tensor([True, True, True, False, True]), 0.3) == 4
    assert best_target(standing, allowed, 0.495) is None


def test_the_empty_prompt_is_told_from_a_concept() -> None:
    assert not is_told_from(gram(), tokens()[0], tokens()[0])
    assert not is_told_from(gram(), tokens()[0], 1.0001 * tokens()[0])
    assert is_told_from(gram(), tokens()[0], tokens()[1])


@pytest.mark.parametrize("wrong", [tokens()[:1], tokens()[0], tokens()[..., :5]])
def test_wrong_words_are_refused(wrong: Tensor) -> None:
    with pytest.raises(InputError, match="give at least two"):
        WordSpace(gram(), wrong)


def test_words_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="All words have the same tokens"):
        WordSpace(gram(), torch.ones(5, 1, DIMENSION))


PROBES = torch.randn(3, TOKENS, DIMENSION, generator=generator(4))
NAMES = [f"word{number}" for number in range(WORDS)]


def kept(path: Path, most: int = 1 << 20) -> Path:
    write_words(path, EncodedWords.of(NAMES, tokens()), PROBES, most)
    return path


def test_words_come_back_as_they_were_rounded(tmp_path: Path) -> None:
    found = read_words(kept(tmp_path / "a.safetensors"), PROBES * 1.001)
    assert found.words == tuple(NAMES)
    # Half precision has eleven bits, of the largest number of a word.
    error = (found.rows(NAMES) - tokens()).abs().amax(dim=(1, 2))
    assert (error <= tokens().abs().amax(dim=(1, 2)) * 2**-11).all()
    assert torch.equal(found.rows(["word5", "word2"]), found.rows(NAMES)[[5, 2]])


def test_no_more_is_kept_than_fits_and_long_words_are_not(tmp_path: Path) -> None:
    each = TOKENS * DIMENSION * 2 + 4
    assert read_words(kept(tmp_path / "a.safetensors", 10 * each + 1), PROBES).words == tuple(NAMES[:10])
    write_words(tmp_path / "b.safetensors", EncodedWords.of(["x" * 65, "y"], tokens()[:2]), PROBES, 1 << 20)
    assert read_words(tmp_path / "b.safetensors", PROBES).words == ("y",)


def test_another_text_encoders_words_are_refused(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.safetensors")
    for other in (PROBES * 1.1, PROBES[:2], PROBES[..., :6]):
        with pytest.raises(EraserFileError, match="belongs to another text encoder: it is made anew"):
            read_words(path, other)


def spoilt(path: Path, change: str) -> None:
    tensors, words = load_file(path), NAMES
    metadata = {"rece_words": "1", "words": json.dumps(words)}
    match change:
        case "number":
            digest = TensorDigest.of(tensors)
            tensors["tokens"][0, 0, 0] += 1
        case "nan":
            tensors["scales"][1] = float("nan")
        case "count":
            metadata["words"] = json.dumps(words[1:])
        case "twins":
            metadata["words"] = json.dumps([words[0], *words[:-1]])
        case "json":
            metadata["words"] = "[" * 5000
        case "version":
            metadata["rece_words"] = "9"
        case "tensor":
            del tensors["scales"]
    metadata["digest"] = digest if change == "number" else TensorDigest.of(tensors)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("change", ["number", "nan", "count", "twins", "json", "version", "tensor"])
def test_a_damaged_file_is_refused(tmp_path: Path, change: str) -> None:
    path = kept(tmp_path / "a.safetensors")
    spoilt(path, change)
    with pytest.raises(EraserFileError, match=r"(is damaged|is no file of this version's words): it is made anew"):
        read_words(path, PROBES)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EraserFileError, match="is damaged"):
        read_words(path, PROBES)
