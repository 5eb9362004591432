"""Help pages and translations say what the nodes are, and their tables are what the code does."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from rece_pack.nodes.request import presets
from rece_pack.nodes.request.concept_lines import ConceptLine, parse_concepts
from rece_pack.nodes.request.templates import TEMPLATES
from rece_pack.rece_ops import PRESETS, InputError, RECESettings
from rece_pack.rece_ops.linear.solves import MAX_CONDITION, WARN_CONDITION
from rece_pack.rece_ops.measures.thresholds import HIGH_RESIDUAL, RUINOUS_DRIFT, VISIBLE_DRIFT

NODES = (
    "RECE_EraseConcepts",
    "RECE_ApplyEraser",
    "RECE_ApplyEraserToConditioning",
    "RECE_CombineErasers",
    "RECE_SaveEraser",
    "RECE_LoadEraser",
    "RECE_SaveEraserAsLoRA",
    "RECE_DeriveEmbedding",
    "RECE_ConceptVector",
    "RECE_InvertConcept",
    "RECE_ErasureReport",
    "RECE_LoadPromptSet",
    "RECE_DetectConcept",
    "RECE_EvaluateErasure",
)
LOCALES = ("en", "zh", "ja")
TRANSLATIONS = tuple(locale for locale in LOCALES if locale != "en")

# The frontend compiles every text with vue-i18n, to which these are syntax: '@x' even throws.
MESSAGE_SYNTAX = set("{}@|")
# What must not get lost in translation.
VERBATIM = re.compile(r"\d+(?:\.\d+)?|[α-ω](?:_r)?|->|'#'|…|'custom'|UCE|LoRA|models/[a-z]+|float\d+")

Texts = dict[str, Any]


@pytest.fixture(scope="session")
def schemas(comfyui: Path) -> dict[str, Any]:
    """The schema of every node, by id, from the nodes themselves, which import ComfyUI's modules."""
    extension = importlib.import_module("rece_pack.nodes.extension").RECEExtension()
    # In a thread of its own: the browser tests' driver keeps an event loop running in this one.
    with ThreadPoolExecutor() as pool:
        nodes = pool.submit(asyncio.run, extension.get_node_list()).result()
    found = [node.GET_SCHEMA() for node in nodes]
    return {schema.node_id: schema for schema in found}


@pytest.fixture(scope="session")
def schema_texts(schemas: dict[str, Any]) -> Texts:
    """Every text of the schemas, by its path in `nodeDefs.json`."""
    return dict(_flat({name: _definition(schema) for name, schema in schemas.items()}))


def test_the_list_of_nodes_here_is_complete(schemas: dict[str, Any]) -> None:
    assert tuple(schemas) == NODES


def test_the_schemas_leave_no_text_out(schema_texts: Texts) -> None:
    assert [path for path, text in schema_texts.items() if not _given(text)] == []


def test_every_page_and_locale_is_known_here(root: Path) -> None:
    assert {path.name for path in (root / "web" / "docs").iterdir()} == {f"{node}.md" for node in NODES}
    assert {path.name for path in (root / "locales").iterdir()} == set(LOCALES)


@pytest.mark.parametrize("node", NODES)
def test_a_page_lists_the_inputs_with_their_defaults(root: Path, schemas: dict[str, Any], node: str) -> None:
    listed = {_code(name): default for name, default, _ in _table(root, node, "Inputs")}
    assert listed == {one.id: _shown_default(one) for one in schemas[node].inputs}


@pytest.mark.parametrize("node", NODES)
def test_a_page_lists_the_outputs_in_order(root: Path, schemas: dict[str, Any], node: str) -> None:
    listed = [_code(name) for name, _ in _table(root, node, "Outputs")]
    assert listed == [output.display_name for output in schemas[node].outputs]


@pytest.mark.parametrize("node", NODES)
def test_a_page_starts_with_the_nodes_name(root: Path, schemas: dict[str, Any], node: str) -> None:
    assert _page(root, node).splitlines()[0] == f"# {schemas[node].display_name}"


