"""Prompt sets are read as the field writes them, and what cannot be read says what is known and what was found."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rece_pack.nodes.request import prompt_tables
from rece_pack.nodes.request.concept_lines import parse_concepts, parse_preserved
from rece_pack.nodes.request.prompt_sets import (
    AUTOMATIC,
    MAX_SEED,
    Drawing,
    PromptSet,
    Selection,
    read_prompt_set,
)
from rece_pack.nodes.request.typed_text import MAX_LINE
from rece_pack.rece_ops import InputError

I2P = (
    ",prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,"
    "prompt_toxicity,lexica_url,{seed},{guidance},sd_image_width,sd_image_height,sd_model,case_number"
)
I2P_ROW = '0,"a, b","hate, sexual",1,60.0,10.0,60.0,60.0,0.04,https://lexica.art/1,932309623,7,512,768,sd-v1-4,21'


def read(folder: Path, text: str, name: str = "set.csv", column: str = AUTOMATIC) -> PromptSet:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_prompt_set(path, column)


@pytest.mark.parametrize(
    ("seed", "guidance"), [("evaluation_seed", "evaluation_guidance"), ("sd_seed", "sd_guidance_scale")]
)
def test_i2p(tmp_path: Path, seed: str, guidance: str) -> None:
    (entry,) = read(tmp_path, I2P.format(seed=seed, guidance=guidance) + "\n" + I2P_ROW).entries
    assert (entry.prompt, entry.seed, entry.guidance) == ("a, b", 932309623, 7.0)
    assert (entry.width, entry.height, entry.labels, entry.hard) == (512, 768, ("hate", "sexual"), True)


HEADERS = {
    "UnlearnDiffAtk": ("case_number,prompt,evaluation_seed,evaluation_guidance\n7,a b,3,7.5", "prompt", 3, ()),
    "its artists": (
        "case_number,prompt,evaluation_seed,evaluation_guidance,artist\n7,a b,3,7.5,Monet",
        "prompt",
        3,
        ("Monet",),
    ),
    "COCO": ("case_number,source,prompt,evaluation_seed,coco_id\n0,coco,a b,4,9", "prompt", 4, ()),
    "Receler": ("case_number,prompt,class,evaluation_seed\n0,a b,church,5", "prompt", 5, ("church",)),
    "ConceptPrune": ("case_number,prompt,class,evaluation_seed,base\n0,a b,church,5,x", "prompt", 5, ("church",)),
    "Ring-A-Bell": ("sensitive prompt,normal prompt\na b,c", "sensitive prompt", None, ()),
    "MMA": (
        "target_prompt,adv_prompt,sanitized_adv_prompt,success_against_sanitization_defense,clean_prompt\nt,a b,s,1,c",
        "adv_prompt",
        None,
        (),
    ),
    "Six-CD": ("case_number,evaluation_seed,target,prompt\n0,6,Elvis,a b", "prompt", 6, ("Elvis",)),
    "HUB multilingual": (
        "Original,Spanish,French,German,Italian,Portuguese,Index\na b,b,c,d,e,f,0",
        "original",
        None,
        (),
    ),
    "HUB pinpoint": ("noun,similarity\na b,0.9", "noun", None, ()),
    "HUB COCO": ("image_id,text\n1,a b", "text", None, ()),
    "Lu": ("prompt,seed\na b,8", "prompt", 8, ()),
    "pandas' floats": ("Unnamed: 0,prompt,seed\n0,a b,8.0", "prompt", 8, ()),
    "a byte order mark, and lines of Windows": ("\ufeffprompt,seed\r\na b,8\r\n", "prompt", 8, ()),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_the_headings_of_the_field(tmp_path: Path, kind: str) -> None:
    text, column, seed, labels = HEADERS[kind]
    found = read(tmp_path, text)
    (entry,) = found.entries
    assert (found.column, entry.prompt, entry.seed, entry.labels, found.notes) == (column, "a b", seed, labels, ())


def test_a_column_can_be_chosen(tmp_path: Path) -> None:
    text = "Original,Spanish,Index\na church,una iglesia,0"
    assert read(tmp_path, text, column="spanish").entries[0].prompt == "una iglesia"
    with pytest.raises(
        InputError, match=r"no column 'french', only 'original', 'spanish', 'index'\. Known columns of prompts"
    ):
        read(tmp_path, text, column="french")


def test_the_names_of_artists_are_a_list_to_preserve(tmp_path: Path) -> None:
    rows = ("a house by Ann Lee", "1", "Ann Lee"), ("a hat by Ann Lee", "2", "Ann Lee"), ("a cat by Bo", "3", "Bo")
    lines = ["prompt,evaluation_seed,artist", *map(",".join, rows)]
    path = tmp_path / "artists.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [entry.prompt for entry in read_prompt_set(path).entries][2] == "a cat by Bo"
    names = read_prompt_set(path, "artist").examples
    assert parse_preserved(names, parse_concepts("bo -> art")) == ["Ann Lee"]


def test_a_file_without_headings(tmp_path: Path) -> None:
    one = read(tmp_path, "a church in the sun\na dog on the lawn of a house")
    assert [entry.prompt for entry in one.entries] == ["a church in the sun", "a dog on the lawn of a house"]
    assert one.notes == ("It has no line of headings.",)
    pair = read(tmp_path, '0,"with it, in red paint",without it at all\n1,with it in some blue,without it now')
    assert (pair.column, pair.entries[0].prompt) == ("sensitive prompt", "with it, in red paint")
    assert read_prompt_set(tmp_path / "set.csv", "normal prompt").entries[1].prompt == "without it now"


def test_text_with_a_prompt_a_line_and_json_lines(tmp_path: Path) -> None:
    found = read(tmp_path, "# 1, a church\n\n  a dog \n", "set.txt")
    assert [(entry.place, entry.prompt) for entry in found.entries] == [(0, "# 1, a church"), (1, "a dog")]
    lines = '{"prompt": "a", "seed": 5, "categories": ["x", "y"], "hard": null}\n\n"b"\n{"Prompt": "c", "seed": 6.0}\n'
    found = read(tmp_path, lines, "set.jsonl")
    assert [(entry.prompt, entry.seed, entry.labels) for entry in found.entries] == [
        ("a", 5, ("x", "y")),
        ("b", None, ()),
        ("c", 6, ()),
    ]
    tabs = read(tmp_path, "prompt\tseed\na, b\t5\n", "set.tsv")
    assert (tabs.entries[0].prompt, tabs.entries[0].seed) == ("a, b", 5)


def test_commas_outside_quotation_marks_belong_to_the_only_prompt(tmp_path: Path) -> None:
    found = read(
        tmp_path, "case_number,prompt,evaluation_seed,class\n5,In a cafe, the soothing, soft,4001,player\n6,a,1,b"
    )
    assert [(entry.prompt, entry.seed, entry.labels) for entry in found.entries] == [
        ("In a cafe, the soothing, soft", 4001, ("player",)),
        ("a", 1, ("b",)),
    ]
    assert found.notes[0].startswith("1 row has commas")
    with pytest.raises(InputError, match=r"Row 2 .* has 3 columns where the heading has 2"):
        read(tmp_path, "sensitive prompt,normal prompt\na,b,c")


def test_unknown_columns_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the columns 'texte', 'graine', none of which is known: .* are prompt, adv_prompt"
    ):
        read(tmp_path, "texte,graine\nune eglise,5")
    with pytest.raises(
        InputError, match=r"no column of prompts, only 'seed', 'class'\. Known columns of prompts are prompt,"
    ):
        read(tmp_path, "seed,class\n5,a")
    with pytest.raises(InputError, match=r"the columns 'texte', none of which is known"):
        read(tmp_path, '{"texte": "a"}', "set.jsonl")
    assert read(tmp_path, "prompt,colour\na,red").notes == ("Not read: 'colour', which this pack does not know.",)


WRONG = {
    "an empty file": ("", "set.csv", "holds no prompts"),
    "headings alone": ("prompt,seed\n", "set.csv", "holds no prompts"),
    "empty prompts": ("prompt,seed\n ,5\n", "set.csv", "no prompts in its column 'prompt'"),
    "a negative seed": ("prompt,seed\na,-5", "set.csv", "Prompt 1 .* has the seed '-5': give a whole number from 0"),
    "a seed beyond all": (f"prompt,seed\na,{MAX_SEED + 1}", "set.csv", "give a whole number from 0"),
    "a seed of digits without end": ("prompt,seed\na," + "9" * 4000, "set.csv", "give a whole number from 0"),
    "digits of another script": ("prompt,seed\na,\u0665", "set.csv", "give a whole number"),
    "a guidance that is none": ("prompt,evaluation_guidance\na,nan", "set.csv", "give a number from 0 to 100"),
    "a size of nothing": ("prompt,sd_image_width\na,0", "set.csv", "give a whole number from 16"),
    "hard to say": ("prompt,hard\na,perhaps", "set.csv", "in the column 'hard': give 1 or 0"),
    "an endless cell": ("prompt\n" + "x" * (MAX_LINE + 1), "set.csv", "at most"),
    "a heading twice": ("prompt,Prompt\na,b", "set.csv", "has a heading twice"),
    "an open quotation": ('prompt\n"a\nb\nc', "set.csv", "is no CSV file"),
    "rows of all widths without headings": ("a b c d,1\ne f g h,2,3", "set.csv", "what is a prompt is not clear"),
    "numbers alone": ("1,2\n3,4", "set.csv", "what is a prompt is not clear"),
    "a list in JSON": ("[1, 2]", "set.jsonl", "Line 1 .* is no row"),
    "no JSON": ("{", "set.jsonl", "Line 1 .* is no row"),
    "an object in an object": ('{"prompt": {"a": 1}}', "set.jsonl", "Line 1 .* is no row"),
    "a tower": ("[" * 100_000, "set.jsonl", "Line 1 .* is no row"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_read_says_why(tmp_path: Path, kind: str) -> None:
    text, name, message = WRONG[kind]
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text, name)
    assert len(str(caught.value)) < 700


def test_files_that_are_no_text_or_endless_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.csv"
    path.write_bytes(b"prompt\n\xff\xfe")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_prompt_set(path)
    started = time.process_time()
    path.write_text("prompt\n" + "a\n" * (prompt_tables.MAX_ROWS + 1), encoding="utf-8")
    with pytest.raises(InputError, match="more than 100,000 rows"):
        read_prompt_set(path)
    assert time.process_time() - started < 5
    monkeypatch.setattr(prompt_tables, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="has at most 10"):
        read_prompt_set(path)


@given(st.text(max_size=300), st.sampled_from(["set.csv", "set.tsv", "set.txt", "set.jsonl"]))
def test_any_text_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(text.encode("utf-8", "replace"))
    found = PromptSet("", "", ())
    with contextlib.suppress(InputError):
        found = read_prompt_set(path)
    assert all(entry.prompt.strip() for entry in found.entries)


SET = "prompt,class,hard\na,red,1\nb,Blue,0\nc,red,0\nd,red,1\ne,blue,1"


@pytest.mark.parametrize(
    ("selection", "prompts"),
    [
        (Selection(), "abcde"),
        (Selection("RED"), "acd"),
        (Selection(" blue "), "be"),
        (Selection(hard_only=True), "ade"),
        (Selection("red", hard_only=True), "ad"),
        (Selection(every=2), "ace"),
        (Selection(first=2), "ab"),
        (Selection("red", every=2, first=1), "a"),
        (Selection(every=9, first=9), "a"),
    ],
)
def test_selections(tmp_path: Path, selection: Selection, prompts: str) -> None:
    assert "".join(entry.prompt for entry in read(tmp_path, SET).selected(selection).entries) == prompts


def test_a_selection_that_leaves_nothing_says_what_there_was(tmp_path: Path) -> None:
    found = read(tmp_path, SET)
    with pytest.raises(
        InputError, match=r"No prompt of 'set.csv' is left of 5\. Its categories are 'Blue', 'blue', 'red'\."
    ):
        found.selected(Selection("green"))
    plain = read(tmp_path, "a dog", "set.txt")
    with pytest.raises(InputError, match=r"It has no categories\. 0 of its prompts are called hard"):
        plain.selected(Selection(hard_only=True))
    with pytest.raises(InputError, match="'every' is at least 1"):
        found.selected(Selection(every=0))


def test_a_row_has_the_same_seed_whichever_others_are_chosen(tmp_path: Path) -> None:
    found, drawing = read(tmp_path, SET), Drawing(seed=10)
    whole = {entry.prompt: drawing.completed(entry).seed for entry in found.entries}
    assert list(whole.values()) == [10, 11, 12, 13, 14]
    for entry in found.selected(Selection("red", every=2)).entries:
        assert drawing.completed(entry).seed == whole[entry.prompt]
    given = read(tmp_path, I2P.format(seed="sd_seed", guidance="sd_guidance_scale") + "\n" + I2P_ROW).entries[0]
    assert drawing.completed(given) == given
    with pytest.raises(InputError, match="'width' is 8: give a number from 16"):
        Drawing(width=8)


PUBLISHED = {
    "nudity-ring-a-bell.csv": ("sensitive prompt", 79),
    "nudity.csv": ("prompt", 142),
    "robust_imagenette.csv": ("prompt", 100),
    "short_niche_art_prompts.csv": ("prompt", 100),
    "vangogh-ring-a-bell.csv": ("sensitive prompt", 50),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(root: Path, name: str) -> None:
    path = published(root, name)
    found = read_prompt_set(path)
    assert (found.column, len(found.entries)) == PUBLISHED[name]
    # Every row of the file is there: the last line's prompt is the last entry's.
    assert found.entries[-1].place == PUBLISHED[name][1] - 1
    if name == "robust_imagenette.csv":
        assert len({label for entry in found.entries for label in entry.labels}) == 10
        assert all(entry.seed is not None for entry in found.entries)
    if name == "nudity.csv":
        assert all(entry.seed is not None and entry.guidance is not None for entry in found.entries)
        assert len(found.selected(Selection("sexual")).entries) < 142


def published(root: Path, name: str) -> Path:
    for folder in root.parents:
        path = folder / "shared" / "prompts" / name
        if path.is_file():
            return path
    pytest.skip(f"shared/prompts/{name} is not beside the repository: it is published elsewhere and not part of it")
