// Atlases: from how many zeros on sparsity pays, for the layer shapes of a model on a target.

import { ask } from "./access.js";
import { h, prose, showProblem, table } from "./dom.js";
import { keepFresh, keeper } from "./fresh.js";
import { jobForm, readSchemas, readUploaded } from "./job_fields.js";
import { submissionForm } from "./submission.js";
import { ENDED, nameOf, stateOf, when, whereIs } from "./words.js";

const KIND = "refresh_atlas";
const COLUMNS = [
  { title: "Atlas" },
  { title: "Model, target" },
  { title: "State" },
  { title: "Found" },
  { title: "Whole files break even" },
  { title: "" },
];

export async function showAtlases(place, signal) {
  const [schemas, uploaded] = await Promise.all([readSchemas(signal), readUploaded(signal)]);
  const names = new Map(Object.values(uploaded).flat().map((item) => [item.id, item.name || item.id]));
  const list = h("div", {});
  const away = h("div", {});
  const problem = h("div", {});
  const keep = keeper(list);

  async function refresh() {
    const { items } = await ask("GET", `/v1/jobs?kind=${KIND}&limit=100`, { signal });
    keep(items, () => rendered(items, names, again));
  }

  async function again(job) {
    problem.replaceChildren();
    try {
      const made = await ask("POST", "/v1/atlases", { json: job.request });
      location.hash = `#/jobs/${made.id}`;
    } catch (error) {
      showProblem(problem, error);
    }
  }

  await refresh();
  const form = jobForm(schemas.AtlasRequest, uploaded);
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "Atlases"),
      h(
        "p",
        { class: "lede" },
        "An atlas measures every level of every layer shape of a model, and tells from how many zeros on a sparse level is faster than the best dense one.",
      ),
      problem,
      away,
      list,
    ),
    h(
      "section",
      { "aria-labelledby": "measure-title" },
      h("h2", { id: "measure-title" }, "Measure an atlas"),
      h("p", { class: "lede" }, "It takes the device for some minutes, as any job does."),
      submissionForm(form, "/v1/atlases", "Measure"),
    ),
  );
  keepFresh(refresh, signal, away);
}

function rendered(jobs, names, again) {
  if (!jobs.length) {
    return [h("p", { class: "empty" }, prose("No atlases yet. Measure one below, or regularly with `autosparse schedule refresh-atlas`."))];
  }
  const list = table("Atlases", COLUMNS, jobs.map((job) => rowOf(job, names, again)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(job, names, again) {
  const [words, tone] = stateOf(job);
  const { model, target } = job.request;
  const evens = Object.entries(job.outcome?.break_even ?? {});
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("a", { href: `#/jobs/${job.id}` }, nameOf(job)),
      h("span", { class: "under" }, when(job.created)),
    ),
    h(
      "td",
      { "data-title": "Model, target" },
      names.get(model) ?? model,
      h("span", { class: "under" }, target ? (names.get(target) ?? target) : "this server's own"),
    ),
    h(
      "td",
      { "data-title": "State", class: tone },
      h("span", { class: "pill" }, words),
      whereIs(job) && h("span", { class: "under" }, whereIs(job)),
    ),
    h("td", { "data-title": "Found" }, job.outcome?.summary ?? job.problem?.detail ?? "\u2013"),
    h(
      "td",
      { "data-title": "Whole files break even" },
      evens.length ? evens.map(([family, found]) => h("span", { class: "pair-of" }, h("code", {}, family), ` ${found}`)) : "\u2013",
    ),
    h(
      "td",
      {},
      ENDED.includes(job.state) &&
        h(
          "button",
          { type: "button", "data-mark": `again ${job.id}`, "aria-label": `Measure again: ${nameOf(job)}`, onclick: () => again(job) },
          "Measure again",
        ),
    ),
  );
}