@pytest.mark.parametrize("node", NODES)
def test_every_row_of_a_page_has_as_many_cells_as_its_header(root: Path, node: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", _page(root, node), re.MULTILINE):
        assert len({len(_cells(row)) for row in table.splitlines()}) == 1, table


def test_the_concept_lines_of_the_page_are_read_as_it_says(root: Path) -> None:
    rows = _table(root, "RECE_EraseConcepts", "Concept lines", header="Line | Concept")
    said = [[ConceptLine(concept, target, float(weight))] for _, concept, target, weight in rows]
    assert [parse_concepts(_code(line)) for line, *_ in rows] == said


def test_the_lines_that_the_page_calls_refused_are(root: Path) -> None:
    for line, _ in _table(root, "RECE_EraseConcepts", "Concept lines", header="Line | Why"):
        with pytest.raises(InputError, match="Line 1"):
            parse_concepts(_code(line))


def test_the_presets_of_the_page_are_those_of_the_code(root: Path) -> None:
    rows = _table(root, "RECE_EraseConcepts", "Presets")
    said = {
        _code(name): (RECESettings(int(epochs), *map(float, numbers)), target)
        for name, epochs, *numbers, target in rows
    }
    assert said == {name: (one, presets.default_target(name)) for name, one in PRESETS.items()}
    assert presets.default_target(presets.CUSTOM) == ""


def test_the_templates_of_the_page_are_those_of_the_code(root: Path) -> None:
    rows = _table(root, "RECE_EraseConcepts", "Templates")
    assert {_code(name): tuple(re.findall("`(.+?)`", prompts)) for name, prompts in rows} == TEMPLATES


def test_the_limits_of_the_page_are_those_of_the_code(root: Path) -> None:
    rows = _table(root, "RECE_EraseConcepts", "The report", header="Limit")
    shares, conditions = (VISIBLE_DRIFT, RUINOUS_DRIFT, HIGH_RESIDUAL), (WARN_CONDITION, MAX_CONDITION)
    said = [value for _, value, _ in rows]
    assert said == [f"{100 * share:.0f} %" for share in shares] + [f"{one:.1e}" for one in conditions]


@pytest.mark.parametrize("locale", LOCALES)
def test_a_locale_has_every_text_and_no_other(root: Path, schema_texts: Texts, locale: str) -> None:
    found = _locale(root, locale)
    assert sorted(schema_texts.keys() - found.keys()) == [], "missing here"
    assert sorted(found.keys() - schema_texts.keys()) == [], "in no schema"
    assert [path for path, text in found.items() if not _given(text)] == [], "empty here"


def test_english_is_what_the_schemas_say(root: Path, schema_texts: Texts) -> None:
    english = _locale(root, "en")
    differing = [
        f"{path}\n  schema:     {text}\n  locales/en: {english.get(path)}"
        for path, text in schema_texts.items()
        if english.get(path) != text
    ]
    assert not differing, "\n".join(["Change locales/en, and zh and ja with it:", *differing])


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translation_keeps_numbers_and_symbols(root: Path, schema_texts: Texts, locale: str) -> None:
    found = _locale(root, locale)
    differing = []
    for path, text in schema_texts.items():
        lost = set(VERBATIM.findall(text)) - set(VERBATIM.findall(found.get(path, "")))
        if lost and not path.endswith(".name"):
            differing.append(f"{path} lacks {sorted(lost)}\n  schema: {text}\n  {locale}:     {found.get(path)}")
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translation_is_translated(root: Path, schema_texts: Texts, locale: str) -> None:
    found = _locale(root, locale)
    assert [path for path, text in schema_texts.items() if found.get(path) == text and path[-5:] != ".name"] == []


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translation_calls_the_other_nodes_by_their_translated_names(
    root: Path, schema_texts: Texts, locale: str
) -> None:
    found = _locale(root, locale)
    title = {schema_texts[f"{node}.display_name"]: found[f"{node}.display_name"] for node in NODES}
    for path, text in schema_texts.items():
        for quoted in re.findall(r"'([^']+)'", text):
            name = title.get(f"{quoted} (RECE)")
            assert name is None or name.removesuffix(" (RECE)") in found[path], f"{path} does not name {name}"


@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_holds_what_the_frontend_takes_for_syntax(root: Path, locale: str) -> None:
    files = ("nodeDefs.json", "main.json")
    texts = chain.from_iterable(_flat(_json(root, locale, name)) for name in files)
    assert [path for path, text in texts if MESSAGE_SYNTAX & set(text)] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_a_locale_names_the_category(root: Path, schemas: dict[str, Any], locale: str) -> None:
    names = _json(root, locale, "main.json")["nodeCategories"]
    assert set(names) == {part for schema in schemas.values() for part in schema.category.split("/")}
    assert all(map(_given, names.values()))
    if locale == "en":
        assert all(key == name for key, name in names.items())


def _definition(schema: Any) -> dict[str, Any]:
    """A schema as `nodeDefs.json` writes it."""
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {one.id: {"name": one.display_name or one.id, "tooltip": one.tooltip} for one in schema.inputs},
        "outputs": {
            str(index): {"name": one.display_name, "tooltip": one.tooltip} for index, one in enumerate(schema.outputs)
        },
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _given(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _locale(root: Path, locale: str) -> Texts:
    return dict(_flat(_json(root, locale, "nodeDefs.json")))


def _json(root: Path, locale: str, name: str) -> dict[str, Any]:
    return json.loads((root / "locales" / locale / name).read_text(encoding="utf-8"))


def _page(root: Path, node: str) -> str:
    return (root / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")


def _table(root: Path, node: str, heading: str, header: str = "") -> list[list[str]]:
    """The rows of the first table under `## heading` whose header starts with `header`."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", _page(root, node), re.MULTILINE | re.DOTALL)
    assert section, f"{node}.md has no section '{heading}'"
    table = re.search(rf"^\| {re.escape(header)}.*\n\| --- .*\n((?:\|.*\n)+)", section[1], re.MULTILINE)
    assert table, f"{node}.md has no table '{header}' under '{heading}'"
    return [_cells(row) for row in table[1].splitlines()]


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")]


def _code(cell: str) -> str:
    match = re.fullmatch("`(.+)`", cell)
    assert match, f"the cell {cell!r} is not between backticks"
    return match[1]


def _shown_default(one: Any) -> str:
    default = getattr(one, "default", None)
    if default is None:
        return "–"
    if default == "":
        return "empty"
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    return f"`{default:g}`" if is_number else f"`{default}`"
