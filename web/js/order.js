/** Nodes whose order undoes an erasure say so before anything runs: what stands where, and what to do about it. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { tellOrder } from "./report.js";
import { say } from "./texts.js";
import { after, widgetOf } from "./widgets.js";

const PREFIX = "RECE_";
const ERASE = "RECE_EraseConcepts";
const APPLY = "RECE_ApplyEraser";
const LOAD = "RECE_LoadEraser";
const SAVE = "RECE_SaveEraser";
/** The host's loaders whose file the server can be asked about: its folder, and the widget that names it. */
const LOADERS = {
  CheckpointLoaderSimple: ["checkpoints", "ckpt_name"],
  UNETLoader: ["diffusion_models", "unet_name"],
};
/** Nodes of any pack that change the weights of a MODEL, by the names that are usual for them. */
const CHANGES_WEIGHTS = /lora|lycoris|hypernetwork|^ModelMerge|^ModelAdd$|^ModelSubtract$/i;
const NEVER = 2;
const BYPASS = 4;
/** What a link within a subgraph has as the node where the subgraph begins and ends; a string in frontend 1.49. */
const SUBGRAPH_INPUT = -10;
const SUBGRAPH_OUTPUT = -20;
const WAIT = 150;
/** As deep as anybody nests; a workflow that goes in circles cannot be run either. */
const MOST_STEPS = 1000;

/** A node where it is: `path` holds the nodes of the subgraphs around it, the outermost first. */
const placeOf = (node, path) => ({ node, path, key: [...path, node].map(({ id }) => id).join(":") });

function linkOf(graph, id) {
  return id == null ? undefined : (graph?.links?.get?.(id) ?? graph?.links?.[id]);
}

const typeOf = (node) => node.comfyClass ?? node.type;
const titleOf = (node) => String(node.title ?? typeOf(node));

function placesIn(graph, path = []) {
  return [...(graph?.nodes ?? [])].flatMap((node) =>
    node.subgraph ? placesIn(node.subgraph, [...path, node]) : [placeOf(node, path)],
  );
}

/** The output that an input gets its value from, past bypassed nodes, reroutes and the borders of subgraphs. */
function sourceOf({ node, path }, input, steps = MOST_STEPS) {
  const link = linkOf(node.graph, input?.link);
  if (!link || !steps) return undefined;
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const outer = path.at(-1);
    return outer && sourceOf(placeOf(outer, path.slice(0, -1)), outer.inputs?.[link.origin_slot], steps - 1);
  }
  const origin = node.graph.getNodeById(link.origin_id);
  return origin && outputOf(placeOf(origin, path), link.origin_slot, steps - 1);
}

function outputOf(place, slot, steps) {
  const { node, path } = place;
  if (node.mode === NEVER) return undefined;
  if (node.mode === BYPASS || typeOf(node) === "Reroute") {
    const type = node.outputs?.[slot]?.type;
    const inputs = node.inputs ?? [];
    const passed = inputs[slot]?.type === type ? inputs[slot] : inputs.find((one) => one.type === type);
    return sourceOf(place, passed ?? (inputs.length === 1 ? inputs[0] : undefined), steps);
  }
  if (!node.subgraph) return { ...place, slot };
  const links = [...(node.subgraph.links?.values?.() ?? Object.values(node.subgraph.links ?? {}))];
  const last = links.find((link) => Number(link.target_id) === SUBGRAPH_OUTPUT && link.target_slot === slot);
  const inner = last && node.subgraph.getNodeById(last.origin_id);
  return inner && outputOf(placeOf(inner, [...path, node]), last.origin_slot, steps - 1);
}

const inputsOfType = ({ node }, type) => (node.inputs ?? []).filter((input) => input.type === type);
const hasOutput = ({ node }, type) => (node.outputs ?? []).some((output) => output.type === type);
const runs = ({ node }) => node.mode !== NEVER && node.mode !== BYPASS;

/** All places that are before this one along inputs of a type, the nearest first. */
function before(place, type) {
  const found = new Map();
  const waiting = [place];
  while (waiting.length && found.size < MOST_STEPS) {
    const one = waiting.shift();
    for (const input of inputsOfType(one, type)) {
      const source = sourceOf(one, input);
      if (!source || found.has(source.key)) continue;
      found.set(source.key, source);
      waiting.push(source);
    }
  }
  return [...found.values()];
}

/** Where the CLIP of a node comes from, as something to compare. */
function clipOf(place) {
  const [source] = inputsOfType(place, "CLIP").map((input) => sourceOf(place, input));
  return source && `${source.key}/${source.slot}`;
}

