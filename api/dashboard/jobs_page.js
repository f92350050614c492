// The list of jobs, newest first.

import { ask } from "./access.js";
import { h, prose, say, table } from "./dom.js";
import { keepFresh, keeper } from "./fresh.js";
import { ENDED, askedOf, drop, nameOf, share, stateOf, when, whereIs } from "./words.js";

const STATES = ["queued", "running", "finished", "failed", "cancelled"];
const COLUMNS = [
  { title: "Job" },
  { title: "State" },
  { title: "Asked for" },
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
  const away = h("div", {});
  const keep = keeper(list);
  const tell = teller();
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
    keep([filter.value, found], () => rendered(found, filter.value));
    tell(found);
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
      away,
      list,
      older,
    ),
  );
  keepFresh(refresh, signal, away);
}

/** Says which jobs went into another state since the last look. */
function teller() {
  const before = new Map();
  return (jobs) => {
    const changed = jobs.filter((job) => before.has(job.id) && before.get(job.id) !== stateOf(job)[0]);
    for (const job of jobs) before.set(job.id, stateOf(job)[0]);
    if (changed.length) say(changed.map((job) => `${nameOf(job)}: ${stateOf(job)[0]}`).join(", "));
  };
}

function rendered(jobs, state) {
  if (jobs.length === 0) {
    const told = state
      ? `No job is ${state}.`
      : "No jobs yet. Submit a model with its data and a latency budget, here or with `autosparse submit`.";
    return [h("p", { class: "empty" }, prose(told))];
  }
  const list = table("Jobs", COLUMNS, jobs.map(rowOf));
  list.classList.add("stacked");
  return [list];
}

function rowOf(job) {
  const [words, tone] = stateOf(job);
  const found = job.best ?? job.outcome ?? {};
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
    h("td", { "data-title": "Asked for" }, askedOf(job)),
    h("td", { "data-title": "Best latency", class: "n" }, share(found.latency_ratio)),
    h("td", { "data-title": "Drop", class: "n" }, drop(found.drop)),
    h("td", { "data-title": "Submitted", class: "time" }, when(job.created)),
  );
}
