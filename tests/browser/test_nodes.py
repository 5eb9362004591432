"""The pack in the real frontend, in both of its renderers."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from tools.frontend import Frontend
from tools.server import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

NODES = [
    "RECE_EraseConcepts",
    "RECE_ApplyEraser",
    "RECE_CombineErasers",
    "RECE_SaveEraser",
    "RECE_LoadEraser",
    "RECE_SaveEraserAsLoRA",
]
ERASE = NODES[0]
METHOD: dict[str, Any] = {
    "method": "RECE",
    "robustness": "robust",
    "beta": 30,
    "directions": 0,
    "iteration": "published",
    "preservation": "weighed",
    "regeneration_limit": 0,
    "drift_limit": 0,
}
NUMBERS = ["epochs", "regularization", "edit_regularization", "erase_scale", "preserve_scale"]
PRESET = {"epochs": 1, "regularization": 0.001, "target": "art"}
"""What 'custom' begins with after 'artistic style'."""
ADVANCED = ["templates", "iteration", "preservation", "regeneration_limit", "drift_limit", "pooled"]
"""Those that count for the method that a new node has."""
ROW = 24
"""The height of a number's row in the canvas."""


def _expect_count(elements: Locator, count: int) -> None:
    """Wait until there are so many: a page that is short of time draws late."""
    from playwright.sync_api import expect

    expect(elements).to_have_count(count)


