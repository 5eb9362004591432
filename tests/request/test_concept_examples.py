"""Examples of a concept are read as they were meant, and written so that they are read again."""

from __future__ import annotations

import pytest
from rece_pack.nodes.request.concept_examples import MAX_EXAMPLES, Example, examples_text, parse_examples
from rece_pack.nodes.request.typed_text import LineError
from rece_pack.rece_ops import InputError


def test_prompts_and_pairs() -> None:
    text = '# mine\n\na nude woman, #nsfw  \n a nude man -> a man \n"go -> there" -> here\nx ->\n"a" or "b" -> c'
    assert parse_examples(text) == [
        Example("a nude woman, #nsfw"),
        Example("a nude man", "a man"),
        Example("go -> there", "here"),
        Example("x", ""),
        Example('"a" or "b"', "c"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a\nb -> c -> d", 2, "two arrows"),
        ("-> c", 1, "is no pair of prompts"),
        ("A  cat -> a cat", 1, "is no pair of prompts"),
        ("a\n\n\u200b", 3, "nothing but invisible characters"),
    ],
)
def test_what_cannot_be_understood_names_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(LineError, match=message) as caught:
        parse_examples(text)
    assert caught.value.line == line


def test_there_are_at_most_so_many() -> None:
    assert len(parse_examples("a\n" * MAX_EXAMPLES)) == MAX_EXAMPLES
    with pytest.raises(InputError, match="more than 1,000 prompts"):
        parse_examples("a\n" * (MAX_EXAMPLES + 1))


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "#1 cat", "cat #1", "a -> b", '"quoted"', "“quoted”", 'a "b" c', "->", "a, b: c (d:1.2)", '"a', "'x'"],
)
@pytest.mark.parametrize("without", [None, "", "a dog", "# -> x"])
def test_what_is_written_is_read_again(prompt: str, without: str | None) -> None:
    example = Example(prompt, without)
    (read,) = parse_examples(examples_text([example]))
    sides = (prompt, without or "")
    assert (read.prompt, read.without or "") == tuple(
        side.replace('"', "'") if side.startswith(('"', "“")) or "->" in side else side for side in sides
    )
    assert (read.without is None) == (without is None)


def test_a_prompt_of_several_lines_becomes_one() -> None:
    assert examples_text([Example("a\n cat", None), Example("a\r\ndog", "a  fox")]) == "a cat\na dog -> a fox"
