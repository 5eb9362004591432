"""The real frontend in a browser, as far as the tests and `tools.readme_picture` act on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, Response

Workflow = dict[str, Any]

PACK = "a-name-of-ones-own"
"""The pack's folder in these tests; nothing may depend on how a person calls it."""

# Without most of these, Chromium reaches for the network, many times and in vain.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STARTED = "() => window.app?.extensions?.some(({ name }) => name === 'RECE.Report') && window.app.canvas?.graph"

# What the tests ask inside the page. Nodes are meant by id.
HELPERS = """
window.recetest = {
  /** Of the graph that is open. */
  node: (id) => (app.canvas.graph ?? app.graph).getNodeById(id),
  clear() {
    app.canvas.setGraph(app.rootGraph ?? app.graph);
    [...app.canvas.graph.nodes].forEach((node) => app.canvas.graph.remove(node));
  },
  intoSubgraph(id) {
    const { node, subgraph } = app.canvas.graph.convertToSubgraph(new Set([this.node(id)]));
    app.canvas.openSubgraph(subgraph, node);
    const [inner] = subgraph.nodes;
    Object.assign(app.canvas.ds, { offset: [150 - inner.pos[0], 150 - inner.pos[1]], scale: 1 });
    app.canvas.setDirty(true, true);
    return inner.id;
  },
  advancedButton(id) { return this.node(id).widgets.find(({ name }) => / advanced inputs$/.test(name)).name; },
  /** Which of the node's fields of several lines a widget is. */
  textPlace([id, name]) {
    return this.node(id).widgets.filter(({ type }) => type === "customtext").findIndex((widget) => widget.name === name);
  },
  add([type, values, position]) {
    const node = LiteGraph.createNode(type);
    if (!node) return null;
    node.pos = position;
    app.graph.add(node);
    for (const [name, value] of Object.entries(values)) this.widget([node.id, name]).value = value;
    return node.id;
  },
  widget([id, name]) { return this.node(id).widgets.find((widget) => widget.name === name); },
  connect([from, output, to, input]) {
    const target = this.node(to);
    this.node(from).connect(output, target, target.inputs.findIndex(({ name }) => name === input));
  },
  disconnect([id, input]) {
    const node = this.node(id);
    node.disconnectInput(node.inputs.findIndex(({ name }) => name === input));
  },
  /** Which of the widgets `names` a person sees. */
  shown([id, names]) {
    const node = this.node(id);
    if (!LiteGraph.vueNodesMode) return names.filter((name) => node.isWidgetVisible(this.widget([id, name])));
    const texts = [...document.querySelectorAll(`[data-node-id="${id}"] .lg-node-widget *`)]
      .filter((element) => !element.children.length)
      .map((element) => element.textContent.trim());
    return names.filter((name) => texts.includes(this.widget([id, name]).label || name));
  },
  areShown([id, names, wanted]) { return this.shown([id, names]).join() === wanted.join(); },
  /** The height a person sees, in the canvas's units. */
  height(id) {
    const element = document.querySelector(`.lg-node[data-node-id="${id}"]`);
    return element ? element.getBoundingClientRect().height / app.canvas.ds.scale : this.node(id).size[1];
  },
  /** The same, once it has stayed the same for some frames. */
  async settledHeight(id) {
    for (let frames = 0, last; frames < 10; frames++) {
      await new Promise(requestAnimationFrame);
      if (this.height(id) !== last) frames = 0;
      last = this.height(id);
    }
    return this.height(id);
  },
  /** How far the canvas's rows are from standing one under another, and how far they reach out of the node. */
  misplaced(id) {
    const node = this.node(id);
    app.canvas.draw(true, true);
    const rows = node.widgets.filter((widget) => node.isWidgetVisible(widget));
    const gaps = rows.slice(1).map((row, i) => Math.abs(row.y - rows[i].y - rows[i].computedHeight));
    const last = rows.at(-1);
    return Math.max(...gaps, last.y + last.computedHeight - node.size[1]);
  },
  /** Where on the page the middle of a widget is that the canvas draws. */
  place([id, name]) {
    app.canvas.draw(true, true);
    const node = this.node(id), { offset, scale } = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
    const x = node.pos[0] + node.size[0] / 2, y = node.pos[1] + this.widget([id, name]).y + 10;
    return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale];
  },
};
"""


