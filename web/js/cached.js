/**
 * After the page was opened anew, nodes that need not run again get their reports back.
 *
 * The host tells of nodes that it finds done already, but sends what they reported only where they end a workflow. What they
 * reported is in its history, with the run that did the work.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { lacksReport, nodeOf } from "./report.js";

/** In how many of the last runs to look. */
const MOST_RUNS = 20;

let run;

/** A node of a run with all that comes before it, as something to compare. */
function signature(graph, id, seen = new Set()) {
  const node = graph[id];
  if (!node || seen.has(id)) return null;
  const before = new Set([...seen, id]);
  const inputs = Object.entries(node.inputs ?? {}).map(([name, value]) => [
    name,
    Array.isArray(value) && value[0] in graph ? [signature(graph, value[0], before), value[1]] : value,
  ]);
  return JSON.stringify([node.class_type, inputs.sort(([one], [other]) => (one < other ? -1 : 1))]);
}

/** What nodes reported in the last run that did their work, by their ids. */
export function reportsOf(ids, history, finished) {
  const now = history[finished]?.prompt[2];
  if (!now) return new Map();
  const earlier = Object.values(history).reverse();
  const found = ids.map((id) => {
    const same = ({ prompt, outputs }) => outputs?.[id] && signature(prompt[2], id) === signature(now, id);
    return [id, earlier.find(same)?.outputs[id]];
  });
  return new Map(found.filter(([, output]) => output));
}

async function restore({ id: finished, cached }) {
  const ids = cached.filter((id) => lacksReport(nodeOf(id)));
  if (!ids.length) return;
  const answer = await api.fetchApi(`/history?max_items=${MOST_RUNS}`);
  if (!answer.ok) return;
  for (const [id, output] of reportsOf(ids, await answer.json(), finished)) {
    const node = nodeOf(id);
    if (lacksReport(node)) node.onExecuted?.(output);
  }
}

app.registerExtension({
  name: "RECE.Cached",
  setup() {
    api.addEventListener("execution_cached", ({ detail }) => {
      run = { id: detail.prompt_id, cached: detail.nodes ?? [] };
    });
    // Nothing is executed any more: now the run is in the history.
    api.addEventListener("executing", ({ detail }) => {
      if (detail || !run) return;
      const done = run;
      run = undefined;
      restore(done);
    });
  },
});