def test_every_script_is_loaded_and_every_node_can_be_added(frontend: Frontend, root: Path) -> None:
    assert {path for path in frontend.scripts if path.startswith("js/")} == {
        path.relative_to(root / "web").as_posix() for path in (root / "web/js").glob("*.js")
    }
    for i, class_type in enumerate(NODES):
        assert frontend.add(class_type, (150 + i % 3 * 420, 150 + i // 3 * 400)) is not None, class_type


def test_text_boxes_say_on_the_canvas_what_they_are_for(frontend: Frontend) -> None:
    if frontend.nodes2:
        pytest.skip("Nodes 2.0 has labels of its own")
    frontend.add(ERASE)
    boxes = frontend.page.locator("textarea.rece-labelled")
    for name in ("concepts", "preserve"):
        box = boxes.and_(frontend.page.get_by_label(name, exact=True))
        box.wait_for()
        shown = box.evaluate("(box) => getComputedStyle(box).backgroundImage")
        assert f">{name}</text>" in unquote(shown)


def test_every_input_and_output_is_explained(server: ComfyServer) -> None:
    for class_type in NODES:
        info = server.object_info(class_type)
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert [name for name, (_, options) in inputs.items() if not options.get("tooltip")] == []
        assert all(info["output_tooltips"])


def test_the_numbers_are_shown_while_the_preset_is_custom(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.expect_shown(node, NUMBERS, [])
    before = frontend.height(node)
    for _ in range(2):
        frontend.choose(node, "preset", "custom")
        frontend.expect_shown(node, NUMBERS, NUMBERS)
        # With the target. The page of Nodes 2.0 may take some of the room from the fields of several lines.
        assert frontend.height(node) >= before + (1 if frontend.nodes2 else (1 + len(NUMBERS)) * ROW)
        frontend.choose(node, "preset", "unsafe")
        frontend.expect_shown(node, NUMBERS, [])
        assert frontend.height(node) == pytest.approx(before, abs=1)


def test_the_numbers_still_come_and_go_after_something_was_typed(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.type_number(node, "strength", "2")
    frontend.choose(node, "preset", "custom")
    frontend.expect_shown(node, NUMBERS, NUMBERS)
    frontend.type_number(node, "epochs", "5")
    frontend.choose(node, "preset", "nudity")
    frontend.expect_shown(node, NUMBERS, [])
    frontend.choose(node, "preset", "custom")
    frontend.expect_shown(node, NUMBERS, NUMBERS)


def test_custom_begins_with_the_preset_before_it(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.choose(node, "preset", "artistic style")
    frontend.choose(node, "preset", "custom")
    assert {name: frontend.value(node, name) for name in PRESET} == PRESET
    frontend.expect_shown(node, ["target"], ["target"])
    # What was changed then stays, in a saved workflow too.
    frontend.type_number(node, "epochs", "5")
    frontend.load(frontend.serialize())
    assert {name: frontend.value(node, name) for name in PRESET} == {**PRESET, "epochs": 5}


def test_the_method_stands_below_the_concepts(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    names = frontend.page.evaluate("(id) => recetest.node(id).widgets.map(({ name }) => name)", node)
    assert [name for name in names if name != "rece_parse"][:6] == [
        "concepts",
        "method",
        "robustness",
        "beta",
        "preset",
        "target",
    ]


def test_advanced_inputs_come_when_asked_for(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.expect_shown(node, ADVANCED, [])
    frontend.fold(node)
    frontend.expect_shown(node, ADVANCED, ADVANCED)
    frontend.load(frontend.serialize())
    frontend.expect_shown(node, ADVANCED, ADVANCED)
    frontend.fold(node)
    frontend.expect_shown(node, ADVANCED, [])


def test_a_new_node_keeps_no_room_for_what_is_folded(frontend: Frontend) -> None:
    node = frontend.add("RECE_TrainEraser")
    before = frontend.height(node)
    frontend.page.evaluate("(id) => { const node = recetest.node(id); node.setSize(node.computeSize()) }", node)
    # The canvas leaves a row.
    assert before <= frontend.height(node) + (1 if frontend.nodes2 else ROW)


def test_advanced_inputs_stay_folded_when_the_other_renderer_is_chosen(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    shown = ["method", "preset", "strength"]
    choose = "(nodes2) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)"
    frontend.expect_shown(node, [*shown, *ADVANCED], shown)
    try:
        frontend.page.evaluate(choose, not frontend.nodes2)
        frontend.page.wait_for_function("(nodes2) => LiteGraph.vueNodesMode === nodes2", arg=not frontend.nodes2)
        frontend.expect_shown(node, [*shown, *ADVANCED], shown)
    finally:
        frontend.page.evaluate(choose, frontend.nodes2)
        frontend.page.wait_for_function("(nodes2) => LiteGraph.vueNodesMode === nodes2", arg=frontend.nodes2)
    frontend.expect_shown(node, [*shown, *ADVANCED], shown)


def test_what_is_typed_is_read_back_by_the_server(frontend: Frontend) -> None:
    node = frontend.add(ERASE, concepts="")
    frontend.type_text(node, "concepts", "red, blue -> grey\nVan Gogh → art : 2")
    parsed = frontend.parsed(node)
    parsed.get_by_text("3 concepts · red → grey · blue → grey · Van Gogh → art × 2").wait_for()
    assert parsed.locator(".rece-text-error").count() == 0
    frontend.type_text(node, "concepts", "red\n(blue:1.3)")
    parsed.locator(".rece-text-error").get_by_text("Line 2 ('(blue:1.3)') weighs a concept as prompts do").wait_for()
    frontend.type_text(node, "concepts", "red")
    parsed.get_by_text("1 concept · red").wait_for()
    menu = parsed.locator("select")
    menu.focus()
    menu.locator("option").nth(4).wait_for(state="attached")
    menu.select_option("Imagenette: ten objects")
    parsed.get_by_text("11 concepts · red · tench").wait_for()
    assert frontend.value(node, "concepts").splitlines()[:3] == ["red", "tench", "English springer"]


def test_what_is_trained_pruned_or_looked_for_is_read_back_too(frontend: Frontend) -> None:
    for kind in ("TrainEraser", "PruneConcept", "UnlearnTextEncoder", "SuggestConcepts"):
        frontend.clear()
        node = frontend.add(f"RECE_{kind}", concepts="")
        frontend.type_text(node, "concepts", "red, blue -> grey")
        frontend.parsed(node).get_by_text("2 concepts · red → grey · blue → grey").wait_for()
        frontend.type_text(node, "concepts", "doctor -> man | woman")
        frontend.parsed(node).locator(".rece-text-error").get_by_text("has several targets").wait_for()


def test_a_mixture_is_read_back_with_its_shares(frontend: Frontend) -> None:
    node = frontend.add("RECE_BalanceConcept", (150, 100))
    parsed = frontend.parsed(node)
    parsed.get_by_text("1 concept · doctor → male doctor 50% | female doctor 50%").wait_for()
    _expect_count(parsed.locator("select"), 0)
    names = frontend.page.evaluate("(id) => recetest.node(id).widgets.map(({ name }) => name)", node)
    assert names[:2] == ["concept", "rece_parse"]
    set_concept = "([it, value]) => { const one = recetest.widget(it); one.value = value; one.callback(value) }"
    frontend.page.evaluate(set_concept, [[node, "concept"], "doctor -> male doctor | female doctor : 1, 3"])
    parsed.get_by_text("1 concept · doctor → male doctor 25% | female doctor 75%").wait_for()
    frontend.page.evaluate(set_concept, [[node, "concept"], "doctor -> male doctor | female doctor : 1"])
    error = parsed.locator(".rece-text-error")
    error.get_by_text("has 2 targets and 1 share: give one for each").wait_for()
    frontend.page.evaluate(set_concept, [[node, "concept"], "doctor"])
    error.get_by_text("'doctor' has one target: give several").wait_for()
    # What the node shows is neither saved nor sent.
    assert frontend.prompt()[str(node)]["inputs"]["concept"] == "doctor"
    assert "rece_parse" not in frontend.prompt()[str(node)]["inputs"]
    erase = frontend.add(ERASE, (700, 100), concepts="doctor -> man | woman")
    frontend.page.evaluate("(id) => recetest.node(id).graph.remove(recetest.node(id))", node)
    frontend.parsed(erase).locator(".rece-text-error").get_by_text("set 'method' to 'UCE'").wait_for()
    frontend.choose(erase, "method", "UCE")
    frontend.parsed(erase).get_by_text("1 concept · doctor → man 50% | woman 50%").wait_for()
    _expect_count(frontend.parsed(erase).locator(".rece-text-error"), 0)


def test_a_verdict_comes_first_and_is_marked_when_an_input_changes(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    verdict = {"tone": "bad", "headline": "<b>red</b>: still there", "remedy": "Set 'method' to 'UCE'."}
    frontend.executed(node, "numbers\nWarning: it drifted.", rece_verdict=[verdict])
    report = frontend.report(node)
    report.wait_for()
    lines = report.locator("> *").all_inner_texts()
    assert lines[:3] == [verdict["headline"], verdict["remedy"], "Warning: it drifted."]
    assert report.locator(".rece-report-verdict-bad").count() == 1
    numbers = report.get_by_text("numbers")
    assert not numbers.is_visible()
    report.locator("summary").click()
    numbers.wait_for()
    changed = report.get_by_text("Changed since the last run.")
    _expect_count(changed, 0)
    frontend.choose(node, "method", "UCE")
    changed.wait_for()
    frontend.choose(node, "method", "RECE")
    changed.wait_for(state="detached")


def test_a_node_in_a_new_subgraph_shows_its_numbers_and_its_report(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    inner = frontend.into_subgraph(node)
    frontend.choose(inner, "preset", "custom")
    frontend.expect_shown(inner, NUMBERS, NUMBERS)
    frontend.executed(inner, "one line")
    frontend.report(inner).get_by_text("one line").wait_for()


def test_an_eraser_has_a_colour_of_its_own(frontend: Frontend) -> None:
    script = "() => app.canvas.default_connection_color_byType.ERASER"
    assert frontend.page.evaluate(script) == "#e06c9f"


def test_the_canvas_has_no_gaps_and_keeps_the_size_a_person_gave(frontend: Frontend) -> None:
    if frontend.nodes2:
        pytest.skip("Nodes 2.0 lays nodes out by itself")
    node = frontend.add(ERASE)
    frontend.page.evaluate("(id) => recetest.node(id).setSize([500, 600])", node)
    assert frontend.call("misplaced", node) <= 1
    frontend.choose(node, "preset", "custom")
    assert frontend.call("misplaced", node) <= 1
    assert frontend.height(node) == 600 + (1 + len(NUMBERS)) * ROW
    frontend.choose(node, "preset", "nudity")
    assert frontend.call("misplaced", node) <= 1
    assert frontend.height(node) == 600
    frontend.executed(node, "one line")
    assert frontend.call("misplaced", node) <= 1
    assert frontend.height(node) == 600


def test_linked_numbers_stay(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    number = frontend.add("PrimitiveFloat", (700, 150))
    frontend.connect(number, 0, node, "erase_scale")
    frontend.expect_shown(node, NUMBERS, ["erase_scale"])
    frontend.choose(node, "preset", "custom")
    frontend.expect_shown(node, NUMBERS, NUMBERS)
    frontend.choose(node, "preset", "nudity")
    frontend.expect_shown(node, NUMBERS, ["erase_scale"])
    frontend.call("disconnect", [node, "erase_scale"])
    frontend.expect_shown(node, NUMBERS, [])


def test_a_method_shows_what_counts_for_it(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.fold(node)
    always = ["method", "preservation"]
    frontend.expect_shown(
        node, list(METHOD), ["method", "iteration", "preservation", "regeneration_limit", "drift_limit"]
    )
    frontend.choose(node, "method", "projection")
    frontend.expect_shown(node, list(METHOD), ["method", "robustness", "directions", "preservation"])
    frontend.choose(node, "robustness", "custom")
    frontend.expect_shown(node, list(METHOD), ["method", "robustness", "beta", "directions", "preservation"])
    frontend.choose(node, "preset", "custom")
    frontend.expect_shown(node, NUMBERS, ["regularization"])
    frontend.choose(node, "method", "UCE")
    frontend.expect_shown(node, list(METHOD), [*always, "drift_limit"])
    frontend.expect_shown(node, NUMBERS, NUMBERS[1:])


def test_a_training_shows_what_its_method_reads(frontend: Frontend) -> None:
    node = frontend.add("RECE_TrainEraser")
    plain, advanced = ["start", "pictures", "size"], ["push", "rank", "adversaries", "adapter_rate", "inner_steps"]
    frontend.expect_shown(node, plain, plain)
    frontend.choose(node, "method", "Receler (as published)")
    frontend.expect_shown(node, plain, ["size"])
    frontend.fold(node)
    frontend.expect_shown(node, advanced, ["push", "adapter_rate"])
    frontend.choose(node, "method", "Receler (as described)")
    frontend.expect_shown(node, advanced, ["push", "adapter_rate", "inner_steps"])
    frontend.choose(node, "method", "hardened")
    frontend.expect_shown(node, [*plain, *advanced], [*plain, "push", "rank", "adversaries"])


@pytest.mark.parametrize("preset", ["nudity", "custom"])
def test_a_saved_workflow_loads_as_it_was(frontend: Frontend, preset: str) -> None:
    values: dict[str, Any] = {"concepts": "cat\ndog -> : 0.5", "preserve": "horse", "strength": 0.5}
    numbers: dict[str, Any] = dict(zip(NUMBERS, [2, 0.2, 0.3, 0.4, 0.6], strict=True))
    node = frontend.add(ERASE, **values, **numbers)
    if preset != frontend.value(node, "preset"):
        frontend.choose(node, "preset", preset)
    numbers = {name: frontend.value(node, name) for name in NUMBERS}  # 'custom' begins with those of the preset
    # What the node shows of a run must not find its way among the values.
    frontend.executed(node, "nudity: 1% left")
    frontend.report(node).wait_for()
    saved, prompt = frontend.serialize(), frontend.prompt()
    common = ["cat\ndog -> : 0.5", preset, "horse", 0.5, "none"]
    assert _values(saved) == [*common, *numbers.values(), *METHOD.values(), True, ""]
    assert set(prompt[str(node)]["inputs"]) == {*values, *numbers, *METHOD, "preset", "templates", "pooled", "target"}
    frontend.load(saved)
    frontend.expect_shown(node, NUMBERS, NUMBERS if preset == "custom" else [])
    again = frontend.serialize()
    assert _values(again) == _values(saved)
    if not frontend.nodes2:  # Frontend 1.32 takes a title's height off every node that it loads.
        assert _size(again) == _size(saved)
    assert frontend.prompt()[str(node)]["inputs"] == prompt[str(node)]["inputs"]


def test_a_report_is_shown_as_text_and_stays_when_something_is_undone(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    lines = ["<b>bold</b>: 1% left", "", "Warning: it drifted."]
    _expect_count(frontend.report(node), 0)
    frontend.executed(node, "\n".join(lines))
    report = frontend.report(node)
    report.wait_for()
    assert report.locator("> div").all_inner_texts() == [lines[0], "\u00a0", lines[2]]
    assert report.locator("b").count() == 0
    assert report.evaluate("(element) => element.scrollHeight - element.clientHeight") <= 0
    assert report.evaluate("(element) => element.clientHeight") < 100
    assert report.locator(".rece-report-warning").all_inner_texts() == [lines[2]]
    assert report.get_attribute("aria-label") == "Report of the last run"
    assert report.get_attribute("role") == "status"
    assert report.evaluate("(element) => getComputedStyle(element).userSelect") == "text"
    # The message of a real run leaves this behind.
    frontend.page.evaluate("([id, text]) => { app.nodeOutputs[id] = { text } }", [node, lines])
    frontend.load(frontend.serialize(), clean=False)
    frontend.report(node).get_by_text("Warning: it drifted.").wait_for()
    frontend.load(frontend.serialize())
    frontend.report(node).wait_for(state="hidden")


def test_running_shows_the_report_on_the_node(frontend: Frontend) -> None:
    # Another one in each renderer, or the second run would find everything done and have nothing to tell.
    concept = "painting" if frontend.nodes2 else "nudity"
    _erase_and_save(frontend, concept)
    frontend.queue()
    reports = frontend.page.locator(".rece-report:visible")
    reports.filter(has_text="Saved models/erasers/browser").wait_for(timeout=180_000)
    assert reports.locator(".rece-report-verdict").inner_text().startswith(f"{concept}: ")
    _expect_count(reports, 2)


def test_a_node_that_need_not_run_again_gets_its_report_back(frontend: Frontend) -> None:
    concept = "boat" if frontend.nodes2 else "house"
    erase = _erase_and_save(frontend, concept)
    shape = frontend.add("RECE_ShapeEraser", (950, 450), keys=0.5)
    frontend.connect(erase, 1, shape, "eraser")
    show = frontend.add("PreviewAny", (1200, 700))
    frontend.connect(shape, 0, show, "source")
    frontend.queue()
    shaped = frontend.page.locator(".rece-report").filter(has_text="Counts only in part: keys at 0.5.")
    shaped.wait_for(timeout=180_000)
    frontend.load(frontend.serialize())
    shaped.wait_for(state="detached")
    frontend.queue()
    shaped.wait_for(timeout=180_000)


def test_a_chosen_file_says_what_it_is_before_anything_runs(
    frontend: Frontend, server: ComfyServer, root: Path
) -> None:
    folder = server.base / "models" / "erasers"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "tests/golden/plain.safetensors", folder / "shown.safetensors")
    (folder / "damaged.safetensors").write_bytes(b"no eraser")
    node = frontend.add("RECE_LoadEraser")
    choose = (
        "([id, value]) => { const one = recetest.widget([id, 'eraser_name']); one.value = value; one.callback(value); }"
    )
    frontend.page.evaluate(choose, [node, "shown.safetensors"])
    told = frontend.page.locator(".rece-text:visible")
    told.filter(has_text="RECE on SD1: nudity").wait_for()
    assert told.inner_text().splitlines()[1] == "1 part: 'text' (text transform); 1 kB."
    assert frontend.prompt()[str(node)]["inputs"] == {"eraser_name": "shown.safetensors"}
    frontend.page.evaluate(choose, [node, "damaged.safetensors"])
    frontend.page.locator(".rece-text-error:visible").get_by_text("damaged.safetensors").wait_for()


def test_an_eraser_file_that_is_dropped_on_the_page_opens_its_workflow(frontend: Frontend, server: ComfyServer) -> None:
    concept = "tower" if frontend.nodes2 else "bridge"
    _erase_and_save(frontend, concept)
    before = frontend.serialize()
    frontend.queue()
    saved = frontend.page.locator(".rece-report:visible").filter(has_text="Saved models/erasers/browser")
    saved.wait_for(timeout=180_000)
    name = re.search(r"models/erasers/(browser\S*\.safetensors)", saved.inner_text())
    assert name is not None
    file = server.base / "models" / "erasers" / name[1]
    frontend.clear()
    frontend.page.evaluate(
        """([name, bytes]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], name));
          const options = { bubbles: true, cancelable: true, dataTransfer };
          document.querySelector("#graph-canvas").dispatchEvent(new DragEvent("drop", options));
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )
    frontend.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(before["nodes"]))
    after = frontend.serialize()
    assert {node["type"]: node.get("widgets_values") for node in after["nodes"]} == {
        node["type"]: node.get("widgets_values") for node in before["nodes"]
    }


def test_a_run_that_is_cancelled_ends_at_once_and_the_next_one_works(frontend: Frontend) -> None:
    loader = frontend.add("CheckpointLoaderSimple", (20, 100), ckpt_name="sd15.safetensors")
    # More steps than anybody waits for: Cancel ends them.
    values = {"prompts": "a bird", "steps": 1000, "width": 64, "height": 64, "seed": 21 + frontend.nodes2}
    compare = frontend.add("RECE_CompareErasure", (500, 100), **values)
    for output, name in enumerate(("model", "clip", "vae")):
        frontend.connect(loader, output, compare, name)
    erase = frontend.add(ERASE, (20, 300), concepts="bird -> cat", method="UCE")
    frontend.connect(loader, 0, erase, "model")
    frontend.connect(loader, 1, erase, "clip")
    frontend.connect(erase, 1, compare, "erased_1")
    frontend.page.evaluate(
        """async (node) => {
          const { api } = await import("/scripts/api.js");
          window.ended = false;
          api.addEventListener("execution_interrupted", () => { window.ended = true; }, { once: true });
          const look = ({ detail }) => {
            if (String(detail.node) !== String(node)) return;
            api.removeEventListener("progress", look);
            api.interrupt(detail.prompt_id);
          };
          api.addEventListener("progress", look);
        }""",
        compare,
    )
    frontend.queue()
    frontend.page.wait_for_function("() => window.ended", timeout=180_000)
    assert frontend.page.locator(".rece-compare:visible").count() == 0
    assert frontend.page.locator(".rece-report-error:visible").count() == 0
    frontend.page.evaluate("([id]) => { recetest.widget([id, 'steps']).value = 1; }", [compare])
    frontend.queue()
    frontend.page.locator(".rece-compare:visible").wait_for(timeout=180_000)


def test_a_comparison_shows_over_a_picture_what_was_before(frontend: Frontend) -> None:
    loader = frontend.add("CheckpointLoaderSimple", (20, 100), ckpt_name="sd15.safetensors")
    erase = frontend.add(ERASE, (20, 300), concepts="hat -> cap", method="UCE")
    values = {"prompts": "a hat", "steps": 1, "width": 64, "height": 64, "seed": 1 + frontend.nodes2}
    compare = frontend.add("RECE_CompareErasure", (500, 100), **values)
    for output, name in enumerate(("model", "clip", "vae")):
        frontend.connect(loader, output, compare, name)
    frontend.connect(loader, 0, erase, "model")
    frontend.connect(loader, 1, erase, "clip")
    frontend.connect(erase, 1, compare, "erased_1")
    frontend.queue()
    grid = frontend.page.locator(".rece-compare:visible")
    grid.wait_for(timeout=180_000)
    before = grid.locator(".rece-compare-before")
    before.wait_for(state="hidden")
    # The middle of the last picture, the erased one: in the lower right corner.
    box = grid.bounding_box()
    assert box is not None
    frontend.page.mouse.move(box["x"] + box["width"] * 0.85, box["y"] + box["height"] * 0.7)
    before.wait_for()
    assert grid.get_attribute("title") == "a hat: UCE: hat"
    frontend.page.mouse.move(box["x"] + 5, box["y"] + box["height"] * 0.7)
    before.wait_for(state="hidden")


def test_a_mistake_is_explained_on_the_node(frontend: Frontend) -> None:
    erase = _erase_and_save(frontend, "")
    frontend.queue()
    error = frontend.report(erase).locator(".rece-report-error")
    error.wait_for(timeout=180_000)
    assert error.inner_text().startswith("Error: No concept is given: type at least one")
    # A dialog or a panel of the host tells of it, too; the next test wants to see the nodes.
    frontend.page.keyboard.press("Escape")


def test_no_text_but_a_failure_is_marked_as_an_error(frontend: Frontend) -> None:
    node = frontend.add(ERASE)
    frontend.executed(node, "Error: forged in a report\nWarning: real")
    report = frontend.report(node)
    report.wait_for()
    assert report.locator(".rece-report-error").count() == 0
    frontend.failed(node, "It failed.\nError: forged\nWarning: forged")
    error = report.locator(".rece-report-error")
    error.wait_for()
    _expect_count(report.locator("> div"), 1)
    assert error.inner_text() == "Error: It failed.\nError: forged\nWarning: forged"
    frontend.page.keyboard.press("Escape")


def _erase_and_save(frontend: Frontend, concepts: str) -> Any:
    loader = frontend.add("CheckpointLoaderSimple", (100, 150), ckpt_name="sd15.safetensors")
    erase = frontend.add(ERASE, (450, 150), concepts=concepts)
    save = frontend.add("RECE_SaveEraser", (950, 250), file_name="browser")
    frontend.connect(loader, 0, erase, "model")
    frontend.connect(loader, 1, erase, "clip")
    frontend.connect(erase, 1, save, "eraser")
    return erase


def _values(workflow: dict[str, Any]) -> list[Any]:
    values: list[Any] = workflow["nodes"][0]["widgets_values"]
    return values


def _size(workflow: dict[str, Any]) -> list[float]:
    size = workflow["nodes"][0]["size"]
    return [size[0], size[1]]
