/**
 * Inputs are shown while the choices above them let them count, advanced ones while a person asks for them, and each below
 * the input that it belongs to. The options of the inputs say all of it; see `nodes/schema/inputs.py`.
 */

import { app } from "../../../scripts/app.js";
import { say } from "./texts.js";
import { after, allNodes, changeWidgets, keepSavedOrder, nodes2, placeBelow, setHidden, widgetOf } from "./widgets.js";

const PREFIX = "RECE_";
const COUNTS_FOR = "rece_counts_for";
const BELOW = "rece_after";
const PRESETS = "rece_presets";
const CUSTOM = "custom";

const RENDERER = "Comfy.VueNodes.Enabled";

/** The options of every input by its name, by the node's type. */
const definitions = new Map();
/** What shows and hides the inputs of a node. */
const updates = new WeakMap();

function optionsOf({ input }) {
  const all = Object.entries({ ...input?.required, ...input?.optional });
  return new Map(all.map(([name, [, options]]) => [name, options ?? {}]));
}

function isLinked(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null);
}

function counts(node, conditions) {
  return Object.entries(conditions ?? {}).every(
    // A linked choice may turn out to be anything.
    ([choice, values]) => values.includes(widgetOf(node, choice)?.value) || isLinked(node, choice),
  );
}

/** Newer frontends fold advanced inputs away by themselves, in Nodes 2.0 only. */
function hostFolds(node) {
  return nodes2() && typeof node.hasAdvancedWidgets === "function";
}

function update(node, inputs, button, keepOthers) {
  const byHost = hostFolds(node);
  changeWidgets(
    node,
    () => {
      for (const [name, options] of inputs) {
        const folded = options.advanced && !node.showAdvanced && !isLinked(node, name);
        const counted = counts(node, options[COUNTS_FOR]) || isLinked(node, name);
        setHidden(widgetOf(node, name), !counted || (folded && !byHost), folded);
      }
      if (!button) return;
      // Frontend 1.32 reads the label in the canvas, and the name in Nodes 2.0.
      button.label = button.name = say(node.showAdvanced ? "hide" : "show");
      setHidden(button, byHost);
    },
    keepOthers,
  );
}

function addButton(node, toggle) {
  const last = node.widgets.findLast(({ serialize }) => serialize !== false);
  const button = node.addWidget("button", say("show"), null, toggle, { serialize: false });
  button.serialize = false; // neither sent nor saved
  placeBelow(node, button, last);
  button.tooltip = say("advanced");
  return button;
}

/** 'custom' begins with the numbers of the preset that was chosen before it. */
function followPresets(node, presets) {
  const choice = widgetOf(node, "preset");
  let last = choice.value;
  after(choice, "callback", () => {
    const values = choice.value === CUSTOM ? presets[last] : undefined;
    for (const [name, value] of Object.entries(values ?? {})) {
      const widget = widgetOf(node, name);
      if (widget) widget.value = value;
    }
    last = choice.value;
  });
  after(node, "onConfigure", () => {
    last = choice.value;
  });
}

/** Put every input below the one that it belongs to, which has to have found its own place before. */
function arrange(node, inputs) {
  const placed = new Set();
  const place = (name) => {
    if (placed.has(name)) return;
    placed.add(name);
    const above = inputs.get(name)?.[BELOW];
    if (!inputs.has(above)) return;
    place(above);
    placeBelow(node, widgetOf(node, name), widgetOf(node, above));
  };
  for (const name of inputs.keys()) place(name);
}

function setUp(node, definition) {
  const inputs = [...definition].filter(([name]) => widgetOf(node, name));
  const changing = inputs.filter(([, options]) => options[COUNTS_FOR] || options.advanced);
  const presets = definition.get("preset")?.[PRESETS];
  // The order of the saved values is the one that the widgets were made in.
  keepSavedOrder(node);
  arrange(node, new Map(inputs));
  if (presets) followPresets(node, presets);
  if (!changing.length) return;
  const toggle = () => {
    node.showAdvanced = !node.showAdvanced;
    update(node, changing, button, true);
  };
  let button;
  changeWidgets(
    node,
    () => {
      button = changing.some(([, options]) => options.advanced) ? addButton(node, toggle) : undefined;
    },
    true,
  );
  const choices = new Set(changing.flatMap(([, options]) => Object.keys(options[COUNTS_FOR] ?? {})));
  for (const choice of choices) {
    const widget = widgetOf(node, choice);
    if (widget) after(widget, "callback", () => update(node, changing, button, true));
  }
  // A loaded node has the size it was saved with, and a link takes no room that its number did not have.
  const updateAll = () => update(node, changing, button, false);
  for (const event of ["onConfigure", "onConnectionsChange"]) after(node, event, updateAll);
  updates.set(node, updateAll);
  update(node, changing, button, true);
}

app.registerExtension({
  name: "RECE.Choices",
  setup() {
    // Who folds the advanced inputs depends on the renderer, which it tells of before it changes.
    const updateAll = () => requestAnimationFrame(() => allNodes().forEach((node) => updates.get(node)?.()));
    app.ui.settings.addEventListener(`${RENDERER}.change`, updateAll);
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name?.startsWith(PREFIX)) definitions.set(nodeData.name, optionsOf(nodeData));
  },
  nodeCreated(node) {
    const definition = definitions.get(node.comfyClass);
    if (definition && node.widgets) setUp(node, definition);
  },
});
