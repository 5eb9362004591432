"""Words of a vocabulary as a MODEL reads them, their cache, and what is suggested out of them."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import pytest
import torch
from rece_pack.nodes.erase_concepts import EraseConcepts
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.folders import register_evaluation_folders
from rece_pack.nodes.host.jobs import encode_words as job
from rece_pack.nodes.host.jobs.encode_words import Words, encode_words, word_tokens
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.stored.word_cache import FOLDER, encoder_hash
from rece_pack.nodes.host.text.vocabulary import whole_words
from rece_pack.nodes.request.concept_lines import parse_concepts, parse_preserved
from rece_pack.nodes.suggest_concepts import SuggestConcepts
from rece_pack.rece_ops import EraserSet, InputError, LowRank, WeightChange

WORDS = ("hat", "cap", "a red hat", "naked", "nude", "dressed", "dog")
# Kept words are rounded to eleven bits of their largest number; the kernels of short and long prompts differ by far less.
KEPT = 2**-10


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path) -> Iterator[Path]:
    """ComfyUI's user folder is this one; its cache of words is empty."""
    register_evaluation_folders()
    before = folder_paths.get_user_directory()
    folder_paths.set_user_directory(str(tmp_path))
    yield tmp_path / FOLDER
    folder_paths.set_user_directory(before)


@pytest.fixture(scope="module")
def loaded(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """MODEL and CLIP, with no textual inversions."""
    folder = str(tmp_path_factory.mktemp("embeddings"))
    path = str(checkpoint("sd15"))
    return comfy.sd.load_checkpoint_guess_config(path, output_vae=False, embedding_directory=folder)[:2]


def encode(model: Any, clip: Any, words: tuple[str, ...] = WORDS) -> Words:
    with torch.inference_mode():
        return encode_words(Session.open(model, clip), words, lambda done, total, stage: None)


def as_sampled(model: Any, clip: Any) -> torch.Tensor:
    with torch.inference_mode():
        session = Session.open(model, clip)
        return torch.stack([word_tokens(session, word) for word in WORDS])


def assert_kept(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).abs().max()) <= KEPT * float(expected.abs().max())


@pytest.mark.parametrize(
    "kind", ["sd15", pytest.param("sd2", marks=pytest.mark.large), pytest.param("sdxl", marks=pytest.mark.large)]
)
def test_the_first_tokens_of_words_are_those_that_sampling_reads(checkpoint: Callable[[str], Path], kind: str) -> None:
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint(kind)), output_vae=False)
    skipped = clip.clone()
    skipped.clip_layer(-3)
    for one in (clip, skipped):
        found = encode(model, one)
        assert found.fast
        assert found.tokens.shape[:2] == (len(WORDS), 1)
        assert_kept(found.tokens, as_sampled(model, one))
    assert encoder_hash(clip, "text") != encoder_hash(skipped, "text")


