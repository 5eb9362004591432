/** Inputs of 'Erase Concepts' are shown while the choices above them let them count. */

import { app } from "../../../scripts/app.js";
import { after, changeWidgets, setHidden } from "./widgets.js";

const NODE = "RECE_EraseConcepts";
const CUSTOM = ["custom"];
const EDITS = ["RECE", "UCE"];
const ITERATION = ["RECE"];
const PROJECTION = ["projection"];

/** Which values of which choices let an input count. */
const COUNTS = {
  epochs: { preset: CUSTOM, method: ITERATION },
  regularization: { preset: CUSTOM },
  edit_regularization: { preset: CUSTOM, method: EDITS },
  erase_scale: { preset: CUSTOM, method: EDITS },
  preserve_scale: { preset: CUSTOM, method: EDITS },
  robustness: { method: PROJECTION },
  beta: { method: PROJECTION, robustness: CUSTOM },
  directions: { method: PROJECTION },
  iteration: { method: ITERATION },
  regeneration_limit: { method: ITERATION },
  drift_limit: { method: EDITS },
};
const INPUTS = Object.keys(COUNTS);
const CHOICES = ["preset", "method", "robustness"];

function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

function isLinked(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null);
}

function counts(node, name) {
  return Object.entries(COUNTS[name]).every(
    // A linked choice may turn out to be anything.
    ([choice, values]) => values.includes(widgetOf(node, choice).value) || isLinked(node, choice),
  );
}

function update(node, keepOthers) {
  changeWidgets(
    node,
    () => {
      for (const name of INPUTS) setHidden(widgetOf(node, name), !counts(node, name) && !isLinked(node, name));
    },
    keepOthers,
  );
}

function setUp(node) {
  if (![...CHOICES, ...INPUTS].every((name) => widgetOf(node, name))) return;
  // The choices decide; otherwise newer frontends would keep them behind a button of their own, too.
  for (const name of INPUTS) widgetOf(node, name).options.advanced = false;
  for (const name of CHOICES) after(widgetOf(node, name), "callback", () => update(node, true));
  // A loaded node has the size it was saved with, and a link takes no room that its number did not have.
  after(node, "onConfigure", () => update(node, false));
  after(node, "onConnectionsChange", () => update(node, false));
  update(node, true);
}

app.registerExtension({
  name: "RECE.Choices",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
