// What a search measured: the front, the best answer over time, and the trials one by one.

import { h, table } from "./dom.js";
import { draw } from "./pieces.js";
import { drop, milliseconds, share } from "./words.js";

const MOST_ROWS = 200;
const COLUMNS = [
  { title: "#", numeric: true },
  { title: "Recipe" },
  { title: "Proposed by" },
  { title: "Latency", numeric: true },
  { title: "Of the baseline", numeric: true },
  { title: "Drop", numeric: true },
  { title: "Layers", numeric: true },
];

export async function renderTrials(page, job, trials, signal) {
  if (!trials.length) {
    for (const place of [page.front, page.anytime]) {
      place.replaceChildren(h("p", { class: "empty" }, "Nothing was measured yet."));
    }
    page.trials.replaceChildren(h("p", { class: "empty" }, "No trials yet."));
    return;
  }
  const plots = ["front", "anytime"];
  await Promise.all(plots.map((plot) => draw(page[plot], `/v1/jobs/${job.id}/${plot}`, signal)));
  const rows = trials.slice(-MOST_ROWS).reverse().map((trial) => rowOf(trial, job.best));
  const more = trials.length > MOST_ROWS ? `The newest ${MOST_ROWS} of ${trials.length}.` : "Newest first.";
  const list = table("Trials", COLUMNS, rows);
  list.classList.add("tall");
  page.trials.replaceChildren(h("p", { class: "small" }, more), list);
}

function rowOf(trial, best) {
  const isBest = best && best.recipe_id === trial.recipe_id;
  return h(
    "tr",
    { class: isBest && "best" },
    h("td", { class: "n" }, trial.number),
    h("th", { scope: "row" }, h("code", {}, trial.recipe_id), isBest && h("span", { class: "under" }, "best so far")),
    h("td", {}, trial.proposed_by),
    h("td", { class: "n" }, milliseconds(trial.latency_seconds)),
    h("td", { class: "n" }, share(trial.latency_ratio)),
    h("td", { class: "n" }, drop(trial.drop)),
    h("td", { class: "n" }, trial.compressed_layers),
  );
}
