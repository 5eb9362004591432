"""What a person is told while typing."""

from __future__ import annotations

import json

import pytest
from rece_pack.nodes.request.live_parse import MAX_LIVE, understand


@pytest.mark.parametrize(
    ("fields", "summary"),
    [
        ({"concepts": ""}, ""),
        ({"concepts": "# nothing"}, ""),
        ({"concepts": "red"}, "1 concept · red"),
        ({"concepts": "red, blue -> grey : 2"}, "2 concepts · red → grey × 2 · blue → grey × 2"),
        ({"concepts": "Monet", "preset": "artistic style"}, "1 concept · Monet → art"),
        ({"concepts": "Monet", "preset": "artistic style", "target": "ink"}, "1 concept · Monet → art"),
        ({"concepts": "Monet", "preset": "custom", "target": " ink "}, "1 concept · Monet → ink"),
        (
            {"node": "RECE_EraseConcepts", "concepts": "nurse -> man | woman : 1, 3", "method": "UCE"},
            "1 concept · nurse → man 25% | woman 75%",
        ),
        ({"node": "RECE_BalanceConcept", "concept": ""}, ""),
        ({"node": "RECE_BalanceConcept", "concept": "nurse -> man | woman"}, "1 concept · nurse → man 50% | woman 50%"),
    ],
)
def test_the_summary_says_what_was_understood(fields: dict[str, str], summary: str) -> None:
    found = understand(fields)
    assert found["summary"] == summary
    assert found["error"] is None


def test_a_long_list_is_shown_in_part() -> None:
    summary = understand({"concepts": ", ".join(f"concept {number}" for number in range(100))})["summary"]
    assert summary.startswith("100 concepts · concept 0 · ")
    assert summary.endswith(" · … and 88 more")


@pytest.mark.parametrize(
    ("fields", "line", "message", "summary"),
    [
        ({"concepts": "red\n\n-> art"}, 3, "has no concept", "1 concept · red"),
        ({"concepts": "x" * (MAX_LIVE + 1)}, 0, "too long to be checked while you type", ""),
        ({"concepts": ["red"]}, 0, "too long to be checked", ""),
        ({"concepts": "\ud800"}, 0, "half a character", ""),
        ({"concepts": "nurse -> man | woman : 1"}, 1, "2 targets and 1 share", ""),
        (
            {"node": "RECE_EraseConcepts", "concepts": "nurse -> man | woman", "method": "RECE"},
            0,
            "which the method 'RECE' does not take: set 'method' to 'UCE'",
            "1 concept · nurse → man 50% | woman 50%",
        ),
        (
            {"node": "RECE_BalanceConcept", "concept": "nurse"},
            0,
            "'nurse' has one target: give several",
            "1 concept · nurse",
        ),
        (
            {"node": "RECE_BalanceConcept", "concept": "hat, nurse -> man | woman"},
            0,
            "'concept' has 2 concepts: balance one",
            "2 concepts · hat → man",
        ),
    ],
)
def test_an_error_knows_its_line(fields: dict[str, object], line: int, message: str, summary: str) -> None:
    found = understand(fields)
    assert found["error"]["line"] == line
    assert message in found["error"]["message"]
    assert found["summary"].startswith(summary)
    json.dumps(found).encode("utf-8")


@pytest.mark.parametrize("node", ["TrainEraser", "PruneConcept", "UnlearnTextEncoder", "SuggestConcepts"])
def test_what_maps_each_concept_to_one_target_says_so(node: str) -> None:
    found = understand({"node": f"RECE_{node}", "concepts": "nurse -> man | woman", "method": "hardened"})
    assert "'nurse' has several targets" in found["error"]["message"]
    assert understand({"node": f"RECE_{node}", "concepts": "nurse -> man", "method": "hardened"})["error"] is None


def test_a_context_without_a_place_is_told_of() -> None:
    fields = {"node": "RECE_TrainEraser", "concepts": "hat"}
    assert understand({**fields, "contexts": "a photo of {}\n"})["error"] is None
    found = understand({**fields, "contexts": "a photo of {}\na photo of a hat"})
    assert "has no place for the concept" in found["error"]["message"]


def test_invisible_characters_are_told_of() -> None:
    found = understand({"concepts": "\ufeffcir\u200bcle -> star"})
    assert found["summary"] == "1 concept · circle → star"
    assert found["hint"].startswith("'concepts' held invisible characters (U+FEFF, U+200B), left out")


def test_what_is_erased_and_preserved_is_told_of() -> None:
    found = understand({"concepts": "red", "preserve": "blue\nRed"})
    assert found["summary"] == "1 concept · red"
    assert found["hint"] == "'Red' of 'preserve' is also to be erased: it is erased, and not preserved."


def test_a_target_is_suggested_where_there_is_none() -> None:
    assert understand({"concepts": "circle -> star"})["hint"] == ""
    assert understand({"concepts": "circle -> star\nNudity"})["hint"].endswith(": Nudity -> clothing")
    assert understand({"concepts": "circle"})["hint"].endswith("what to draw instead")
    for node in ("RECE_SuggestConcepts", "RECE_ErasureReport"):
        assert understand({"node": node, "concepts": "circle"})["hint"] == ""