/** The nodes that made the ERASER of a place, or the place itself where it makes its own. */
function makersOf(place) {
  if (typeOf(place.node) === ERASE) return [place];
  return before(place, "ERASER").filter(({ node }) => typeOf(node) === ERASE);
}

/** The loader that the MODEL of a place begins with. */
function loaderOf(place) {
  return before(place, "MODEL").find((one) => !inputsOfType(one, "MODEL").length);
}

/** The same with what it loads: the same file by two loaders is one model. */
function baseOf(place) {
  const loader = loaderOf(place);
  if (!loader) return undefined;
  const values = (loader.node.widgets ?? []).filter((one) => one.serialize !== false).map(({ value }) => value);
  const name = values.find((value) => typeof value === "string");
  return { same: JSON.stringify([typeOf(loader.node), values]), name: name ?? titleOf(loader.node) };
}

/** What the server said by what it was asked; nothing while it is asked. */
const answers = new Map();

function answerTo(question) {
  const asked = String(new URLSearchParams(question));
  if (!answers.has(asked)) {
    answers.set(asked, undefined);
    tellOnceAnswered(asked);
  }
  return answers.get(asked);
}

async function tellOnceAnswered(asked) {
  const answer = await api.fetchApi(`/rece/misfit?${asked}`).catch(() => undefined);
  if (!answer?.ok) return;
  answers.set(asked, await answer.json());
  soon();
}

/** The file that a widget of a node names, unless a link does. */
function fileOf({ node }, name) {
  const linked = node.inputs?.some((input) => input.widget?.name === name && input.link != null);
  return linked ? undefined : widgetOf(node, name)?.value;
}

/** Files of erasers that are put on the model of a place, and were made for another architecture. */
function misfitsOf(place) {
  const loader = inputsOfType(place, "ERASER").length ? loaderOf(place) : undefined;
  const [folder, widget] = LOADERS[loader && typeOf(loader.node)] ?? [];
  const model = folder && fileOf(loader, widget);
  const erasers = model ? before(place, "ERASER").filter(({ node }) => typeOf(node) === LOAD) : [];
  return erasers
    .map((one) => fileOf(one, "eraser_name"))
    .filter(Boolean)
    .map((eraser) => ({ eraser, model, ...answerTo({ eraser, folder, model }) }))
    .filter((found) => found.made_for);
}

/** What is to be said on which node: a list of sentences by node. */
export function findOrder(graph) {
  const found = new Map();
  const tell = ({ node }, sentence) => {
    const said = found.get(node) ?? [];
    if (!said.includes(sentence)) found.set(node, [...said, sentence]);
  };
  const places = placesIn(graph).filter(runs);
  for (const place of places) {
    const type = typeOf(place.node) ?? "";
    const erasers = before(place, "MODEL").filter(({ node }) => [ERASE, APPLY].includes(typeOf(node)));
    if (CHANGES_WEIGHTS.test(type) && !type.startsWith(PREFIX) && hasOutput(place, "MODEL")) {
      for (const eraser of erasers) tell(eraser, say("after", { node: titleOf(place.node) }));
    }
    const encoders = erasers.length ? before(place, "CONDITIONING").filter((one) => clipOf(one)) : [];
    for (const eraser of erasers) {
      const clips = makersOf(eraser).map(clipOf).filter(Boolean);
      const others = encoders.filter((one) => clips.length && !clips.includes(clipOf(one)));
      for (const other of others) tell(eraser, say("clip", { node: titleOf(other.node) }));
    }
    for (const { eraser, model, made_for: made, here } of type.startsWith(PREFIX) ? misfitsOf(place) : []) {
      tell(place, say("misfit", { eraser, made, model, here }));
    }
    if (type === APPLY) {
      const here = baseOf(place);
      for (const made of makersOf(place).map(baseOf)) {
        if (made && here && made.same !== here.same) tell(place, say("base", { made: made.name, here: here.name }));
      }
    }
  }
  return found;
}

function update() {
  const root = app.rootGraph ?? app.graph;
  const found = findOrder(root);
  for (const { node } of placesIn(root)) {
    if (typeOf(node)?.startsWith(PREFIX)) tellOrder(node, found.get(node) ?? []);
  }
}

let timer;
function soon() {
  clearTimeout(timer);
  timer = setTimeout(update, WAIT);
}

app.registerExtension({
  name: "RECE.Order",
  setup() {
    // The host says so whenever a person changed something; while a workflow is loaded, nodes are configured.
    api.addEventListener("graphChanged", soon);
  },
  afterConfigureGraph: soon,
  nodeCreated(node) {
    soon();
    // The file of that name may be another now.
    if (typeOf(node) === SAVE) after(node, "onExecuted", () => answers.clear());
  },
});
