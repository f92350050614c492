// The list of jobs, newest first, kept up to date while it is looked at.

import { ask } from "./access.js";
import { h, prose, table } from "./dom.js";
import { ENDED, drop, nameOf, share, stateOf, when, whereIs } from "./words.js";

const AGAIN = 3000;
const STATES = ["queued", "running", "finished", "failed", "cancelled"];
const COLUMNS = [
  { title: "Job" },
  { title: "State" },
  { title: "Budget" },
  { title: "Best latency", numeric: true },
  { title: "Drop", numeric: true },
  { title: "Submitted" },
];

export async function showJobs(place, signal) {
  const filter = h(
    "select",
    { id: "state" },
    h("option", { value: "" }, "all"),
    STATES.map((state) => h("option", { value: state }, state)),
  );
  const list = h("div", {});
  const older = h("button", { type: "button", hidden: true }, "Show older jobs");
  let shown = 50;

  async function refresh() {
    const state = filter.value ? `&state=${filter.value}` : "";
    const found = [];
    let after = "";
    do {
      const page = await ask("GET", `/v1/jobs?limit=50${state}${after}`, { signal });
      found.push(...page.items);
      after = page.next && `&after=${page.next}`;
    } while (after && found.length < shown);
    older.hidden = !after;
    render(list, found, filter.value);
  }

  filter.addEventListener("change", () => refresh().catch(() => {}));
  older.addEventListener("click", () => {
    shown += 50;
    refresh().catch(() => {});
  });
  await refresh();
  place.replaceChildren(
    h(
      "section",
      {},
      h(
        "div",
        { class: "title-row" },
        h("h1", {}, "Jobs"),
        h("a", { class: "button first", href: "#/submit" }, "Submit a job"),
      ),
      h("div", { class: "row" }, h("label", { for: "state" }, "State"), filter),
      list,
      older,
    ),
  );
  keepFresh(refresh, signal);
}

/** Ask again every few seconds; not while the tab is hidden, nor after the page was left. */
async function keepFresh(refresh, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    if (signal.aborted || document.hidden) continue;
    await refresh().catch(() => {}); // a server that is away comes back
  }
}

function render(list, jobs, state) {
  if (jobs.length === 0) {
    const told = state
      ? `No job is ${state}.`
      : "No jobs yet. Submit a model with its data and a latency budget, here or with `autosparse submit`.";
    list.replaceChildren(h("p", { class: "empty" }, prose(told)));
    return;
  }
  const focused = list.contains(document.activeElement) && document.activeElement.getAttribute("href");
  list.replaceChildren(table("Jobs", COLUMNS, jobs.map(rowOf)));
  list.firstChild.classList.add("stacked");
  if (focused) list.querySelector(`a[href="${focused}"]`)?.focus();
}

function rowOf(job) {
  const [words, tone] = stateOf(job);
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("a", { href: `#/jobs/${job.id}` }, nameOf(job)),
      job.name && h("span", { class: "under" }, job.id),
    ),
    h(
      "td",
      { "data-title": "State", class: tone },
      h("span", { class: "pill" }, words),
      whereIs(job) && h("span", { class: "under" }, whereIs(job)),
      job.problem && ENDED.includes(job.state) && h("span", { class: "under" }, job.problem.detail),
    ),
    h("td", { "data-title": "Budget" }, String(job.request.latency_budget ?? "")),
    h("td", { "data-title": "Best latency", class: "n" }, job.best ? share(job.best.latency_ratio) : "\u2013"),
    h("td", { "data-title": "Drop", class: "n" }, job.best ? drop(job.best.drop) : "\u2013"),
    h("td", { "data-title": "Submitted", class: "time" }, when(job.created)),
  );
}
