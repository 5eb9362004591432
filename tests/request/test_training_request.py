"""What a person asked to be trained away."""

from __future__ import annotations

from typing import Any

import pytest
from rece_pack.nodes.request.everyday_prompts import CALIBRATION, CONTEXTS
from rece_pack.nodes.request.training_request import Phrase, PictureSettings, TrainingRequest, training_request
from rece_pack.rece_ops import InputError
from rece_pack.rece_ops.training.settings import HardenedSettings


def asked(concepts: str = "church -> house", contexts: str = "", preserve: str = "") -> TrainingRequest:
    return training_request(concepts, contexts, preserve, HardenedSettings(), PictureSettings())


def test_every_concept_stands_in_every_context_beside_its_anchor() -> None:
    request = asked("church -> house\nred", "a {} photo\n# a comment\nthe {}")
    assert request.phrases() == [
        Phrase("a church photo", "a house photo"),
        Phrase("a red photo", "a photo"),
        Phrase("the church", "the house"),
        Phrase("the red", "the"),
    ]


def test_without_contexts_there_are_plain_ones() -> None:
    assert asked().contexts == CONTEXTS


def test_a_context_without_a_place_is_refused() -> None:
    with pytest.raises(InputError, match="'a photo' of 'contexts'"):
        asked(contexts="a photo")


def test_a_concept_that_is_its_own_anchor_is_refused() -> None:
    with pytest.raises(InputError, match="maps the concept to itself"):
        asked("church -> Church")


def test_what_is_retained_begins_with_the_persons_prompts_and_names_no_concept() -> None:
    request = asked("castle -> house", "a {}", "a tower")
    retained = request.retained()
    assert retained[:3] == ["a tower", "a house", ""]
    assert not any("castle" in prompt for prompt in retained)
    assert len(retained) == len(set(retained)) == 3 + len(CALIBRATION) - 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"concept": -1}, "pictures"),
        ({"other": 5000}, "retained_pictures"),
        ({"size": 63}, "size"),
        ({"size": 68}, "size"),
        ({"steps": 0}, "picture_steps"),
        ({"guidance": 101.0}, "guidance"),
    ],
)
def test_picture_settings_out_of_range_are_refused_by_the_inputs_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named} is"):
        PictureSettings(**values)
