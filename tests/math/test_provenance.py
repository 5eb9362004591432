"""Provenance: typed, bounded, and the same after a way through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.rece_ops import Eraser, EraserFileError, EraserSet, InputError, Provenance
from rece_pack.rece_ops.provenance import MAX_BYTES, MAX_DEPTH, MAX_TEXT, cleaned
from safetensors.torch import save_file


def nested(depth: int) -> dict[str, Any]:
    told: dict[str, Any] = {"method": "RECE"}
    for _ in range(depth - 1):
        told = {"method": "combined", "parts": [told]}
    return told


UNSEEN = ["\n", "\t", "\x00", "\x1b", "\u2028", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u3164", "\ud800"]

REFUSED = {
    "no object": ([], "no JSON object"),
    "method a number": ({"method": 3}, "'method' in the provenance is int, not a text"),
    "concepts a text": ({"concepts": "nudity"}, "'concepts' in the provenance is str, not a list"),
    "a number among concepts": ({"concepts": ["a", 3]}, "'concepts' in the provenance is int, not a text"),
    "a list in fronts": ({"fronts": [["text"]]}, "'fronts' in the provenance is list, not a text"),
    "an object in fronts": ({"fronts": [{}]}, "'fronts' in the provenance is dict, not a text"),
    "parts a number": ({"method": "combined", "parts": 7}, "'parts' in the provenance is int, not a list"),
    "a number among parts": ({"parts": [7]}, "no JSON object, but int"),
    "null among parts": ({"parts": [None]}, "no JSON object, but NoneType"),
    "a wrong type in a part": ({"parts": [{"architecture": []}]}, "'architecture' in the provenance is list"),
    "400 nested parts": (nested(400), "deep"),
    "parts one too deep": (nested(MAX_DEPTH + 1), "deep"),
    "strength a text": ({"strength": "1"}, "'strength' in the provenance is str, not a number"),
    "strength true": ({"strength": True}, "'strength' in the provenance is bool, not a number"),
    "strength too large": ({"strength": 10**40}, "too large"),
    "embeddings below zero": ({"embeddings": -1}, "no whole number"),
    "preserve_exactly a number": ({"preserve_exactly": 1}, "not true or false"),
    "dimensions a list": ({"dimensions": [768]}, "'dimensions' in the provenance is list, not an object"),
    "a dimension a text": ({"dimensions": {"text": "768"}}, "no whole number"),
    "settings too deep": ({"settings": {"a": [[[[[[[[[1]]]]]]]]]}}, "nested more than"),
    "unknown and too deep": ({"new": [[[[[[[[[1]]]]]]]]]}, "nested more than"),
    "a long name": ({"architecture": "x" * 201}, "201 characters"),
    "a long text": ({"concepts": ["x" * (MAX_TEXT + 1)]}, "20001 characters"),
    "lists of other lengths": ({"concepts": ["a", "b"], "targets": [""]}, "of the lengths [1, 2]"),
    **{f"architecture with {c!a}": ({"architecture": f"SD{c}1"}, f"U+{ord(c):04X}") for c in UNSEEN},
    **{f"concept with {c!a}": ({"concepts": [f"a{c}"]}, f"U+{ord(c):04X}") for c in UNSEEN},
    "unknown with a surrogate": ({"new": ["\udfff"]}, "U+DFFF"),
    "an unknown key with a newline": ({"new\nkey": 1}, "U+000A"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_in_a_sentence(case: str, tmp_path: Path) -> None:
    """As a typed value, from JSON, and from a file, which names itself; a surrogate never reaches the message."""
    told, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        Provenance.from_json(json.dumps(told))
    assert message in str(caught.value) or "JSON that can be read" in str(caught.value)
    str(caught.value).encode()
    metadata = {"format": "rece-eraser", "format_version": "2", "provenance": json.dumps(told), "sha256": "0" * 64}
    save_file({"text/delta": torch.eye(2)}, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(EraserFileError, match=r"'bad\.safetensors' cannot be used") as caught_file:
        EraserSet.load(tmp_path / "bad.safetensors")
    str(caught_file.value).encode()


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 99_999, '{"a":' * 99_999, "NaN", '{"strength": NaN}', '{"a": Infinity}']
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Provenance.from_json(text)
    with pytest.raises(InputError, match="cannot be right"):
        Provenance.from_json('{"concepts": ["' + "x" * MAX_BYTES + '"]}')


def test_parts_that_are_null_are_not_told() -> None:
    """Combined erasers of unknown making were written with an architecture of null."""
    assert Provenance.from_json('{"method": "combined", "parts": null, "architecture": null}') == Provenance("combined")


@pytest.mark.parametrize("told", [{"strength": float("nan")}, {"weights": [float("inf")]}, {"new": float("nan")}])
def test_numbers_that_are_not_finite_are_refused(told: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not finite"):
        Provenance.of(told)


def test_as_many_combinations_as_are_allowed_can_be_read_and_written() -> None:
    told = nested(MAX_DEPTH)
    assert Provenance.of(told).as_dict() == told
    assert Provenance.from_json(Provenance.of(told).as_json()).as_dict() == told
    with pytest.raises(InputError, match="Erase Concepts"):
        Provenance(method="combined", parts=(Provenance.of(told),))


def test_what_a_newer_pack_adds_is_kept() -> None:
    told = {"method": "RECE", "blocks": {"down.1": [0.5, None, True, "käse"]}, "parts": [{"newer": 1}]}
    assert Provenance.from_json(json.dumps(told)).as_dict() == told


def test_a_provenance_does_not_change_with_what_it_was_made_from() -> None:
    told = {"concepts": ["a"], "settings": {"epochs": 3}, "new": {"list": [1]}}
    eraser = Eraser(torch.eye(2), None, told)
    told["settings"]["epochs"] = 4
    eraser.metadata["new"]["list"].append(2)
    eraser.metadata["concepts"].append("b")
    assert eraser.metadata == {"concepts": ["a"], "settings": {"epochs": 3}, "new": {"list": [1]}}
    assert eraser.scaled(0.5).provenance is eraser.provenance


def test_an_eraser_refuses_metadata_that_could_not_be_read_again() -> None:
    for made in (
        lambda told: Eraser(torch.eye(2), None, told),
        lambda told: EraserSet({"t": Eraser(torch.eye(2))}, told),
    ):
        with pytest.raises(InputError, match="'fronts' in the provenance"):
            made({"fronts": [1]})


@given(st.text(max_size=30))
def test_whatever_a_person_types_can_be_stored_once_cleaned(text: str) -> None:
    told = Provenance(concepts=(cleaned(text),))
    assert Provenance.from_json(told.as_json()) == told


def test_cleaning_keeps_words_apart_and_emoji_whole() -> None:
    assert cleaned("a\thot\r\ndog\u200b\ud800 \u202e❤️") == "a hot dog ❤️"


def test_files_of_version_1_are_read_whatever_was_typed_then(tmp_path: Path) -> None:
    provenance = json.dumps({"concepts": ["family 👨\u200d👩\u200d👧"], "targets": ["a\tdog"]})
    metadata = {"format": "rece-eraser", "format_version": "1", "provenance": provenance}
    save_file({"text/delta": torch.eye(2)}, tmp_path / "old.safetensors", metadata)
    assert EraserSet.load(tmp_path / "old.safetensors").metadata == {
        "concepts": ["family 👨👩👧"],
        "targets": ["a dog"],
    }


@pytest.mark.parametrize("dimensions", [{"text": 3}, {"other": 2}, {}])
def test_dimensions_agree_with_the_tensors(tmp_path: Path, dimensions: dict[str, int]) -> None:
    metadata = {"format": "rece-eraser", "format_version": "1", "provenance": json.dumps({"dimensions": dimensions})}
    save_file({"text/delta": torch.eye(2)}, tmp_path / "e.safetensors", metadata)
    with pytest.raises(EraserFileError, match="the dimension"):
        EraserSet.load(tmp_path / "e.safetensors")
    with pytest.raises(InputError, match="the dimension"):
        EraserSet({"text": Eraser(torch.eye(2))}, {"dimensions": dimensions}).save(tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_one_stream_of_several_is_saved_with_its_own_dimension(tmp_path: Path) -> None:
    pooled = Eraser(torch.eye(2), None, {"dimensions": {"text": 5, "pooled": 2}})
    pooled.save(tmp_path / "pooled.safetensors")
    assert Eraser.load(tmp_path / "pooled.safetensors").metadata == {"dimensions": {"text": 2}}


def test_a_provenance_too_long_to_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    long = Eraser(torch.eye(2), None, {"concepts": ["x" * MAX_TEXT] * (MAX_BYTES // MAX_TEXT + 1)})
    with pytest.raises(InputError, match="fewer concepts"):
        long.save(path)
    assert not path.exists()


def test_nodes_read_nothing_by_its_name_in_a_dictionary(root: Path) -> None:
    """What is in a provenance is read from its typed fields."""
    for folder in ("nodes", "rece_ops"):
        for path in (root / folder).rglob("*.py"):
            if path.name not in {"eraser.py", "eraser_set.py", "eraser_file.py", "tensor_file.py"}:
                # The metadata of a checkpoint or a model's file, of a list of words or of a training's state are no provenance.
                if path.parent.name == "stored" or path.name in {
                    "rewrite.py",
                    "checkpoint_file.py",
                    "model_file.py",
                    "word_file.py",
                    "state.py",
                }:
                    continue
                assert ".metadata" not in path.read_text(encoding="utf-8"), path
