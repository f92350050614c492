// Schedules: when each is due, what its runs found, and running or pausing it.

import { ask } from "./access.js";
import { h, problemBox, prose, table } from "./dom.js";
import { share, when } from "./words.js";

const COLUMNS = [
  { title: "Schedule" },
  { title: "When" },
  { title: "Next" },
  { title: "If missed, if late" },
  { title: "" },
];
const RUN_COLUMNS = [
  { title: "Due" },
  { title: "Cause" },
  { title: "State" },
  { title: "Found" },
  { title: "Job" },
];

export async function showSchedules(place, signal) {
  const list = h("div", {});
  const problem = h("div", {});
  const history = h("div", {});

  async function refresh() {
    const { items } = await ask("GET", "/v1/schedules?limit=200", { signal });
    list.replaceChildren(
      items.length
        ? table("Schedules", COLUMNS, items.map((item) => rowOf(item, tried)))
        : h("p", { class: "empty" }, prose("No schedules yet. Make one with `autosparse schedule`.")),
    );
    if (items.length) list.firstChild.classList.add("stacked");
  }

  async function tried(schedule, verb) {
    problem.replaceChildren();
    try {
      if (verb !== "runs") await ask("POST", `/v1/schedules/${schedule.id}:${verb}`);
      if (verb === "runs" || verb === "run") await showRuns(history, schedule, signal);
      await refresh();
    } catch (error) {
      problem.replaceChildren(problemBox(error));
    }
  }

  await refresh();
  place.replaceChildren(h("section", {}, h("h1", {}, "Schedules"), problem, list, history));
}

function rowOf(item, tried) {
  const button = (words, verb) =>
    h(
      "button",
      { type: "button", "aria-label": `${words}: ${item.name || item.id}`, onclick: () => tried(item, verb) },
      words,
    );
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      item.name || item.id,
      h("span", { class: "under" }, [item.kind.replaceAll("_", " "), item.name && item.id].filter(Boolean).join(", ")),
    ),
    h(
      "td",
      { "data-title": "When" },
      item.told || h("code", {}, item.cron),
      h("span", { class: "under" }, item.time_zone),
    ),
    h("td", { "data-title": "Next" }, item.paused ? "paused" : when(item.next_due)),
    h("td", { "data-title": "If missed, if late" }, `${item.missed}, ${item.overlap}`),
    h(
      "td",
      {},
      h(
        "div",
        { class: "row" },
        button("Run now", "run"),
        item.paused ? button("Resume", "resume") : button("Pause", "pause"),
        button("Runs", "runs"),
      ),
    ),
  );
}

async function showRuns(place, schedule, signal) {
  const { items } = await ask("GET", `/v1/schedules/${schedule.id}/runs`, { signal });
  const list = items.length
    ? table("Runs", RUN_COLUMNS, items.map(runOf))
    : h("p", { class: "empty" }, "It has not run yet.");
  if (items.length) list.classList.add("stacked");
  place.replaceChildren(h("h2", {}, `Runs of ${schedule.name || schedule.id}`), list);
}

function runOf(run) {
  const outcome = run.outcome ?? {};
  const regressions = outcome.regressions ?? [];
  const found = [outcome.verdict, Number.isFinite(outcome.latency_ratio) && share(outcome.latency_ratio)];
  return h(
    "tr",
    {},
    h("td", { "data-title": "Due" }, when(run.due)),
    h("td", { "data-title": "Cause" }, run.cause),
    h("td", { "data-title": "State" }, run.state),
    h(
      "td",
      { "data-title": "Found" },
      found.filter(Boolean).join(", ") || "\u2013",
      regressions.map((told) => h("span", { class: "under no" }, String(told))),
    ),
    h("td", { "data-title": "Job" }, run.job ? h("a", { href: `#/jobs/${run.job}` }, run.job) : "\u2013"),
  );
}
