"""Typed texts, tables and names: read, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import hypothesis.strategies as st
import pytest
from rece_pack.nodes.host.folders import checked_name
from rece_pack.nodes.request.concept_lines import MAX_WEIGHT, parse_concepts, parse_preserved
from rece_pack.nodes.request.prompt_pairs import pairs_of_file, typed_pairs
from rece_pack.nodes.request.templates import TEMPLATES, expand_templates

ANY = st.text(st.characters(), max_size=200)
PIECES = [
    "a",
    "hat",
    "->",
    ":",
    " ",
    "\t",
    "#",
    "\n",
    "\r",
    "0.8",
    "1e999",
    "nan",
    "embedding:",
    "\ud800",
    "\u202e",
    "\x00",
]
PIECES += [
    "{}",
    '"',
    ",",
    "'",
    "\\",
    "/",
    "..",
    "CON",
    "COM¹",
    ".csv",
    ".safetensors",
    "\u2028",
    "\ufeff",
    "$",
    "(",
    ")",
]
LONG = st.builds(lambda text, count: text * count, st.sampled_from(PIECES), st.integers(1, 20_000))
TEXTS = (
    ANY | st.lists(st.sampled_from(PIECES) | ANY, max_size=30).map("".join) | st.lists(LONG, max_size=2).map("".join)
)

Refused = Callable[..., Any]


def test_concepts_and_preserved_prompts(fuzz: Any, refused: Refused) -> None:
    def check(text: str) -> None:
        lines = refused(parse_concepts, text)
        if lines is None:
            return
        assert all(line.concept.strip() == line.concept != "" for line in lines)
        assert all(0 < line.weight <= MAX_WEIGHT for line in lines)
        for line in lines[:20]:
            (line.concept + line.target).encode("utf-8")
            assert all(expand_templates(line.concept, name)[0] == line.concept for name in TEMPLATES)
        preserved = refused(parse_preserved, text, lines) or []
        assert not {line.concept for line in lines} & set(preserved)

    fuzz(TEXTS, check, 150)


def test_typed_pairs(fuzz: Any, refused: Refused) -> None:
    def check(text: str) -> None:
        for with_it, without in refused(typed_pairs, text) or ():
            assert with_it
            (with_it + without).encode("utf-8")

    fuzz(TEXTS, check, 150)


def test_tables(fuzz: Any, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"

    def check(content: bytes) -> None:
        path.write_bytes(b"with,without\n" + content)
        for pair in refused(pairs_of_file, path) or ():
            assert len(pair) == 2

    fuzz(st.binary(max_size=300) | TEXTS.map(lambda text: text.encode("utf-8", "replace")), check, 150)


@pytest.mark.parametrize("suffix", [".safetensors", ".csv"])
def test_names(fuzz: Any, refused: Refused, suffix: str, tmp_path: Path) -> None:
    def check(name: str) -> None:
        checked = refused(checked_name, name, suffix)
        if checked is None:
            return
        path = PurePosixPath(checked)
        assert not path.is_absolute()
        assert checked.endswith(suffix)
        assert not set(path.parts) & {".", ".."}
        assert not set(checked) & set('<>:"|?*\\\x00')
        assert (tmp_path / checked).resolve().is_relative_to(tmp_path.resolve())
        assert checked_name(checked, suffix) == checked

    fuzz(TEXTS, check, 150)
