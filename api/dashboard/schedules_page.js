// Schedules: when each is due, what its runs found; making, changing, running, pausing and removing them.

import { ask } from "./access.js";
import { showChanges } from "./changes.js";
import { h, prose, showProblem, table } from "./dom.js";
import { keepFresh, keeper } from "./fresh.js";
import { scheduleForm } from "./schedule_form.js";
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
  const away = h("div", {});
  const problem = h("div", {});
  const history = h("div", {});
  const changes = h("div", {});
  const keep = keeper(list);

  async function refresh() {
    const { items } = await ask("GET", "/v1/schedules?limit=200", { signal });
    keep(items, () => rendered(items, tried));
  }

  function renew() {
    refresh().catch((error) => showProblem(problem, error));
  }

  async function tried(schedule, verb) {
    problem.replaceChildren();
    try {
      if (verb === "delete") await remove(schedule, [history, changes]);
      else if (verb === "change") await showChanges(changes, `/v1/schedules/${schedule.id}`, "ScheduleChanges", renew);
      else if (verb !== "runs") await ask("POST", `/v1/schedules/${schedule.id}:${verb}`);
      if (verb === "runs" || verb === "run") await showRuns(history, schedule, signal);
      await refresh();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  const [form] = await Promise.all([scheduleForm(signal, refresh), refresh()]);
  place.replaceChildren(
    h("section", {}, h("h1", {}, "Schedules"), problem, away, list, changes, history),
    h("section", { "aria-labelledby": "make-title" }, h("h2", { id: "make-title" }, "Make a schedule"), form),
  );
  keepFresh(refresh, signal, away);
}

async function remove(schedule, places) {
  const name = schedule.name || schedule.id;
  if (!confirm(`Remove the schedule ${name} with its history? Jobs that it began stay.`)) return;
  await ask("DELETE", `/v1/schedules/${schedule.id}`);
  for (const place of places) place.replaceChildren();
}

function rendered(items, tried) {
  if (!items.length) {
    return [h("p", { class: "empty" }, prose("No schedules yet. Make one below, or with `autosparse schedule`."))];
  }
  const list = table("Schedules", COLUMNS, items.map((item) => rowOf(item, tried)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(item, tried) {
  const button = (words, verb, kind) =>
    h(
      "button",
      {
        // pausing and resuming are one button in turns, and the focus stays on it
        type: "button", class: kind, "data-mark": `${verb === "resume" ? "pause" : verb} ${item.id}`,
        "aria-label": `${words}: ${item.name || item.id}`, onclick: () => tried(item, verb),
      },
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
        button("Change", "change"),
        button("Delete", "delete", "danger"),
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
