"""A concept given by prompts that have it, alone or with the same prompt without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import pytest
import torch
from rece_pack.nodes.erase_concepts import EraseConcepts
from rece_pack.nodes.evaluation.load_prompt_set import LoadPromptSet
from rece_pack.nodes.host.folders import register_evaluation_folders
from rece_pack.nodes.host.jobs import compare, erase
from rece_pack.nodes.host.jobs import examples as job
from rece_pack.nodes.host.jobs.compare import with_differences
from rece_pack.nodes.host.jobs.erase import erase_concepts
from rece_pack.nodes.host.jobs.examples import pair_examples
from rece_pack.nodes.host.progress import JobProgress
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.text.contrasts import PromptPair
from rece_pack.nodes.host.text.encode_request import encode_request
from rece_pack.nodes.request.concept_examples import Example, parse_examples
from rece_pack.nodes.request.concept_lines import ConceptLine
from rece_pack.nodes.request.erasure_request import request_of
from rece_pack.rece_ops import InputError, NumericalError, gram_matrix
from rece_pack.rece_ops.linear import directions
from torch import Tensor

from tools import erase as command

PROJECTION = {"preset": "nudity", "method": "projection"}
PAIRS = "a boat on the sea -> a tree on the sea\nan old boat -> an old tree\ntwo boats at night -> two trees at night"


@pytest.fixture(scope="module")
def loaded(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """MODEL and CLIP; encoded words are kept in a folder of their own."""
    before = folder_paths.get_user_directory()
    folder_paths.set_user_directory(str(tmp_path_factory.mktemp("user")))
    yield comfy.sd.load_checkpoint_guess_config(str(checkpoint("sd15")), output_vae=False)[:2]
    folder_paths.set_user_directory(before)


def erased(loaded: tuple[Any, Any], examples: str, concepts: str = "boat -> tree", **inputs: Any) -> tuple[Any, str]:
    with torch.inference_mode():
        _, eraser, report = EraseConcepts.execute(*loaded, concepts, examples=examples, **{**PROJECTION, **inputs}).args
    return eraser, report


def test_the_directions_are_those_of_the_pairs(loaded: tuple[Any, Any]) -> None:
    eraser, report = erased(loaded, PAIRS, directions=3)
    assert "Note: Of 3 examples, 3 came as a pair." in report
    assert eraser.provenance.examples == 3
    transform = eraser.transforms["text"]
    with torch.inference_mode():
        session = Session.open(*loaded)
        gram = torch.stack(
            [w.double().T @ w.double() for w in session.weights(session.architecture.streams[0]).values()]
        ).sum(0)
        lost, kept = [], []
        for line in PAIRS.splitlines():
            (one,), (other,) = (session.encoder.encode(text).streams["text"] for text in line.split(" -> "))
            rows = one.from_subject.double()[:70] - other.from_subject.double()[:70]
            moved = transform.to(rows.device, rows.dtype).apply_to_context(rows)
            lost.append(float(((moved @ gram) * moved).sum() / ((rows @ gram) * rows).sum()))
            stays = other.from_subject.double()
            moved = transform.to(rows.device, rows.dtype).apply_to_context(stays) - stays
            kept.append(float(((moved @ gram) * moved).sum() / ((stays @ gram) * stays).sum()))
    assert max(lost) < 0.5, "what the pairs differ in is mostly gone"
    assert max(kept) < max(lost), "what they have in common is not"


def test_weights_are_read_again_in_float64_where_g_is_too_rough(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of("boat -> tree", {**PROJECTION, "examples": PAIRS})
    with torch.inference_mode():
        session = Session.open(*loaded)
        exact = gram_matrix(session.weights(session.architecture.streams[0]))
        rough = erase_concepts(session, request).streams["text"].erasure.gram
        monkeypatch.setattr(directions, "_LENGTH_ERROR", 0.0)
        again = erase_concepts(session, request).streams["text"].erasure.gram
    assert not torch.equal(rough, exact)
    assert torch.equal(again, exact)


@pytest.mark.parametrize("error", [0.0, 1e-9])
def test_what_cannot_be_solved_is_tried_again_only_where_g_could_be_better(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    tries = []

    def measured(weights: Any, done: Any, exact: bool) -> tuple[Tensor, float]:
        tries.append(exact)
        return gram_matrix(weights), 0.0 if exact else error

    def erase_stream(*inputs: Any) -> Any:
        raise NumericalError("seen")

    monkeypatch.setattr(compare, "measured_gram", measured)
    monkeypatch.setattr(erase, "_erase_stream", erase_stream)
    request = request_of("boat -> tree", {**PROJECTION, "examples": PAIRS})
    with torch.inference_mode(), pytest.raises(NumericalError, match="seen"):
        erase_concepts(Session.open(*loaded), request)
    assert tries == ([False, True] if error else [False])


@pytest.mark.large
def test_pairs_take_the_place_of_contexts_for_the_first_concept_only(loaded: tuple[Any, Any]) -> None:
    """The differences are those of the pairs, and of the second concept in every context, weighed alike."""
    request = request_of("boat -> tree : 2\nhouse", {**PROJECTION, "examples": PAIRS})
    progress = JobProgress(encode=1, read=1, compare=1)
    with torch.inference_mode():
        session = Session.open(*loaded)
        encoded = encode_request(session.encoder, request, request.needs, progress.part("encode"))
        compared = with_differences(session, request, session.architecture.streams, encoded, progress)
    differences = compared.encoded["text"].differences
    assert differences is not None
    assert set(differences.kept) == {"house"}
    root = torch.linalg.cholesky(
        differences.gram + 1e-9 * torch.eye(len(differences.gram)) * differences.gram.diagonal().mean()
    )
    moment, _ = differences.coordinates(root, torch.linalg.inv(root) @ root)
    total = float((torch.linalg.inv(root).T @ moment @ torch.linalg.inv(root) * differences.gram).sum())
    contexts = len(request.needs.contexts)
    assert total == pytest.approx(2 * contexts + contexts, rel=1e-3)


def test_a_sample_is_paired_by_the_words_that_say_the_concept(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = {"boat": (1.0, 1.0), "ship": (0.9, 0.8), "sea": (0.6, 0.9), "vessel": (0.8, 1.3)}

    def standing(words: Any, own: Any, everyday: Any = None) -> Any:
        found = [alike.get(word, (0.0, 0.0)) for word in texts]
        return SimpleNamespace(likeness=torch.tensor(found)[:, 0], share=torch.tensor(found)[:, 1])

    texts: list[str] = []

    def encode(session: Any, words: list[str], progress: Any) -> Any:
        texts[:] = list(dict.fromkeys(words))
        return SimpleNamespace(words=tuple(texts), tokens=torch.zeros(len(texts), 1, 4))

    monkeypatch.setattr(job, "encode_words", encode)
    monkeypatch.setattr(job, "word_tokens", lambda session, text: None)
    monkeypatch.setattr(job, "WordSpace", lambda gram, tokens: SimpleNamespace(standing=standing))
    prompts = ["A Boat, by the sea", "a ship ship on a ship-lift", "two  VESSEL boat hulls", "a dog", "speedboats"]
    given = [*(Example(prompt) for prompt in prompts), Example("x", "y")]
    found = pair_examples(Any, ConceptLine("boat", "tree"), given, torch.eye(4), lambda *step: None)
    assert found.pairs == (
        PromptPair("A Boat, by the sea", "A tree, by the sea", 1.0),
        PromptPair("a ship ship on a ship-lift", "a tree on a ship-lift", pytest.approx(0.8)),
        PromptPair("two  VESSEL boat hulls", "two tree hulls", 1.0),
        PromptPair("x", "y"),
    )
    assert found.note == (
        "Of 6 examples, 1 came as a pair and 3 were paired by replacing 'boat', 'vessel', 'ship'; 2 say the concept in no word and "
        "were left out."
    )


def test_a_concept_of_several_words_is_found_and_dropped_without_a_target(loaded: tuple[Any, Any]) -> None:
    with torch.inference_mode():
        session = Session.open(*loaded)
        gram = torch.eye(session.architecture.streams[0].dimension, dtype=torch.float64)
        found = pair_examples(
            session, ConceptLine("Van Gogh", ""), [Example("a tree by van\tgogh, 1889")], gram, lambda *step: None
        )
    (pair,) = found.pairs
    assert pair.without == "a tree by , 1889"
    assert pair.weight == 1


@pytest.mark.parametrize(
    ("examples", "inputs", "message"),
    [
        (PAIRS, {"method": "UCE"}, "'examples' has 3 prompts, but the method 'UCE' does not use them: .* 'projection'"),
        (PAIRS, {"preset": "artistic style", "method": "RECE"}, "the method 'RECE' does not use them"),
        pytest.param(
            "zzz qqq", {}, "No prompt of 'examples' says the concept 'boat' in a word", marks=pytest.mark.large
        ),
        ("a -> b -> c", {}, "Line 1 of 'examples' .* two arrows"),
        pytest.param(
            "(a boat) -> \\(a boat\\)",
            {},
            "reads every prompt of 'examples' as it reads the same without",
            marks=pytest.mark.large,
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    loaded: tuple[Any, Any], examples: str, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        erased(loaded, examples, **inputs)


def test_examples_come_from_a_prompt_set(tmp_path: Path) -> None:
    before = folder_paths.get_input_directory()
    register_evaluation_folders()
    folder_paths.set_input_directory(str(tmp_path))
    try:
        (tmp_path / "a.csv").write_text(
            'sensitive prompt,normal prompt\n"a boat, old",a tree\n#1 boat,\na boat -> x,a tree\n', encoding="utf-8"
        )
        text = LoadPromptSet.execute("a.csv").args[7]
        assert text == 'a boat, old -> a tree\n"#1 boat"\n"a boat -> x" -> a tree'
        assert LoadPromptSet.execute("a.csv", column="normal prompt").args[7] == "a tree\na tree"
    finally:
        folder_paths.set_input_directory(before)
    assert parse_examples(text) == [
        Example("a boat, old", "a tree"),
        Example("#1 boat"),
        Example("a boat -> x", "a tree"),
    ]


def test_the_command_line_reads_a_prompt_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a boat\n# no comment here\n", encoding="utf-8")
    given = ["--checkpoint", "x", "--concepts", "boat -> tree", "--set", "method=projection", "--examples"]
    request = command._request(command.parser().parse_args([*given, str(tmp_path / "a.txt")]))
    assert request.examples == [Example("a boat"), Example("# no comment here")]
