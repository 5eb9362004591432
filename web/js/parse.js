/** Below a field of concepts: how the server understands what is typed, and lists of concepts to insert. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { say } from "./texts.js";
import { ERROR_CLASS, HINT_CLASS, TEXT_CLASS, addTextBelow, asking } from "./textBelow.js";
import { after, widgetOf } from "./widgets.js";

const NODES = [
  "RECE_EraseConcepts",
  "RECE_ErasureReport",
  "RECE_BalanceConcept",
  "RECE_TrainEraser",
  "RECE_PruneConcept",
  "RECE_UnlearnTextEncoder",
  "RECE_SuggestConcepts",
];
const NAME = "rece_parse";
const LIST = "concepts";
const SINGLE = "concept";
const FIELDS = [LIST, SINGLE, "contexts", "method", "preserve", "preset", "target"];
const EXPLAINED = "rece_explained";
const WAIT = 200;
/** Of a height that does not change, so that nothing below moves while a person types or clicks; it scrolls. */
const HEIGHT = 40;
const HEIGHT_WITH_EXPLANATIONS = 96;

const STYLE = `
.rece-parse select {
  float: right;
  max-width: 6.5em;
  margin-left: 8px;
  border: 1px solid var(--border-color);
  border-radius: 4px;
  background: var(--comfy-input-bg);
  color: var(--input-text);
  font: inherit;
}
`;

/** By the node's type: what the options of its choices are good for. */
const explanations = new Map();
let lists;

function line(text, className) {
  const element = document.createElement("div");
  element.textContent = text;
  element.className = className;
  return element;
}

async function ask(fields) {
  const answer = await api.fetchApi("/rece/parse", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(fields),
  });
  return answer.ok ? answer.json() : undefined;
}

function knownLists() {
  lists ??= api.fetchApi("/rece/lists").then((answer) => (answer.ok ? answer.json() : {}));
  return lists;
}

/** Add the lines of a list to a field, except those that it already has. */
function insert(widget, lines) {
  const there = new Set(String(widget.value).split("\n").map((one) => one.trim()));
  const kept = String(widget.value).trimEnd();
  widget.value = [...(kept ? [kept] : []), ...lines.filter((one) => !there.has(one))].join("\n");
  widget.callback?.(widget.value);
}

function createMenu(node) {
  const menu = document.createElement("select");
  menu.setAttribute("aria-label", say("insertList"));
  menu.append(new Option(say("insert"), ""));
  // Asked for once a person is about to use it.
  const fill = async () => {
    const found = await knownLists();
    if (menu.options.length === 1) menu.append(...Object.keys(found).map((name) => new Option(name, name)));
  };
  for (const type of ["pointerenter", "focus"]) menu.addEventListener(type, fill);
  menu.addEventListener("change", async () => {
    const lines = (await knownLists())[menu.value];
    menu.value = "";
    if (lines) insert(widgetOf(node, LIST), lines);
  });
  return menu;
}

function addParse(node) {
  const element = document.createElement("div");
  element.className = `${TEXT_CLASS} rece-parse`;
  const text = document.createElement("div");
  text.setAttribute("role", "status");
  text.setAttribute("aria-label", say("understood"));
  const list = widgetOf(node, LIST);
  element.append(...(list ? [createMenu(node)] : []), text);
  const explanation = explanations.get(node.comfyClass) ?? {};
  const height = Object.keys(explanation).length ? HEIGHT_WITH_EXPLANATIONS : HEIGHT;
  addTextBelow(node, NAME, element, height, list ?? widgetOf(node, SINGLE));

  const show = (found) => {
    const sentences = Object.entries(explanation).map(([name, texts]) => texts[widgetOf(node, name)?.value]);
    const lines = [
      [found?.error?.message, ERROR_CLASS],
      [found?.summary, "rece-parse-summary"],
      [found?.hint, HINT_CLASS],
      ...sentences.map((sentence) => [sentence, HINT_CLASS]),
    ];
    text.replaceChildren(...lines.filter(([one]) => one).map(([one, className]) => line(one, className)));
  };
  const askAndShow = asking(node, ask, show);
  let timer;
  const update = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const fields = FIELDS.map((name) => [name, widgetOf(node, name)?.value]).filter(([, value]) => value !== undefined);
      askAndShow({ node: node.comfyClass, ...Object.fromEntries(fields) });
    }, WAIT);
  };
  for (const name of [...FIELDS, ...Object.keys(explanation)]) {
    const field = widgetOf(node, name);
    if (field) after(field, "callback", update);
  }
  after(node, "onConfigure", update);
  after(node, "onAdded", update);
}

function explainedIn({ input }) {
  const all = Object.entries({ ...input?.required, ...input?.optional });
  const found = all.filter(([, [, options]]) => options?.[EXPLAINED]);
  return Object.fromEntries(found.map(([name, [, options]]) => [name, options[EXPLAINED]]));
}

app.registerExtension({
  name: "RECE.Parse",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (NODES.includes(nodeData.name)) explanations.set(nodeData.name, explainedIn(nodeData));
  },
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) addParse(node);
  },
});
