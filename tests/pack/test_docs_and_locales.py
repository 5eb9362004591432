"""Help pages and translations say what the nodes are, and their tables are what the code does."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
    "RECE_ImportEraser",
    "RECE_SaveEraserAsLoRA",
    "RECE_DeriveEmbedding",
    "RECE_ConceptVector",
    "RECE_InvertConcept",
    "RECE_ErasureReport",
    "RECE_CompareErasure",
    "RECE_LoadPromptSet",
    "RECE_DetectConcept",
    "RECE_EvaluateErasure",
    "RECE_SuggestConcepts",
    "RECE_TrainEraser",
    "RECE_PruneConcept",
    "RECE_UnlearnTextEncoder",
    "RECE_ShapeEraser",
    "RECE_BalanceConcept",
)
LOCALES = ("en", "zh", "ja")
TRANSLATIONS = tuple(locale for locale in LOCALES if locale != "en")
PAGES = [(node, locale) for node in NODES for locale in LOCALES]
HEADINGS = {
    "en": {"start": "Quick start", "inputs": "Inputs", "outputs": "Outputs", "troubles": "Troubleshooting"},
    "zh": {"start": "快速开始", "inputs": "输入", "outputs": "输出", "troubles": "疑难解答"},
    "ja": {"start": "クイックスタート", "inputs": "入力", "outputs": "出力", "troubles": "トラブルシューティング"},
}

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
    pages = {path.relative_to(root / "web" / "docs").as_posix() for path in (root / "web" / "docs").rglob("*.md")}
    translated = {f"{node}/{locale}.md" for node in NODES for locale in TRANSLATIONS}
    assert pages == {f"{node}.md" for node in NODES} | translated
    assert {path.name for path in (root / "locales").iterdir()} == set(LOCALES)


@pytest.mark.parametrize("folder", ["example_workflows", "subgraphs"])
def test_workflows_that_the_pack_brings_have_the_inputs_of_today(
    root: Path, schemas: dict[str, Any], folder: str
) -> None:
    """The frontend finds what feeds a node in a subgraph by the input's number, which a new input before it changes."""
    files = sorted((root / folder).glob("*.json"))
    assert files
    for file in files:
        workflow = json.loads(file.read_text(encoding="utf-8"))
        inner = chain.from_iterable(one["nodes"] for one in workflow.get("definitions", {}).get("subgraphs", ()))
        for node in chain(workflow["nodes"], inner):
            if node["type"] in schemas:
                wanted = {one.id for one in schemas[node["type"]].inputs}
                assert {one["name"] for one in node["inputs"]} == wanted, f"{file.name}: {node['type']}"


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_has_the_same_sections_everywhere(root: Path, node: str, locale: str) -> None:
    found = re.findall(r"^## (.+)$", _page(root, node, locale), re.MULTILINE)
    assert found[:4] == [HEADINGS[locale][name] for name in ("start", "inputs", "outputs", "troubles")]
    assert len(found) == len(re.findall(r"^## (.+)$", _page(root, node), re.MULTILINE))


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_lists_the_inputs_with_their_defaults(
    root: Path, schemas: dict[str, Any], node: str, locale: str
) -> None:
    section = _section(root, node, HEADINGS[locale]["inputs"], locale)
    listed = re.findall(r"^- \*\*(.+?)\*\*(?: `(\w+)`)?(?: ?[(（]`(.+?)`[)）])?[:：] ?\S", section, re.MULTILINE)
    shown = _locale(root, locale)
    names = [(shown[f"{node}.inputs.{one.id}.name"], one.id, _shown_default(one)) for one in schemas[node].inputs]
    if locale == "en":
        assert listed == [(f"`{name}`", "", default) for name, _, default in names]
    else:
        assert listed == names


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_lists_the_outputs_in_order(root: Path, schemas: dict[str, Any], node: str, locale: str) -> None:
    section = _section(root, node, HEADINGS[locale]["outputs"], locale)
    listed = re.findall(r"^- \*\*`?(.+?)`?\*\*[:：] ?\S", section, re.MULTILINE)
    shown = _locale(root, locale)
    assert listed == [shown[f"{node}.outputs.{index}.name"] for index in range(len(schemas[node].outputs))]


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_starts_with_the_nodes_name(root: Path, node: str, locale: str) -> None:
    assert _page(root, node, locale).splitlines()[0] == f"# {_locale(root, locale)[f'{node}.display_name']}"


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_can_be_read_in_a_narrow_column(root: Path, node: str, locale: str) -> None:
    """The sidebar has 240 pixels, out of which tables and blocks of code push what they say."""
    assert not re.search(r"^\s*\||^```", _page(root, node, locale), re.MULTILINE)


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_quick_start_is_quick(root: Path, node: str, locale: str) -> None:
    steps = re.findall(r"^(\d+)\. \S", _section(root, node, HEADINGS[locale]["start"], locale), re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert 3 <= len(steps) <= 5


@pytest.mark.parametrize(("node", "locale"), PAGES)
def test_a_page_leads_to_no_file_that_the_pack_leaves_out(root: Path, node: str, locale: str) -> None:
    """Such files are named in words; a link would be dead in an installed pack."""
    assert not re.search(r"\]\(", _page(root, node, locale))


def test_the_pages_name_files_of_the_repository_that_are_there(root: Path) -> None:
    named = {name for node, locale in PAGES for name in re.findall(r"\*([\w/]+\.md)\*", _page(root, node, locale))}
    assert named
    assert [name for name in named if not (root / name).is_file()] == []


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translated_page_has_the_same_code_and_the_same_numbers(root: Path, locale: str) -> None:
    """Whatever is in code, and every number with a unit or a decimal point, is in the translation too."""
    verbatim = re.compile(r"`[^`]+`|\d+ %|\d+\.\d+")
    lost = {}
    for node in NODES:
        missing = set(verbatim.findall(_page(root, node))) - set(verbatim.findall(_page(root, node, locale)))
        output_names = {f"`{name}`" for name in _locale(root, "en").values()}
        if missing - output_names:
            lost[node] = sorted(missing - output_names)
    assert lost == {}


@pytest.mark.parametrize("locale", LOCALES)
def test_the_concept_lines_of_the_page_are_read_as_it_says(root: Path, locale: str) -> None:
    said = re.findall(r"^- `(.+)`(?:: |：)(\*.+)$", _section_with(root, "`nudity`(?:: |：)\\*", locale), re.MULTILINE)
    assert len(said) == 8
    for line, meaning in said:
        target = re.search(r"(?:mapped to |映射到 ?|ターゲットは )\*(.+?)\*", meaning)
        weight = re.search(r"(?:with weight |权重 |重み )([\d.]+)", meaning)
        concepts = re.findall(r"\*(.+?)\*", meaning)[: -1 if target else None]
        expected = ConceptLine("", target[1] if target else "", float(weight[1]) if weight else 1.0)
        assert parse_concepts(line) == [replace(expected, concept=concept) for concept in concepts]


@pytest.mark.parametrize("locale", LOCALES)
def test_the_line_that_the_page_calls_refused_is(root: Path, locale: str) -> None:
    assert "`(nudity:1.3)`" in _page(root, "RECE_EraseConcepts", locale)
    with pytest.raises(InputError, match=r"[Ll]ine 1"):
        parse_concepts("(nudity:1.3)")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_presets_of_the_page_are_those_of_the_code(root: Path, locale: str) -> None:
    section = _section_with(root, "`UCE only`(?:: |：)", locale)
    shared = tuple(float(re.search(rf"(?<!\w){symbol} \D*(\d+(?:\.\d+)?)", section)[1]) for symbol in ("λ", "η", "μ"))  # type: ignore[index]
    row = r"^- `(.+)`(?:: |：)\D*(\d+)\D+λ_r ([\d.]+)(?:\D+μ (\d+))?(?:.*\*(.+)\*)?$"
    rows = re.findall(row, section, re.MULTILINE)
    said = {
        name: (
            RECESettings(int(epochs), float(one), *shared, first_preserve_scale=float(first) if first else None),
            target,
        )
        for name, epochs, one, first, target in rows
    }
    assert said == {name: (one, presets.default_target(name)) for name, one in PRESETS.items()}
    assert presets.default_target(presets.CUSTOM) == ""


@pytest.mark.parametrize("locale", LOCALES)
def test_the_templates_of_the_page_are_those_of_the_code(root: Path, locale: str) -> None:
    line = re.findall(r"^- .*`templates`.*$", _page(root, "RECE_EraseConcepts", locale), re.MULTILINE)[0]
    assert set(re.findall(r"`([^`]*\{\}[^`]*)`", line)) == set(chain.from_iterable(TEMPLATES.values()))
    assert all(f"`{name}`" in line for name in TEMPLATES)


def test_the_limits_that_are_explained_are_those_of_the_code(root: Path) -> None:
    text = (root / "docs" / "measurements.md").read_text(encoding="utf-8")
    said = [value.strip() for value in re.findall(r"^\| [a-z ]+ \| ([\d.e+ %]+) \|", text, re.MULTILINE)]
    shares, conditions = (VISIBLE_DRIFT, RUINOUS_DRIFT, HIGH_RESIDUAL), (WARN_CONDITION, MAX_CONDITION)
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


def _page(root: Path, node: str, locale: str = "en") -> str:
    """The help page in a language; the frontend asks for `NODE/LOCALE.md`, then for `NODE.md`."""
    name = f"{node}.md" if locale == "en" else f"{node}/{locale}.md"
    return (root / "web" / "docs" / name).read_text(encoding="utf-8")


def _section(root: Path, node: str, heading: str, locale: str) -> str:
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", _page(root, node, locale), re.MULTILINE | re.DOTALL)
    assert section, f"{node} has no section '{heading}' in {locale}"
    return section[1]


def _section_with(root: Path, pattern: str, locale: str) -> str:
    """The section of the main node's page that has a match of `pattern`."""
    (found,) = (part for part in _page(root, "RECE_EraseConcepts", locale).split("\n## ") if re.search(pattern, part))
    return found


def _shown_default(one: Any) -> str:
    default = getattr(one, "default", None)
    if default is None or default == "":
        return ""
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    return f"{default:g}" if is_number else f"{default}"


def test_the_scripts_say_the_same_in_every_language(root: Path) -> None:
    """Read as JSON, which the table is but for the quotes around its keys."""
    script = (root / "web" / "js" / "texts.js").read_text(encoding="utf-8")
    table = re.search(r"TEXTS = (\{.*?\n\});", script, re.DOTALL)
    assert table
    texts = json.loads(re.sub(r",(\s*\})", r"\1", re.sub(r"^(\s*)(\w+):", r'\1"\2":', table[1], flags=re.MULTILINE)))
    assert set(texts) == set(LOCALES)
    for locale in TRANSLATIONS:
        assert texts[locale].keys() == texts["en"].keys()
        for name, english in texts["en"].items():
            assert texts[locale][name] != english
            assert set(re.findall(r"\$\w+", texts[locale][name])) == set(re.findall(r"\$\w+", english))
    said = "".join(path.read_text(encoding="utf-8") for path in (root / "web" / "js").glob("*.js"))
    assert [name for name in texts["en"] if f'"{name}"' not in said] == []
