/** ERASER sockets have a colour, lists of files know what was just saved, and a chosen file says what it is. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { say } from "./texts.js";
import { ERROR_CLASS, HINT_CLASS, TEXT_CLASS, addTextBelow, asking } from "./textBelow.js";
import { after, allNodes, widgetOf } from "./widgets.js";

const TYPE = "ERASER";
const COLOUR = "#e06c9f";
const SAVES = "RECE_SaveEraser";
const LOADS = "RECE_LoadEraser";
const LIST = "eraser_name";
const DESCRIPTION = "rece_description";
const HEIGHT = 68;

/** A palette that does not know a type takes its colour away, whenever one is loaded: then it has ours again. */
function keepColour(colours) {
  if (!colours) return;
  let chosen = colours[TYPE];
  Object.defineProperty(colours, TYPE, {
    get: () => chosen || COLOUR,
    set: (colour) => {
      chosen = colour;
    },
    configurable: true,
    enumerable: true,
  });
}

function giveColour() {
  keepColour(app.canvas?.default_connection_color_byType);
  keepColour(globalThis.LGraphCanvas?.link_type_colors);
  // Nodes 2.0 asks the page's style, in which a palette's own colour comes before this one.
  const style = document.createElement("style");
  style.textContent = `:root { --color-datatype-${TYPE}: ${COLOUR}; }`;
  document.head.append(style);
}

/** The names in the definition of the node, which the server makes anew for whoever asks; older hosts write them first. */
function namesIn(definition) {
  const [first, options] = definition?.input?.required?.[LIST] ?? [];
  return Array.isArray(first) ? first : options?.options;
}

async function refreshLists() {
  const answer = await api.fetchApi(`/object_info/${LOADS}`);
  if (!answer.ok) return;
  const names = namesIn((await answer.json())[LOADS]);
  if (!Array.isArray(names)) return;
  // For nodes that are yet to come, and for those that are there.
  namesIn(globalThis.LiteGraph?.registered_node_types?.[LOADS]?.nodeData)?.splice(0, Infinity, ...names);
  for (const node of allNodes()) {
    const widget = node.comfyClass === LOADS && node.widgets?.find(({ name }) => name === LIST);
    if (widget) widget.options.values = [...names];
  }
}

async function ask(name) {
  if (!name) return {};
  const answer = await api.fetchApi(`/rece/eraser?${new URLSearchParams({ name })}`);
  return answer.ok ? answer.json() : {};
}

/** Below the name of a file what its header says: concepts, method, model, size. */
function addDescription(node) {
  const text = document.createElement("div");
  text.setAttribute("role", "status");
  text.setAttribute("aria-label", say("file"));
  addTextBelow(node, DESCRIPTION, text, HEIGHT, widgetOf(node, LIST));
  const askAndShow = asking(node, ask, (found) => {
    text.className = `${TEXT_CLASS} ${found?.error ? ERROR_CLASS : HINT_CLASS}`;
    text.textContent = found?.error ?? found?.description ?? "";
  });
  const update = () => askAndShow(widgetOf(node, LIST).value);
  text.className = TEXT_CLASS;
  after(widgetOf(node, LIST), "callback", update);
  after(node, "onConfigure", update);
  after(node, "onAdded", update);
}

app.registerExtension({
  name: "RECE.Erasers",
  setup: giveColour,
  nodeCreated(node) {
    if (node.comfyClass === SAVES) after(node, "onExecuted", refreshLists);
    if (node.comfyClass === LOADS) addDescription(node);
  },
});
