/** Every node of this pack shows what it reported when it last ran, or why it failed. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { say } from "./texts.js";
import { after, changeWidgets, setHidden } from "./widgets.js";

const PREFIX = "RECE_";
const NAME = "rece_report";
/** How a line begins that is to be seen first. Errors are not told by their text, which may quote anything. */
const WARNING = "Warning:";
/** What an output says in colour, before the rest: see `nodes/reporting/panel.py`. */
const VERDICT = "rece_verdict";
const TONES = ["good", "caution", "bad"];
const MARGIN = 10;
/** A longer report scrolls, unless the person makes the node higher. */
const MOST_HEIGHT = 190;

const failureListeners = new WeakMap();
const orderListeners = new WeakMap();
const reported = new WeakMap();

const STYLE = `
.rece-report {
  box-sizing: border-box;
  padding: 6px 8px;
  overflow: auto;
  /* The text scrolls; it never pushes the node open. */
  contain: size;
  border: 1px solid var(--border-color);
  border-radius: 6px;
  background: var(--comfy-input-bg);
  color: var(--input-text);
  font: 12px/17px sans-serif;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
  cursor: text;
  user-select: text;
}
/* Until it has drawn itself once, the canvas shows what was hidden when the node was made. */
.rece-report:empty { display: none; }
.rece-report-warning, .rece-report-error {
  margin-top: 4px;
  padding-left: 6px;
  border-left: 3px solid var(--rece-mark);
  /* Mixed with the theme's own text colour, it reads on dark and on light. */
  color: color-mix(in srgb, var(--rece-mark) 40%, var(--input-text));
}
.rece-report-verdict {
  padding-left: 6px;
  border-left: 3px solid var(--rece-mark);
  color: color-mix(in srgb, var(--rece-mark) 40%, var(--input-text));
  font-weight: bold;
}
.rece-report-verdict-good { --rece-mark: #2f9e58; }
.rece-report-verdict-caution { --rece-mark: #e08a00; }
.rece-report-verdict-bad { --rece-mark: #e5484d; }
.rece-report-remedy { margin: 2px 0 2px 9px; }
.rece-report details > summary { cursor: pointer; opacity: 0.75; }
.rece-report-changed { font-style: italic; opacity: 0.75; }
.rece-report-warning { --rece-mark: #e08a00; }
.rece-report-error { --rece-mark: #e5484d; }
`;

function addStyle() {
  const style = document.createElement("style");
  style.textContent = STYLE;
  document.head.append(style);
}

function createElement() {
  const element = document.createElement("div");
  element.className = "rece-report";
  element.tabIndex = 0;
  element.setAttribute("role", "status");
  element.setAttribute("aria-label", say("report"));
  // Once focused, the wheel scrolls the text instead of zooming.
  element.dataset.captureWheel = "true";
  // Selecting text must not drag the node, nor copying it copy the node.
  for (const type of ["pointerdown", "pointermove", "pointerup"]) {
    element.addEventListener(type, (event) => event.button !== 1 && event.buttons !== 4 && event.stopPropagation());
  }
  element.addEventListener("copy", (event) => event.stopPropagation());
  return element;
}

function textElement(text, className) {
  const element = document.createElement("div");
  // An empty line has a height, too.
  element.textContent = text || "\u00a0";
  element.className = className;
  return element;
}

function reportElements(text) {
  return text
    .split("\n")
    .map((line) => textElement(line, line.startsWith(WARNING) ? "rece-report-warning" : ""));
}

/** The verdict in its colour, the remedy, and the rest folded; what is to be seen first of that stays outside. */
function verdictElements({ tone, headline, remedy }, text, resized) {
  const known = TONES.includes(tone) ? tone : "caution";
  const [first, second] = [headline, remedy].map((part) => String(part ?? ""));
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = say("details");
  const lines = reportElements(text);
  const seen = lines.filter((element) => element.className);
  details.append(summary, ...lines.filter((element) => !element.className));
  details.addEventListener("toggle", resized);
  return [
    textElement(first, `rece-report-verdict rece-report-verdict-${known}`),
    textElement(second, "rece-report-remedy"),
    ...seen,
    details,
  ];
}

/** One element, whatever lines the message has: none of them can pass for a report. */
function errorElements(message) {
  return [textElement(say("error", { message }), "rece-report-error")];
}

