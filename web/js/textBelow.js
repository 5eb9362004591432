/** Small text below a field, which the server has to say about what stands there. */

import { app } from "../../../scripts/app.js";
import { changeWidgets, placeBelow } from "./widgets.js";

export const TEXT_CLASS = "rece-text";
export const HINT_CLASS = "rece-text-hint";
export const ERROR_CLASS = "rece-text-error";
const MARGIN = 4;

const STYLE = `
.${TEXT_CLASS} {
  box-sizing: border-box;
  contain: size;
  overflow: auto;
  padding: 2px 6px;
  color: var(--input-text);
  font: 12px/16px sans-serif;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
}
.${HINT_CLASS} { opacity: 0.75; font-size: 11px; line-height: 13px; }
.${ERROR_CLASS} { color: color-mix(in srgb, #e5484d 55%, var(--input-text)); }
`;

/** Put `element` below the widget `above`, in a height that does not change, so that nothing below moves; it scrolls. */
export function addTextBelow(node, name, element, height, above) {
  for (const type of ["pointerdown", "pointermove", "pointerup"]) {
    element.addEventListener(type, (event) => event.button !== 1 && event.buttons !== 4 && event.stopPropagation());
  }
  element.style.minHeight = `${height}px`;
  const add = () => {
    const widget = node.addDOMWidget(name, name, element, {
      serialize: false, // not sent to the server
      margin: MARGIN,
      getValue: () => "",
      getMinHeight: () => height + 2 * MARGIN,
      getMaxHeight: () => height + 2 * MARGIN,
    });
    widget.serialize = false; // not saved in the workflow
    placeBelow(node, widget, above);
  };
  changeWidgets(node, add, true);
}

/** A function that asks the server and shows what it says; of a late answer to an earlier question, nobody wants to know. */
export function asking(node, ask, show) {
  let asked = 0;
  return async (question) => {
    const turn = ++asked;
    const found = await ask(question).catch(() => undefined);
    if (turn === asked && node.graph) show(found);
  };
}

app.registerExtension({
  name: "RECE.TextBelow",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },
});
