/**
 * What the scripts of this folder share: widgets that come and go, in both renderers.
 *
 * ComfyUI imports every file here as an extension; this one registers nothing.
 */

/** Call `listener` after the method `name` of `object`, with the same `this` and arguments. */
export function after(object, name, listener) {
  const original = object[name];
  object[name] = function (...values) {
    const result = original?.apply(this, values);
    listener.apply(this, values);
    return result;
  };
}

/** Show or hide a widget; its value and its place among the saved values stay. Call within `changeWidgets`. */
export function setHidden(widget, hidden) {
  widget.hidden = hidden; // read by the canvas
  widget.options.hidden = hidden; // read by Nodes 2.0
  // Frontend 1.32 keeps a row of the canvas for a hidden widget, unless its height and the gap of 4 make nothing.
  if (hidden) widget.computeSize = () => [0, -4];
  else delete widget.computeSize;
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

function nodes2() {
  return Boolean(globalThis.LiteGraph?.vueNodesMode);
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
