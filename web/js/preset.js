/** The numbers of 'Erase Concepts' are shown while its preset is 'custom', which is when they count. */

import { app } from "../../../scripts/app.js";
import { after, changeWidgets, setHidden } from "./widgets.js";

const NODE = "RECE_EraseConcepts";
const CUSTOM = "custom";
const NUMBERS = ["epochs", "regularization", "edit_regularization", "erase_scale", "preserve_scale"];

function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

function isLinked(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null);
}

function update(node, keepOthers) {
  const preset = widgetOf(node, "preset");
  // A linked preset may turn out to be anything.
  const open = preset.value === CUSTOM || isLinked(node, "preset");
  changeWidgets(
    node,
    () => {
      for (const name of NUMBERS) setHidden(widgetOf(node, name), !open && !isLinked(node, name));
    },
    keepOthers,
  );
}

function setUp(node) {
  if (!widgetOf(node, "preset") || !NUMBERS.every((name) => widgetOf(node, name))) return;
  // The preset decides; otherwise newer frontends would keep them behind a button of their own, too.
  for (const name of NUMBERS) widgetOf(node, name).options.advanced = false;
  after(widgetOf(node, "preset"), "callback", () => update(node, true));
  // A loaded node has the size it was saved with, and a link takes no room that its number did not have.
  after(node, "onConfigure", () => update(node, false));
  after(node, "onConnectionsChange", () => update(node, false));
  update(node, true);
}

app.registerExtension({
  name: "RECE.Preset",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
