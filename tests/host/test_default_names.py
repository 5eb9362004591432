"""An eraser without a name is saved under one that says what it erases, and that every system takes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rece_pack.nodes.host.folders import checked_name, default_name
from rece_pack.rece_ops import Provenance
from rece_pack.rece_ops.provenance import cleaned


def told(*concepts: str, architecture: str | None = "SD1") -> Provenance:
    return Provenance(concepts=concepts, targets=("",) * len(concepts), architecture=architecture)


@pytest.mark.parametrize(
    ("provenance", "name"),
    [
        (told("nudity"), "no_nudity_SD1"),
        (told("Van Gogh", "a red/blue car"), "no_Van_Gogh_a_red_blue_c_SD1"),
        (told("one", "two", "three", "four", "five"), "no_one_two_three_and_2_more_SD1"),
        (told("凡·高", architecture=None), "no_凡_高"),
        (told("../..", "?"), "no_concepts_SD1"),
        (Provenance(), "no_concepts"),
        (Provenance(method="combined", parts=(told("hat"), told("boat"))), "no_hat_boat"),
    ],
)
def test_a_name_tells_concepts_and_architecture(provenance: Provenance, name: str) -> None:
    assert default_name(provenance) == name
    assert checked_name(name) == f"{name}.safetensors"


@given(st.lists(st.text(max_size=40).map(lambda text: cleaned(text.encode("utf-8", "replace").decode())), max_size=6))
def test_every_name_can_be_saved_with_room_for_a_number(concepts: list[str]) -> None:
    name = default_name(told(*concepts, architecture="Stable Cascade, stage C"))
    assert checked_name(f"{name}_lora", room=6) == f"{name}_lora.safetensors"
