/** 'Compare Erasure' shows its grid, and over an erased picture what it was before, up to where the mouse is. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { say } from "./texts.js";
import { after, changeWidgets, setHidden } from "./widgets.js";

const NODE = "RECE_CompareErasure";
const NAME = "rece_grid";
const MARGIN = 10;
const MOST_HEIGHT = 1200;

const STYLE = `
.rece-compare { position: relative; contain: size; overflow: hidden; border-radius: 4px; }
.rece-compare img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.rece-compare-before {
  position: absolute;
  border-right: 2px solid #fff;
  box-shadow: 1px 0 2px #0008;
  background-repeat: no-repeat;
  pointer-events: none;
}
`;

function addressOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** The picture of the grid at a place of it, in the grid's own pixels; none on labels, gaps and the first column. */
function pictureAt(grid, x, y) {
  const column = Math.floor((x - grid.left) / (grid.width + grid.gap));
  const row = Math.floor((y - grid.top) / (grid.height + grid.gap));
  const inside = column > 0 && column < grid.columns.length && row >= 0 && row < grid.rows.length;
  if (!inside) return undefined;
  const left = grid.left + column * (grid.width + grid.gap);
  const top = grid.top + row * (grid.height + grid.gap);
  if (x >= left + grid.width || y >= top + grid.height) return undefined;
  return { left, top, label: `${grid.rows[row]}: ${grid.columns[column]}` };
}

function addGrid(node) {
  const element = document.createElement("div");
  element.className = "rece-compare";
  element.tabIndex = 0;
  const picture = document.createElement("img");
  const before = document.createElement("div");
  before.className = "rece-compare-before";
  element.append(picture, before);
  before.hidden = true;
  let grid;
  let height = 0;
  const widget = node.addDOMWidget(NAME, NAME, element, {
    serialize: false, // not sent to the server
    margin: MARGIN,
    getValue: () => "",
    getMinHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false; // not saved in the workflow
  changeWidgets(node, () => setHidden(widget, true));

  element.addEventListener("pointermove", (event) => {
    if (!grid) return;
    // Within the element by its own size, which the canvas's zoom does not change.
    const box = element.getBoundingClientRect();
    const zoom = box.width / element.clientWidth || 1;
    const [width, tall] = grid.size;
    const scale = Math.min(element.clientWidth / width, element.clientHeight / tall);
    const [dx, dy] = [(element.clientWidth - width * scale) / 2, (element.clientHeight - tall * scale) / 2];
    const x = ((event.clientX - box.left) / zoom - dx) / scale;
    const found = pictureAt(grid, x, ((event.clientY - box.top) / zoom - dy) / scale);
    before.hidden = !found;
    if (!found) return;
    element.title = found.label;
    Object.assign(before.style, {
      left: `${dx + found.left * scale}px`,
      top: `${dy + found.top * scale}px`,
      width: `${(x - found.left) * scale}px`,
      height: `${grid.height * scale}px`,
      backgroundSize: `${width * scale}px ${tall * scale}px`,
      backgroundPosition: `${-grid.left * scale}px ${-found.top * scale}px`,
    });
  });
  element.addEventListener("pointerleave", () => {
    before.hidden = true;
  });

  const show = (output) => {
    const [found] = output?.[NAME] ?? [];
    if (!found) return;
    grid = found;
    const address = addressOf(grid.image);
    picture.src = address;
    picture.alt = say("grid", { columns: grid.columns.join(", "), rows: grid.rows.join(", ") });
    before.style.backgroundImage = `url("${address}")`;
    changeWidgets(node, () => {
      height = Math.min(((node.size[0] - 2 * MARGIN) * grid.size[1]) / grid.size[0], MOST_HEIGHT);
      element.style.minHeight = `${height}px`;
      setHidden(widget, false);
    });
  };
  after(node, "onExecuted", show);
  after(node, "onConfigure", () => show(node.graph?.isRootGraph ? app.nodeOutputs?.[node.id] : undefined));
}

app.registerExtension({
  name: "RECE.Compare",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addGrid(node);
  },
});
