/** Text boxes say on the canvas what they are for; Nodes 2.0 has labels of its own. */

import { app } from "../../../scripts/app.js";

const PREFIX = "RECE_";
const LABELLED = "rece-labelled";
/** Readable on dark and on light boxes alike. */
const COLOUR = "#7a7a7a";
const FONT_SIZE = 11;

/** The label in the box's lower right corner: a background, so that it neither takes room nor catches clicks. */
const STYLE = `
textarea.${LABELLED} {
  background-repeat: no-repeat;
  background-position: right 6px bottom 3px;
}
`;

function picture(label) {
  const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
  text.textContent = label;
  const width = Math.ceil([...label].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1 : 0.62), 0) * FONT_SIZE);
  const attributes = { x: width, y: FONT_SIZE, "text-anchor": "end", fill: COLOUR, "font-family": "sans-serif", "font-size": FONT_SIZE };
  for (const [name, value] of Object.entries(attributes)) text.setAttribute(name, value);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${FONT_SIZE + 4}">${new XMLSerializer().serializeToString(text)}</svg>`;
  return `url("data:image/svg+xml,${encodeURIComponent(svg)}")`;
}

function addLabel(widget) {
  const box = widget.element ?? widget.inputEl;
  if (!(box instanceof HTMLTextAreaElement)) return;
  const label = widget.label ?? widget.name;
  box.setAttribute("aria-label", label);
  box.classList.add(LABELLED);
  box.style.backgroundImage = picture(label);
}

app.registerExtension({
  name: "RECE.Labels",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },
  nodeCreated(node) {
    if (node.comfyClass?.startsWith(PREFIX)) node.widgets?.forEach(addLabel);
  },
});
