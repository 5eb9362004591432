/**
 * What the scripts of this folder share: widgets that come and go or stand in another place, in both renderers.
 *
 * ComfyUI imports every file here as an extension; this one registers nothing.
 */

import { app } from "../../../scripts/app.js";

/** Call `listener` after the method `name` of `object`, with the same `this` and arguments. */
export function after(object, name, listener) {
  const original = object[name];
  object[name] = function (...values) {
    const result = original?.apply(this, values);
    listener.apply(this, values);
    return result;
  };
}

/** The widget of that name, if there is one. */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/**
 * Show or hide a widget; its value and its place among the saved values stay. Call within `changeWidgets`.
 *
 * One that is not hidden takes no room where `folded`: Nodes 2.0 shows it later, and the node begins with the size that the
 * canvas gives it.
 */
export function setHidden(widget, hidden, folded = false) {
  widget.hidden = hidden; // read by the canvas
  for (const options of readOptions(widget)) options.hidden = hidden; // read by Nodes 2.0
  // Frontend 1.32 keeps a row of the canvas for a hidden widget, unless its height and the gap of 4 make nothing.
  if (hidden || folded) widget.computeSize = () => [0, -4];
  else delete widget.computeSize;
}

/**
 * The options that a renderer may read: those of the widget, and in frontend 1.49 those of the state that it shares by the
 * ids of graph and node. After 'Convert to Subgraph' that state is still the one of the node that was there before.
 */
function readOptions(widget) {
  return new Set([widget.options, widget._state?.options].filter(Boolean));
}

/**
 * Run `change` on the widgets of `node`, and let its height follow.
 *
 * With `keepOthers` the node grows and shrinks by what came and went, so that the other widgets keep their height;
 * else it only grows, and only where it is too small.
 */
export function changeWidgets(node, change, keepOthers = false) {
  const before = node.computeSize()[1];
  change();
  const least = node.computeSize()[1];
  const height = Math.max(least, node.size[1] + (keepOthers ? least - before : 0));
  // In Nodes 2.0 the page lays a node out by itself, between the size a person gave it and what it holds.
  const pageDecides = node.graph && nodes2();
  if (height !== node.size[1] && !pageDecides) node.setSize([node.size[0], height]);
  if (nodes2()) refresh(node);
  else node.setDirtyCanvas(true, true);
}

/** Whether the page draws the nodes, and not the canvas. */
export function nodes2() {
  return Boolean(globalThis.LiteGraph?.vueNodesMode);
}

/** All nodes of the workflow, those in subgraphs too. */
export function allNodes() {
  const root = app.rootGraph ?? app.graph;
  return [root, ...(root.subgraphs?.values() ?? [])].flatMap((graph) => [...(graph._nodes ?? graph.nodes)]);
}

/** Move `widget` to stand right below `above`, or below what is shown of it; see `keepSavedOrder`. */
export function placeBelow(node, widget, above) {
  node.widgets.splice(node.widgets.indexOf(widget), 1);
  let place = node.widgets.indexOf(above) + 1;
  while (isSaved(widget) && node.widgets[place] && !isSaved(node.widgets[place])) place++;
  node.widgets.splice(place, 0, widget);
}

/**
 * Let the widgets of `node` be shown in another order than they are saved in: the one that they have now.
 *
 * Saved workflows hold the values by place, and older ones must go on to load.
 */
export function keepSavedOrder(node) {
  const saved = node.widgets.filter(isSaved);
  const { serialize, configure } = node;
  node.serialize = function () {
    const info = serialize.call(this);
    // A frontend writes a value to its widget's place, and leaves holes for what is not saved.
    if (Array.isArray(info.widgets_values)) {
      info.widgets_values = saved.map((widget) => info.widgets_values[this.widgets.indexOf(widget)] ?? null);
    }
    return info;
  };
  node.configure = function (info) {
    const values = info.widgets_values;
    if (!Array.isArray(values)) return configure.call(this, info);
    // It reads them without holes. Older workflows have fewer.
    const shown = this.widgets.filter(isSaved).map((widget) => {
      const place = saved.indexOf(widget);
      return place < values.length ? values[place] : widget.value;
    });
    return configure.call(this, { ...info, widgets_values: shown });
  };
}

function isSaved(widget) {
  return widget.serialize !== false;
}

/** Nodes 2.0 reads `options.hidden` only when the list of widgets changes, so change it there and back. */
function refresh(node) {
  node.widgets.push(node.widgets.pop());
  // A second frame, because the first may come before the page is updated.
  requestAnimationFrame(() => requestAnimationFrame(() => announceIfStale(node)));
}

/**
 * In frontend 1.32, Nodes 2.0 goes on with a copy of the widgets once a value of the node was edited.
 * It makes a new one when a node is announced, as it does itself for all nodes when it starts.
 */
function announceIfStale(node) {
  const rows = document.querySelectorAll(`[data-node-id="${node.id}"] .lg-node-widget`).length;
  const shown = node.widgets.filter(({ options }) => !options?.hidden && !options?.canvasOnly).length;
  if (rows && rows !== shown) node.graph?.onNodeAdded?.(node);
}
