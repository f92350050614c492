// What a job delivered, and the ways to it.

import { ask, open } from "./access.js";
import { h, showProblem, table } from "./dom.js";
import { ENDED, size } from "./words.js";

const COLUMNS = [{ title: "File" }, { title: "Size", numeric: true }, { title: "SHA-256" }];
const PAGES = { "report.html": "Open the report", "atlas.html": "Open the atlas" };

export async function filesOf(job, signal) {
  if (!ENDED.includes(job.state)) {
    return [h("p", { class: "empty" }, "Files are delivered when the job ends.")];
  }
  const { items } = await ask("GET", `/v1/jobs/${job.id}/artifacts`, { signal });
  if (!items.length) return [h("p", { class: "empty" }, "The job delivered nothing.")];
  const problem = h("div", {});
  const button = (words, artifact, first) =>
    h("button", { type: "button", class: first && "first", onclick: () => opened(job, artifact, problem) }, words);
  const names = items.map((item) => item.name);
  return [
    h(
      "div",
      { class: "row" },
      button(wordsOf(names), null, true),
      ...Object.entries(PAGES).map(([page, words]) => names.includes(page) && button(words, page)),
    ),
    problem,
    table("Delivered files", COLUMNS, items.map((item) => rowOf(job, item, problem))),
  ];
}

function wordsOf(names) {
  if (names.includes("manifest.json")) return "Download the bundle";
  if (names.includes("atlas.json")) return "Download the atlas";
  return `Download the best ${names.length > 1 ? "file" : "recipe"} so far, not verified`;
}

function rowOf(job, item, problem) {
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("button", { type: "button", class: "link", onclick: () => opened(job, item.name, problem) }, item.name),
    ),
    h("td", { class: "n" }, size(item.size_bytes)),
    h("td", { class: "hash" }, h("code", { title: item.sha256 }, `${item.sha256.slice(0, 16)}\u2026`)),
  );
}

async function opened(job, artifact, problem) {
  problem.replaceChildren();
  try {
    await open(job.id, artifact);
  } catch (error) {
    showProblem(problem, error);
  }
}