def test_a_text_encoder_that_another_pack_wraps_is_read_as_it_is(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    wrapped = copy.copy(clip)

    def louder(tokens: Any, **options: Any) -> Any:
        ((embedding, values),) = clip.encode_from_tokens_scheduled(tokens, **options)
        return [[1.5 * embedding, values]]

    wrapped.encode_from_tokens_scheduled = louder
    found = encode(model, wrapped)
    assert not found.fast
    assert_kept(found.tokens, 1.5 * as_sampled(model, clip))


def test_words_are_encoded_once_and_a_cancelled_run_keeps_what_it_has(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip = loaded
    # Three words of one token at a time.
    monkeypatch.setattr(job, "_TOKENS_AT_ONCE", 9)

    def cancel(done: int, total: int, stage: str) -> None:
        assert (total, stage) == (len(WORDS), "encoding words")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), torch.inference_mode():
        encode_words(Session.open(model, clip), WORDS, cancel)
    first = encode(model, clip)
    assert (first.encoded, first.notes) == (len(WORDS) - 3, ())
    again = encode(model, clip, WORDS[::-1])
    assert again.encoded == 0
    assert torch.equal(again.tokens, first.tokens.flip(0))
    assert_kept(first.tokens, as_sampled(model, clip))


def test_a_cache_that_is_damaged_or_anothers_is_made_anew(loaded: tuple[Any, Any], user_folder: Path) -> None:
    model, clip = loaded
    expected = encode(model, clip).tokens
    (path,) = user_folder.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    found = encode(model, clip)
    assert found.encoded == len(WORDS)
    assert "is damaged" in found.notes[0]
    assert "it is made anew" in found.notes[0]
    assert torch.equal(found.tokens, expected)
    patched = clip.clone()
    key = next(key for key in clip.patcher.model_state_dict() if key.endswith("layers.0.mlp.fc1.weight"))
    patched.add_patches({key: (torch.randn(clip.patcher.model_state_dict()[key].shape),)}, 1.0)
    assert encoder_hash(patched, "SD1 text") != encoder_hash(clip, "SD1 text")
    encode(model, patched)
    (other,) = (one for one in user_folder.iterdir() if one != path)
    path.write_bytes(other.read_bytes())
    found = encode(model, clip)
    assert "belongs to another text encoder" in found.notes[0]
    assert torch.equal(found.tokens, expected)


def test_a_cache_that_cannot_be_written_stops_nobody(loaded: tuple[Any, Any], user_folder: Path) -> None:
    user_folder.write_text("a file where the folder should be", encoding="utf-8")
    found = encode(*loaded)
    assert any("could not be kept in the user folder" in note for note in found.notes)
    assert found.encoded == len(WORDS)


def test_the_folder_of_caches_has_a_limit(
    loaded: tuple[Any, Any], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_folder.mkdir()
    for age, name in enumerate(("new", "old")):
        (user_folder / f"{name}.safetensors").write_bytes(bytes(60_000))
        os.utime(user_folder / f"{name}.safetensors", (1e9 - age, 1e9 - age))
    monkeypatch.setattr("rece_pack.nodes.host.stored.word_cache.MAX_BYTES", 100_000)
    encode(*loaded)
    assert {path.stem for path in user_folder.iterdir()} >= {"new"}
    assert not (user_folder / "old.safetensors").exists()


def test_the_whole_words_of_vocabularies(loaded: tuple[Any, Any]) -> None:
    found = whole_words(loaded[1])
    assert len(found) == len(set(found)) > 30_000
    assert {"nude", "church", "hat"} <= set(found)
    assert all(word.isalpha() and word == word.lower() for word in found)
    vocabulary = {"<s>": 0, "▁the": 1, "▁Haus": 2, "e": 3, "▁haus": 4, "▁5": 5, "ĠStraÃŁe": 6, "Ġ<": 7}
    inner = SimpleNamespace(get_vocab=lambda: vocabulary)
    clip: Any = SimpleNamespace(tokenizer=SimpleNamespace(t5=SimpleNamespace(tokenizer=inner)))
    assert whole_words(clip) == ["the", "haus", "straße"]
    assert whole_words(None) == []


def run(loaded: tuple[Any, Any], **inputs: Any) -> tuple[Any, ...]:
    with torch.inference_mode():
        values = {"concepts": "nude", "vocabulary": "none", "words": "\n".join(WORDS), **inputs}
        return SuggestConcepts.execute(*loaded, **values).args


def test_suggestions_can_be_wired_into_an_erasure(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    # To this tokenizer a cap is a hat.
    deceived = copy.copy(clip)
    deceived.tokenize = lambda text, **options: clip.tokenize(text.replace("cap", "hat"), **options)
    given = (model, deceived)
    erase, keep, targets, report, figure = run(given, concepts="hat : 0.5", most_preserved=2)
    lines = parse_concepts(erase)
    assert [line.concept for line in lines] == ["hat", "cap"]
    assert {line.weight for line in lines} == {0.5}
    assert parse_preserved(keep, lines) == keep.splitlines()
    assert [line.concept for line in parse_concepts(targets)] == ["hat"]
    assert "Looked at 7 words, of which 0 were encoded before; 7 were encoded many at a time" in report
    assert "cap 100%" in report
    assert figure.shape[::3] == (1, 3)
    with torch.inference_mode():
        eraser = EraseConcepts.execute(*given, "hat -> dressed", "nudity", method="projection").args[1]
        weak = eraser.scaled(0.01)
    held, leaking = (run(given, eraser=one, concepts="hat -> dressed", likeness=1.0) for one in (eraser, weak))
    assert "target: 'dressed', as typed" in held[3]
    assert "words that still have at least 30% of it: none" in held[3]
    assert "Price: through the eraser, half of all words drift by more than" in held[3]
    assert "words that still have at least 30% of it: cap 9" in leaking[3]
    assert [line.concept for line in parse_concepts(leaking[0])] == ["hat", "cap"]


def test_words_of_the_same_kind_are_preserved_and_one_is_the_target(loaded: tuple[Any, Any]) -> None:
    words = "\n".join(whole_words(loaded[1])[:300])
    erase, keep, targets, report, _ = run(loaded, concepts="church", words=words, most_preserved=5)
    (line,) = parse_concepts(targets)
    assert line.target in words.splitlines()
    assert re.search(rf"target: '{line.target}', which has \d+% of it( and is of the same kind|; no word)", report)
    assert {one.target for one in parse_concepts(erase)} == {line.target}
    same = re.search(r"as words of the same kind: (.*)", report)
    assert same
    told = [entry.rsplit(" ", 1)[0] for entry in same[1].split(", ")]
    assert told == ["none"] or set(told) <= set(keep.splitlines())
    few = run(loaded, concepts="church", words=words[:40])[3]
    assert "what kind of word it is cannot be told here" in few or "the empty prompt" in few
    assert "of the same kind:" not in few


def test_a_concept_that_reads_as_the_empty_prompt_is_refused(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    deaf = copy.copy(clip)
    deaf.encode_from_tokens_scheduled = lambda tokens, **options: clip.encode_from_tokens_scheduled(
        clip.tokenize(""), **options
    )
    with pytest.raises(InputError, match="reads the concept 'nude' as it reads the empty prompt"):
        run((model, deaf))


def test_an_eraser_without_text_transforms_is_refused(loaded: tuple[Any, Any]) -> None:
    change = WeightChange({"diffusion_model.out.2.weight": LowRank(torch.ones(4, 1), torch.ones(1, 2880))})
    with pytest.raises(WrongConnectionError, match="has no text transform, which is what the report measures"):
        run(loaded, eraser=EraserSet({"weights": change}))


def test_a_word_that_names_an_unknown_inversion_is_refused(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="textual inversion 'none'"):
        run(loaded, words="hat\na embedding:none")
