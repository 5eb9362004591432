"""The little language of the concept fields."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rece_pack.nodes.request.concept_lines import ConceptLine, parse_concepts, parse_preserved, preserved_notes
from rece_pack.nodes.request.concept_lists import LISTS
from rece_pack.nodes.request.presets import NAMES, default_target, settings_of
from rece_pack.nodes.request.target_mixtures import MAX_TARGETS, mixture_of, mixture_text
from rece_pack.nodes.request.templates import TEMPLATES, expand_templates
from rece_pack.nodes.request.typed_text import LineError
from rece_pack.rece_ops import InputError, RECESettings


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nudity", ConceptLine("nudity", "")),
        ("  nudity  ", ConceptLine("nudity", "")),
        ("Van Gogh -> art", ConceptLine("Van Gogh", "art")),
        ("Van Gogh->art", ConceptLine("Van Gogh", "art")),
        ("Van Gogh ->", ConceptLine("Van Gogh", "")),
        ("church -> : 0.8", ConceptLine("church", "", 0.8)),
        ("church -> temple : .5", ConceptLine("church", "temple", 0.5)),
        ("church : 2", ConceptLine("church", "", 2.0)),
        ("church: 0.8", ConceptLine("church", "", 0.8)),
        ("church:0.8", ConceptLine("church", "", 0.8)),
        ("church : 1e-1", ConceptLine("church", "", 0.1)),
        ("a house # with a comment", ConceptLine("a house", "")),
        ("C# code", ConceptLine("C# code", "")),
        ("Star Wars: A New Hope", ConceptLine("Star Wars: A New Hope", "")),
        ("Alien: 3 : 1", ConceptLine("Alien: 3", "", 1.0)),
        ("a 16:9 picture", ConceptLine("a 16:9 picture", "")),
        ("16:9", ConceptLine("16:9", "")),
        ("embedding:my_style -> art", ConceptLine("embedding:my_style", "art")),
        ("embedding:5", ConceptLine("embedding:5", "")),
        ("(red) car", ConceptLine("(red) car", "")),
        ("凡·高 -> 艺术", ConceptLine("凡·高", "艺术")),
        ("Van Gogh → art", ConceptLine("Van Gogh", "art")),
        ("Van Gogh => art : 2", ConceptLine("Van Gogh", "art", 2.0)),
        ('"red, white"', ConceptLine("red, white", "")),
        ("“red, white” -> grey", ConceptLine("red, white", "grey")),
        ('"a -> b : 2" -> c', ConceptLine("a -> b : 2", "c")),
        ('cat -> "a -> b"', ConceptLine("cat", "a -> b")),
        ('"(red:1.3)"', ConceptLine("(red:1.3)", "")),
        ('"Blade Runner: 2049"', ConceptLine("Blade Runner: 2049", "")),
        ('a 19" screen', ConceptLine('a 19" screen', "")),
        ("Red, White and Blue", ConceptLine("Red, White and Blue", "")),
        ("1,000 dogs", ConceptLine("1,000 dogs", "")),
        ("red -> grey, or so", ConceptLine("red", "grey, or so")),
        ("red,", ConceptLine("red", "")),
    ],
)
def test_a_line_means(line: str, expected: ConceptLine) -> None:
    assert parse_concepts(line) == [expected]


@pytest.mark.parametrize("text", ["red, blue, green", "red，blue、green", ",red,, blue\ngreen", 'red, "blue", green'])
def test_commas_part_concepts(text: str) -> None:
    assert [line.concept for line in parse_concepts(text)] == ["red", "blue", "green"]


def test_a_target_and_a_weight_are_those_of_the_whole_list() -> None:
    assert parse_concepts("red, blue -> grey : 0.5") == [
        ConceptLine("red", "grey", 0.5),
        ConceptLine("blue", "grey", 0.5),
    ]


@pytest.mark.parametrize(
    ("line", "target", "shares"),
    [
        ("doctor -> man | woman", "man | woman : 1, 1", {"man": 0.5, "woman": 0.5}),
        ("doctor→man|woman:1,3", "man | woman : 1, 3", {"man": 0.25, "woman": 0.75}),
        (
            "doctor -> man | woman | child : 2，1、1",
            "man | woman | child : 2, 1, 1",
            {"man": 0.5, "woman": 0.25, "child": 0.25},
        ),
        ('doctor -> "man | boy" | woman', '"man | boy" | woman : 1, 1', {"man | boy": 0.5, "woman": 0.5}),
        ("doctor -> man: 2 | woman", '"man: 2" | woman : 1, 1', {"man: 2": 0.5, "woman": 0.5}),
        ("doctor -> man | woman: a story", 'man | "woman: a story" : 1, 1', {"man": 0.5, "woman: a story": 0.5}),
        ("doctor -> doctor | nurse : .5, 1e-1", "doctor | nurse : 0.5, 0.1", {"doctor": 5 / 6, "nurse": 1 / 6}),
        ("a | b -> c", "c", {}),
        ('a -> "b | c"', "b | c", {}),
    ],
)
def test_several_targets_are_mixed(line: str, target: str, shares: dict[str, float]) -> None:
    (found,) = parse_concepts(line)
    assert found.target == target
    assert found.weight == 1
    assert mixture_of(found.target) == pytest.approx(shares)
    assert parse_concepts(f'"{found.concept}" -> {target}')[0].target == target or not shares


NAMES_OF_TARGETS = st.text("ab c|:,1“", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(st.dictionaries(NAMES_OF_TARGETS, st.floats(0.01, 100), min_size=2, max_size=MAX_TARGETS))
def test_a_mixture_is_read_as_it_was_written(shares: dict[str, float]) -> None:
    found = mixture_of(mixture_text(shares))
    total = sum(shares.values())
    assert found == pytest.approx({name: share / total for name, share in shares.items()}, rel=1e-3)


def test_known_targets_are_for_concepts_without_an_arrow() -> None:
    lines = parse_concepts("Circle\nring\ndisc -> dot", "shape", {"circle": "star", "disc": "star"})
    assert [line.target for line in lines] == ["star", "shape", "dot"]


def test_an_error_knows_its_line() -> None:
    with pytest.raises(LineError) as caught:
        parse_concepts("cat\n\n-> art")
    assert caught.value.line == 3


@pytest.mark.parametrize("name", LISTS)
def test_every_list_can_be_read_and_stands_as_it_is_written(name: str) -> None:
    lines = parse_concepts("\n".join(LISTS[name]))
    assert len(lines) == len(LISTS[name])
    assert all(line.weight == 1 for line in lines)


def test_blank_lines_and_comments_are_skipped() -> None:
    text = "# what to erase\n\nnudity\n   # nothing\nVan Gogh -> art\n"
    assert [line.concept for line in parse_concepts(text)] == ["nudity", "Van Gogh"]


def test_a_line_without_an_arrow_takes_the_presets_target_and_an_empty_one_the_empty_prompt() -> None:
    lines = parse_concepts("Van Gogh\nMonet ->", default_target("artistic style"))
    assert [line.target for line in lines] == ["art", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No concept is given"),
        ("# only a comment\n\n", "No concept is given"),
        ("cat\n-> art", "Line 2 .* has no concept"),
        (": 0.5", "Line 1 .* has no concept"),
        ("cat : heavy", "weight 'heavy', which is no number"),
        ("cat :", "which is no number"),
        ("cat : nan", "weight nan: give a number above 0"),
        ("cat : inf", "weight inf"),
        ("cat : -1", "weight -1"),
        ("cat : 0", "weight 0"),
        ("cat : 1000", "up to 100"),
        ("Blade Runner: 2049", "'Alien: 3 : 1'"),
        ("cat -> Cat", "maps the concept to itself"),
        ("cat  sat -> cat sat", "maps the concept to itself"),
        ("cat\ndog\nCAT -> dog", "'CAT' is given twice"),
        ("cat -> dog -> bird", "two arrows"),
        ("cat -> dog → bird", "two arrows"),
        ("(red:1.3)", "Line 1 .* weighs a concept as prompts do: write 'red : 1.3'"),
        ("cat\n(a red car: .8), blue", "Line 2 .*'a red car : .8'"),
        ("red : 0.5, blue : 2", "weighs one concept of a list"),
        (", ,", "has no concept"),
        ("cat -> dog |", "Line 1 .* has an empty target"),
        ("cat -> dog | Dog", "has a target twice"),
        ("cat -> dog | bird : 1", "2 targets and 1 share: give one for each"),
        ("cat -> dog | bird : 1, 2, 3", "2 targets and 3 shares"),
        ("cat -> dog | bird : heavy", "has the shares 'heavy'"),
        ("cat -> dog | bird : 0, 1", "a share of 0 or above 100"),
        ("cat -> dog | bird : 1, 101", "a share of 0 or above 100"),
        ("cat -> a|b|c|d|e|f|g|h|i", "has 9 targets: give at most 8"),
        ("cat -> dog | bird -> fish", "two arrows"),
        ("red, blue, Red", "'Red' is given twice, again in line 1"),
    ],
)
def test_a_bad_line_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_concepts(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        lines = parse_concepts(text)
    except InputError:
        return
    assert all(line.concept and 0 < line.weight <= 100 for line in lines)


def test_preserved_prompts() -> None:
    concepts = parse_concepts("nudity\nVan Gogh -> art")
    assert parse_preserved("Monet\n# x\n\nmonet\n a dog ", concepts) == ["Monet", "a dog"]
    assert parse_preserved("", concepts) == []
    # A list of every artist holds the one that is erased.
    assert parse_preserved("Monet\nNUDITY\nvan  gogh", concepts) == ["Monet"]
    assert preserved_notes("Monet\nNUDITY\nNUDITY\nvan  gogh", concepts) == [
        "'NUDITY' and 1 more of 'preserve' is also to be erased: it is erased, and not preserved."
    ]
    assert preserved_notes("Monet", concepts) == []


def test_presets_carry_the_authors_numbers() -> None:
    found = {name: settings_of(name, {"epochs": 7}) for name in NAMES}
    assert {name: (one.epochs, one.regularization) for name, one in found.items()} == {
        "nudity": (3, 1e-1),
        "unsafe": (2, 1e-1),
        "artistic style": (1, 1e-3),
        "hard object": (1, 1e-3),
        "easy object": (1, 1e-1),
        "UCE only": (0, 0.1),
        "nudity, as the authors' scripts": (3, 1e-1),
        "artistic style, as the authors' scripts": (1, 1e-3),
        "custom": (7, 0.1),
    }
    assert all((one.edit_regularization, one.preserve_scale) == (0.1, 0.1) for one in found.values())
    assert {name for name, one in found.items() if one.first_preserve_scale == 1} == {
        name for name in found if name.endswith("as the authors' scripts")
    }


def test_numbers_count_only_for_the_preset_custom() -> None:
    assert settings_of("nudity", {"regularization": -1.0}) == RECESettings()
    with pytest.raises(InputError, match=r"regularization is -1.0"):
        settings_of("custom", {"regularization": -1.0})


def test_a_choice_that_does_not_exist_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="'preset' is 'mine', which is no choice: take one of nudity, unsafe"):
        settings_of("mine", {})
    with pytest.raises(InputError, match="'templates' is 'poem', which is no choice: take one of none, artist, object"):
        expand_templates("cat", "poem")


def test_templates_widen_a_concept() -> None:
    assert expand_templates("Van Gogh", "none") == ["Van Gogh"]
    assert expand_templates("Van Gogh", "artist")[:2] == ["Van Gogh", "painting by Van Gogh"]
    assert all(len(expand_templates("x{}", name)) == 1 + len(templates) for name, templates in TEMPLATES.items())
    assert expand_templates("a{}b", "object")[2] == "photo of a{}b"