def launch(driver: Playwright, executable: str) -> Browser:
    """Headless Chromium."""
    return driver.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)


class Frontend:
    """One page with ComfyUI's frontend; `nodes2` says which of its two renderers draws the nodes."""

    def __init__(self, page: Page, nodes2: bool) -> None:
        self.page = page
        self.nodes2 = nodes2
        self.scripts: set[str] = set()
        """The files of this pack that the page got."""
        self.problems: list[str] = []
        """What the page complained about that concerns this pack."""
        page.set_default_timeout(10_000)
        page.on("response", self._on_response)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._note(f"{error}\n{error.stack}"))

    def open(self, address: str) -> None:
        """Load the frontend of the server at `address`, to an empty graph."""
        self.page.add_init_script(HELPERS)
        self.page.goto(f"http://{address}/", wait_until="commit")
        self.page.wait_for_function(STARTED, timeout=240_000)
        self.clear()

    def clear(self) -> None:
        """Take away all nodes, and look where `add` puts the first."""
        self.page.keyboard.press("Escape")  # a dialog of the test before
        self.call("clear")
        self.page.evaluate("() => { app.canvas.ds.offset = [0, 0]; app.canvas.ds.scale = 1; }")

    def call(self, helper: str, arguments: Any = None) -> Any:
        """Call one of `HELPERS`."""
        return self.page.evaluate(f"(it) => recetest.{helper}(it)", arguments)

    def add(self, class_type: str, position: tuple[int, int] = (150, 150), **values: Any) -> Any:
        """Add a node and return its id, None for an unknown type."""
        return self.call("add", [class_type, values, position])

    def connect(self, source: Any, output: int, target: Any, name: str) -> None:
        """Link an output to the input of that name."""
        self.call("connect", [source, output, target, name])

    def value(self, node: Any, widget: str) -> Any:
        """The value of a widget."""
        return self.page.evaluate("(it) => recetest.widget(it).value", [node, widget])

    def height(self, node: Any) -> float:
        """How high the node is, as a person sees it."""
        return float(self.call("settledHeight", node))

    def expect_shown(self, node: Any, names: Sequence[str], wanted: Sequence[str]) -> None:
        """Wait until, of the widgets `names`, just `wanted` are shown."""
        from playwright.sync_api import TimeoutError as NotInTime

        try:
            self.page.wait_for_function(
                "(it) => recetest.areShown(it)", arg=[node, list(names), list(wanted)], timeout=5000
            )
        except NotInTime:
            assert self.call("shown", [node, list(names)]) == list(wanted)

    def choose(self, node: Any, widget: str, option: str) -> None:
        """Choose from a list, as a person does with the mouse."""
        if self.nodes2:
            self.row(node, widget).get_by_role("combobox").click()
            self.page.get_by_role("option", name=option, exact=True).click()
            # The list fades out; a list opened meanwhile may hold an option of the same name.
            self.page.get_by_role("listbox").wait_for(state="detached")
        else:
            self.page.mouse.click(*self.call("place", [node, widget]))
            self.page.locator(".litecontextmenu .litemenu-entry").get_by_text(option, exact=True).click()
        self.page.wait_for_function(
            "([it, value]) => recetest.widget(it).value === value", arg=[[node, widget], option]
        )

    def type_number(self, node: Any, widget: str, number: str) -> None:
        """Type a whole number into its field, as a person does; frontend 1.32 has fields that take no others."""
        if self.nodes2:
            field = self.row(node, widget).locator("input")
        else:
            self.page.mouse.dblclick(*self.call("place", [node, widget]))
            field = self.page.locator(".graphdialog input")
        field.press("Control+a")
        field.press_sequentially(number)
        field.press("Enter")
        arguments = [[node, widget], float(number)]
        self.page.wait_for_function("([it, value]) => recetest.widget(it).value === value", arg=arguments)

    def row(self, node: Any, widget: str) -> Locator:
        """The row of a widget in Nodes 2.0."""
        rows = self.page.locator(f'[data-node-id="{node}"] .lg-node-widget')
        return rows.filter(has=self.page.get_by_text(widget, exact=True))

    def report(self, node: Any) -> Locator:
        """What the node shows of its last run."""
        if self.nodes2:
            return self.page.locator(f'[data-node-id="{node}"] .rece-report')
        return self.page.locator(".dom-widget .rece-report:visible")

    def fold(self, node: Any) -> None:
        """Show or hide the advanced inputs, with the button that a person has for it."""
        if self.nodes2:
            button = self.page.locator(f'[data-node-id="{node}"]').get_by_role("button", name="advanced inputs")
            button.or_(self.page.locator('[data-testid="advanced-inputs-button"]')).first.click()
        else:
            name = self.page.evaluate("(id) => recetest.advancedButton(id)", node)
            self.page.mouse.click(*self.call("place", [node, name]))

    def type_text(self, node: Any, widget: str, text: str) -> None:
        """Type into a field of several lines, in place of what stands there."""
        field = self.page.locator(
            f'[data-node-id="{node}"] textarea' if self.nodes2 else ".dom-widget textarea:visible"
        )
        place = self.page.evaluate("(it) => recetest.textPlace(it)", [node, widget])
        field.nth(place).fill(text)

    def parsed(self, node: Any) -> Locator:
        """How the server understands the concepts of the node."""
        if self.nodes2:
            return self.page.locator(f'[data-node-id="{node}"] .rece-parse')
        return self.page.locator(".dom-widget .rece-parse:visible")

    def into_subgraph(self, node: Any) -> Any:
        """Convert the node to a subgraph, open that, and return the node's id there; `clear` goes back."""
        inner = self.call("intoSubgraph", node)
        # The page draws the subgraph's nodes some frames after it was opened.
        selector = f'.lg-node[data-node-id="{inner}"]' if self.nodes2 else "canvas"
        self.page.locator(selector).first.wait_for()
        return inner

    def executed(self, node: Any, text: str, **others: Any) -> None:
        """Let the node have reported `text`, as the server's message does."""
        message = [node, {"text": [text], **others}]
        self.page.evaluate("([id, output]) => recetest.node(id).onExecuted(output)", message)

    def failed(self, node: Any, message: str) -> None:
        """Let the node have failed, as the server's message says it."""
        detail = {
            "node_id": str(node),
            "node_type": "",
            "prompt_id": "",
            "executed": [],
            "exception_message": message,
            "exception_type": "ValueError",
            "traceback": [],
            "current_inputs": {},
        }
        script = """async (detail) => {
            const { api } = await import("/scripts/api.js");
            api.dispatchEvent(new CustomEvent("execution_error", { detail }));
        }"""
        self.page.evaluate(script, detail)

    def serialize(self) -> Workflow:
        """The workflow as it would be saved."""
        workflow: Workflow = self.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
        return workflow

    def load(self, workflow: Workflow, clean: bool = True) -> None:
        """Open a workflow; not `clean`, as undo does."""
        self.page.evaluate("([data, clean]) => app.loadGraphData(data, clean, clean)", [workflow, clean])

    def prompt(self) -> dict[str, Any]:
        """The graph as it would be sent to the server."""
        prompt: dict[str, Any] = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return prompt

    def queue(self) -> None:
        """Run the graph, as the Run button does."""
        self.page.evaluate("() => app.queuePrompt(0)")

    def _on_response(self, response: Response) -> None:
        path = response.url.partition(f"/extensions/{PACK}/")[2]
        if path and response.ok:
            self.scripts.add(path)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} ({message.location.get('url')})")

    def _note(self, problem: str) -> None:
        # The host asks its registry about nodes, where it is not stopped as here; that is not about this pack.
        if (PACK in problem or "RECE" in problem) and "api.comfy.org" not in problem:
            self.problems.append(problem)