/** How high `element` must be to show all its text in a node of this width. */
function heightOf(element, width) {
  const copy = element.cloneNode(true);
  const room = width - 2 * MARGIN - 8; // in Nodes 2.0, which gives less than the canvas
  Object.assign(copy.style, { position: "fixed", visibility: "hidden", contain: "none", width: `${room}px` });
  // Frontend 1.49 gave the original a class with a height.
  Object.assign(copy.style, { height: "auto", minHeight: "0" });
  document.body.append(copy);
  const height = copy.offsetHeight;
  copy.remove();
  return height;
}

/** Everything that a run of the node depends on by itself: its values, and what is linked to it. */
function inputsOf(node) {
  const values = node.widgets.filter((one) => one.serialize !== false).map((one) => [one.name, one.value]);
  // By the output that a link begins at: links get new ids whenever a workflow is loaded.
  const links = (node.inputs ?? []).map(({ name, link }) => {
    const found = link == null ? undefined : (node.graph?.links?.get?.(link) ?? node.graph?.links?.[link]);
    return [name, found?.origin_id, found?.origin_slot];
  });
  return JSON.stringify([values, links]);
}

/** What the host remembers of the node's last run, for one that is made again from its saved form, as by undo. */
function rememberedOutput(node) {
  // Within subgraphs the ids begin anew.
  return node.graph?.isRootGraph ? app.nodeOutputs?.[node.id] : undefined;
}

function addReport(node) {
  const element = createElement();
  let height = 0;
  const leastHeight = () => Math.min(height, MOST_HEIGHT);
  const widget = node.addDOMWidget(NAME, NAME, element, {
    serialize: false, // not sent to the server
    margin: MARGIN,
    getValue: () => "",
    getMinHeight: () => leastHeight() + 2 * MARGIN,
    getMaxHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false; // not saved in the workflow
  const resize = () => {
    changeWidgets(node, () => {
      height = heightOf(element, node.size[0]);
      element.style.minHeight = `${leastHeight()}px`;
      setHidden(widget, false);
    });
  };
  let ran;
  let order = [];
  let report = [];
  let differs = false;
  const changed = textElement(say("changed"), "rece-report-changed");
  const draw = () => {
    element.replaceChildren(...order, ...(differs ? [changed] : []), ...report);
    if (element.childElementCount) resize();
    else changeWidgets(node, () => setHidden(widget, true));
  };
  const show = (elements) => {
    report = elements;
    differs = false;
    reported.set(node, true);
    draw();
  };
  const noteChange = () => {
    if (differs === (ran !== undefined && ran !== inputsOf(node))) return;
    differs = !differs;
    draw();
  };
  changeWidgets(node, () => setHidden(widget, true));
  const showOutput = (output) => {
    if (!Array.isArray(output?.text)) return;
    const text = output.text.join("\n");
    const [verdict] = output[VERDICT] ?? [];
    ran = inputsOf(node);
    show(verdict ? verdictElements(verdict, text, resize) : reportElements(text));
  };
  for (const one of node.widgets) if (one !== widget) after(one, "callback", noteChange);
  after(node, "onConnectionsChange", noteChange);
  after(node, "onExecuted", showOutput);
  after(node, "onConfigure", () => showOutput(rememberedOutput(node)));
  failureListeners.set(node, (message) => show(errorElements(message)));
  reported.set(node, false);
  orderListeners.set(node, (sentences) => {
    if (sentences.join("\n") === order.map(({ textContent }) => textContent).join("\n")) return;
    order = sentences.map((sentence) => textElement(sentence, "rece-report-warning rece-report-order"));
    draw();
  });
}

/** Whether this is a node of this pack that shows no report yet. */
export function lacksReport(node) {
  return reported.get(node) === false;
}

/** Say above a node's report what is wrong with where it stands in the workflow; nothing where there are no sentences. */
export function tellOrder(node, sentences) {
  orderListeners.get(node)?.(sentences);
}

/** The node of an execution id, which is a path of ids where it is inside a subgraph: `5:3`. */
export function nodeOf(executionId) {
  const ids = String(executionId).split(":");
  const last = ids.pop();
  const graph = ids.reduce((outer, id) => outer?.getNodeById(id)?.subgraph, app.rootGraph);
  return graph?.getNodeById(last);
}

/** Newer frontends show what went wrong only after two clicks; here the sentence stands where it is needed. */
function onExecutionError({ detail }) {
  failureListeners.get(nodeOf(detail.node_id))?.(detail.exception_message.trim());
}

app.registerExtension({
  name: "RECE.Report",
  setup() {
    addStyle();
    api.addEventListener("execution_error", onExecutionError);
  },
  nodeCreated(node) {
    if (node.comfyClass?.startsWith(PREFIX)) addReport(node);
  },
});
