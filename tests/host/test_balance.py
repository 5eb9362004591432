"""A concept with several targets: the mixture, the search for it, and the node on the pocket model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import pytest
import torch
from rece_pack.nodes.balance_concept import BalanceConcept
from rece_pack.nodes.host.jobs.apply import upstream_erasures
from rece_pack.nodes.host.jobs.balance import CHECKED, Balance, balance_concept
from rece_pack.nodes.host.jobs.erase import erase_concepts
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.reporting.balance import balance_report
from rece_pack.nodes.request.balance_request import balance_request
from rece_pack.nodes.request.concept_lines import parse_concepts
from rece_pack.nodes.request.erasure_request import request_of
from rece_pack.nodes.request.target_mixtures import mixture_of
from rece_pack.rece_ops import InputError
from untouched import assert_untouched, state_of

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import classify

UCE = {"preset": "UCE only", "method": "UCE"}
TARGETS = ("Zorro Quill", "Mira Quill")
LINE = f"Quill -> {' | '.join(TARGETS)}"
Loaded = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def loaded(comfyui: Path) -> Loaded:
    """MODEL, CLIP and VAE of the pocket model."""
    model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(str(pocket_checkpoint()))
    return model, clip, vae


@pytest.fixture(scope="module")
def session(loaded: Loaded) -> Session:
    """Of the pocket model."""
    return Session.open(*loaded)


@pytest.fixture(autouse=True)
def _as_nodes_run() -> Iterator[None]:
    with torch.inference_mode():
        yield


def from_subject(session: Session, text: str) -> torch.Tensor:
    (encoded,) = session.encoder.encode(text).streams["text"]
    return encoded.from_subject


def test_a_mixture_is_the_sum_of_its_targets_from_their_last_tokens_on(session: Session) -> None:
    line = "ring -> a photo of a circle | star : 1, 3"
    (pair,) = erase_concepts(session, request_of(line, UCE)).streams["text"].erasure.pairs
    long, short = (from_subject(session, text) for text in ("a photo of a circle", "star"))
    concept, target = pair.subject_tokens()
    assert torch.equal(concept, from_subject(session, "ring"))
    both = min(len(long), len(target))
    torch.testing.assert_close(target[:both], 0.25 * long[:both] + 0.75 * short[:both])
    # Where a target has ended, its last token goes on.
    torch.testing.assert_close(target[both:], 0.25 * long[-1:] + 0.75 * short[both:])


def test_a_target_with_all_but_nothing_of_the_shares_is_as_if_alone(session: Session) -> None:
    mixed, alone, half = (
        erase_concepts(session, request_of(f"ring -> {target}", UCE)).eraser.transforms["text"].matrix()
        for target in ("star | circle : 100, 0.0001", "star", "star | circle")
    )
    assert (mixed - alone).norm() < 1e-4 * (half - alone).norm()


class TurnsAt:
    """A look at pictures that show the first target where its share of the mixture is above a number for each picture."""

    def __init__(self, places: list[float]) -> None:
        self._places = places
        self.calls: list[int] = []

    def __call__(self, model: Any, which: int, progress: Callable[..., None]) -> list[str | None]:
        self.calls.append(which)
        progress(1, 1, "looking")
        told = upstream_erasures(model)
        share = mixture_of((told[-1].targets or ("",))[0])[TARGETS[0]] if told else 0.0
        return [TARGETS[0] if share > place else TARGETS[1] for place in self._places]


def balanced(session: Session, look: Any, line: str = LINE, rounds: int = 8) -> Balance:
    request = balance_request(line, "", "", "", 4, rounds, 0.06)
    return balance_concept(session, request.erasure, look, request.rounds, request.tolerance)


def test_the_search_ends_where_the_pictures_agree(session: Session) -> None:
    look = TurnsAt([0.12, 0.16, 0.24, 0.28])
    found = balanced(session, look)
    assert found.off == 0
    assert 0.16 < found.rounds[-1].shares[0] < 0.24
    assert found.before.counts == {TARGETS[0]: 0, TARGETS[1]: 4}
    assert found.after.counts == {TARGETS[0]: 2, TARGETS[1]: 2}
    # What is reported was not chosen by.
    assert [look.calls[0], look.calls[-1]] == [CHECKED, CHECKED]
    assert CHECKED not in look.calls[1:-1]
    told = found.result.eraser.provenance
    assert mixture_of((told.targets or ("",))[0]) == pytest.approx(
        dict(zip(TARGETS, found.rounds[-1].shares, strict=True)), rel=1e-3
    )


def test_of_rounds_that_all_miss_the_nearest_is_taken(session: Session) -> None:
    found = balanced(session, TurnsAt([0.3, 0.3, 0.3, 0.9]), f"{LINE} : 1, 3", rounds=3)
    assert found.off == min(abs(0.25 - one.seen.shares[0]) for one in found.rounds)
    assert len(found.rounds) == 3
    (line,) = parse_concepts(f"{LINE} : 1, 3")
    assert "Warning" not in balance_report(line, found, Named())
    (other,) = parse_concepts(f"{LINE} : 99, 1")
    warned = balance_report(other, found, Named()).splitlines()[0]
    assert warned.startswith("Warning: The shares are not those asked for: 'Zorro Quill' has 0% and should have 99%.")


class Named:
    """A detector, as far as reports name it."""

    name, rule = "eyes", "they see it"

    def detect(self, pictures: torch.Tensor, progress: Any = None) -> list[Any]:
        """Nothing looks here."""
        return []


def test_pictures_that_show_no_target_are_said_to(session: Session) -> None:
    def look(model: Any, which: int, progress: Callable[..., None]) -> list[str | None]:
        return [None, None]

    with pytest.raises(InputError, match="None of 2 pictures shows 'Zorro Quill' or 'Mira Quill'"):
        balanced(session, look)


def test_cancel_stops_it(session: Session) -> None:
    def look(model: Any, which: int, progress: Callable[..., None]) -> list[str | None]:
        comfy.model_management.interrupt_current_processing(True)
        progress(1, 1, "looking")
        return []

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        balanced(session, look)


class Classified:
    """The pocket model's classifier in the place of both halves of a CLIP: a direction for each figure."""

    def encode_image(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """As CLIP_VISION does."""
        return {"image_embeds": torch.stack([_direction(one.identity) for one in classify(pictures.movedim(-1, 1))])}

    def tokenize(self, text: str) -> str:
        """As CLIP does."""
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list[Any]:
        """As CLIP does."""
        return [[None, {"pooled_output": _direction(text)[None]}]]


def _direction(text: str) -> torch.Tensor:
    places = {TARGETS[0]: 0, TARGETS[1]: 1}
    return torch.eye(3)[places.get(text, 2)]


def test_the_node_moves_a_habit_of_the_pocket_model(loaded: Loaded) -> None:
    """A bare 'Quill' is always Mira; mapped to three quarters Zorro and more, it is not."""
    model, clip, vae = loaded
    before = state_of(model.model)
    looks = Classified()
    output = BalanceConcept.execute(
        model, clip, vae, f"{LINE} : 9, 1", "CLIP zero-shot", clip_vision=looks, detector_clip=looks,
        pictures=2, rounds=1, steps=5, guidance=2.0, size=64,
    )  # fmt: skip
    patched, eraser, line, report = output.args
    # The host patches the shared weights while it samples, from a copy that it puts back.
    patched.unpatch_model()
    assert_untouched(model.model, before)
    assert patched is not model
    assert eraser.provenance.method == "UCE"
    assert parse_concepts(line)[0].target == (eraser.provenance.targets or ("",))[0]
    assert "'Zorro Quill', asked for 90%: before 0% (0% to 66%), after 100% (34% to 100%)" in report
    assert "'Mira Quill', asked for 10%: before 100%" in report
