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
  const name = h("input", { id: "called", type: "text", maxlength: "200", autocomplete: "off" });
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

  function chosen() {
    const given = { state: filter.value, name: name.value.trim() };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  }

  async function refresh() {
    const asked = new URLSearchParams({ limit: 50, ...chosen() });
    const before = JSON.stringify(chosen());
    const found = [];
    let after = null;
    do {
      if (after) asked.set("after", after);
      const page = await ask("GET", `/v1/jobs?${asked}`, { signal });
      found.push(...page.items);
      after = page.next;
    } while (after && found.length < shown);
    // somebody typed on meanwhile: what was found is not what is asked for now
    if (JSON.stringify(chosen()) !== before) return;
    older.hidden = !after;
    keep([chosen(), found], () => rendered(found, chosen()));
    tell(found);
  }

  filter.addEventListener("change", () => refresh().catch(() => {}));
  name.addEventListener("input", () => refresh().catch(() => {}));
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
      h("div", { class: "row" }, h("label", { for: "state" }, "State"), filter, h("label", { for: "called" }, "Called"), name),
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

function rendered(jobs, { state, name }) {
  if (jobs.length === 0) {
    const wanted = [state && `is ${state}`, name && `has "${name}" in its name`].filter(Boolean);
    const told = wanted.length
      ? `No job ${wanted.join(" and ")}.`
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
