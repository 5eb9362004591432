"""Blocks as a person types them."""

from __future__ import annotations

import pytest
from rece_pack.nodes.request.block_lines import check_range, parse_blocks
from rece_pack.rece_ops import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("input 4", {"input 4": 1.0}),
        ("Middle: 0", {"middle": 0.0}),
        ("output 3-5: 0.5", {"output 3": 0.5, "output 4": 0.5, "output 5": 0.5}),
        ("input: 0, input 4\n# all others stay\nblock 12 : 2", {"input": 0.0, "input 4": 1.0, "block 12": 2.0}),
        ("output 3-5: 0\noutput 4: 1", {"output 3": 0.0, "output 4": 1.0, "output 5": 0.0}),
    ],
)
def test_entries_are_read(text: str, expected: dict[str, float]) -> None:
    assert parse_blocks(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input 4\nfoo bar", "Line 2 of 'blocks' has 'foo bar', which is no block"),
        ("input four", "which is no block"),
        ("output 5-3", "the blocks 5 to 3: give the smaller number first"),
        ("output 3: much", "no strength"),
        ("output 3: nan", "no strength"),
        ("output 3: -1", "no strength"),
        ("output 3: 3", "from 0 to 2"),
        ("input 4:", "no strength"),
        ("input 1000", "which is no block"),
        ("\u200b", "invisible"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_blocks(text)


@pytest.mark.parametrize("value", [-0.1, 2.1, float("nan")])
def test_a_strength_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="'keys' is"):
        check_range("keys", value)
