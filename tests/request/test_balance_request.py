"""What the node that balances a concept was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from rece_pack.nodes.request.balance_request import balance_request
from rece_pack.nodes.request.concept_lines import parse_single_targets
from rece_pack.nodes.request.erasure_request import request_of
from rece_pack.nodes.request.pruning_request import pruning_request
from rece_pack.nodes.request.training_request import PictureSettings
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.methods.pruning import PruningSettings

SOUND: dict[str, Any] = {
    "concept": "nurse -> man | woman : 1, 3",
    "prompts": "a photo of a Nurse",
    "preserve": "man\nwoman",
    "descriptions": "a photo of a man\na photo of a woman",
    "pictures": 4,
    "rounds": 2,
    "tolerance": 0.1,
}


def test_a_request_says_what_is_looked_for_and_where() -> None:
    asked = balance_request(**SOUND)
    assert asked.labels == {"a photo of a man": "man", "a photo of a woman": "woman"}
    assert asked.prompts == ["a photo of a Nurse"]
    assert asked.erasure.preserved == ["man", "woman"]
    assert asked.erasure.plan.method.name == "UCE"
    bare = balance_request(**{**SOUND, "prompts": "", "descriptions": ""})
    assert bare.prompts == ["nurse"]
    assert bare.labels == {"man": "man", "woman": "woman"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"concept": "nurse -> man"}, "'nurse' has one target: give several"),
        ({"concept": "nurse"}, "has one target"),
        ({"concept": "nurse, doctor -> man | woman"}, "'concept' has 2 concepts: balance one"),
        ({"concept": "nurse -> man | woman : 1"}, "2 targets and 1 share"),
        ({"prompts": "a nurse\na doctor"}, "'a doctor' does not name 'nurse'"),
        ({"descriptions": "a man"}, "'descriptions' has 1 lines for 2 targets"),
        ({"descriptions": "one\none"}, "has a line twice"),
        ({"pictures": 1}, "pictures is 1: give a whole number from 2"),
        ({"rounds": 0}, "rounds is 0"),
        ({"tolerance": 1.5}, "'tolerance' is 1.5"),
        ({"tolerance": float("nan")}, "'tolerance' is nan"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        balance_request(**{**SOUND, **changed})


@pytest.mark.parametrize("method", ["RECE", "projection"])
def test_several_targets_are_for_uce_alone(method: str) -> None:
    line = "nurse -> man | woman"
    with pytest.raises(InputError, match=f"'nurse' has several targets, which the method '{method}' does not take"):
        request_of(line, {"preset": "nudity", "method": method})
    assert request_of(line, {"preset": "nudity", "method": "UCE"}).concepts[0].target == "man | woman : 1, 1"
    assert (
        request_of('nurse -> "man | woman"', {"preset": "nudity", "method": method}).concepts[0].target == "man | woman"
    )


def test_several_targets_and_a_connected_embedding_contradict_each_other() -> None:
    inputs = {"preset": "UCE only", "method": "UCE"}
    with pytest.raises(InputError, match="a connected embedding needs one"):
        request_of("nurse -> man | woman", inputs, [(None, {})])  # type: ignore[list-item]
    assert request_of("hat\nnurse -> man | woman", inputs, [(None, {})])  # type: ignore[list-item]


def test_what_trains_or_prunes_takes_one_target() -> None:
    with pytest.raises(InputError, match="'nurse' has several targets, which only 'Erase Concepts'"):
        parse_single_targets("hat -> cap\nnurse -> man | woman")
    with pytest.raises(InputError, match="several targets"):
        pruning_request("nurse -> man | woman", "a {}", PruningSettings(), PictureSettings())
    assert parse_single_targets('nurse -> "man | woman"')[0].target == "man | woman"
