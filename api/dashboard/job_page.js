// One job: where it is, what it found, what it says, what it delivered; live until it ends.

import { ask, follow, send } from "./access.js";
import { facts, h, problemBox, say, table } from "./dom.js";
import { actionsOf } from "./job_actions.js";
import { filesOf } from "./job_files.js";
import { liveLog } from "./job_log.js";
import { ENDED, drop, milliseconds, nameOf, share, stateOf, when, whereIs } from "./words.js";

const AGAIN = 2000;
const MOST_ROWS = 200;
const TRIAL_COLUMNS = [
  { title: "#", numeric: true },
  { title: "Recipe" },
  { title: "Proposed by" },
  { title: "Latency", numeric: true },
  { title: "Of the baseline", numeric: true },
  { title: "Drop", numeric: true },
  { title: "Layers", numeric: true },
];

export async function showJob(place, signal, id) {
  const job = await ask("GET", `/v1/jobs/${id}`, { signal });
  const page = pageOf(place);
  const log = liveLog(id, signal);
  page.log.replaceChildren(log.element);
  const seen = { stages: [], notes: [], stale: true, job };

  async function refresh() {
    seen.job = await ask("GET", `/v1/jobs/${id}`, { signal });
    renderHead(page, seen, again);
    if (seen.stale) {
      seen.stale = false;
      await renderTrials(page, seen.job, signal);
      page.files.replaceChildren(...(await filesOf(seen.job, signal)));
    }
    if (seen.job.started) await log.refresh();
  }

  function told(event) {
    if (event.kind === "stage") seen.stages.push(event);
    if (event.kind === "note") seen.notes.push(event.data.text);
    if (event.kind === "state") say(`${nameOf(seen.job)}: ${event.data.verdict ?? event.data.state}`);
    if (event.kind === "trial" || event.kind === "state") seen.stale = true;
    else if (!seen.drawing) {
      // many come at once when the page is opened
      seen.drawing = true;
      requestAnimationFrame(() => {
        seen.drawing = false;
        if (!signal.aborted) renderHead(page, seen, again);
      });
    }
  }

  async function live() {
    while (!signal.aborted) {
      const following = new AbortController();
      const stop = () => following.abort();
      signal.addEventListener("abort", stop);
      seen.stages = [];
      seen.notes = [];
      const over = follow(id, following.signal, told).then(() => true);
      while (!(await Promise.race([over, pause()])) && !signal.aborted) {
        if (!document.hidden) await refresh().catch(() => {});
      }
      signal.removeEventListener("abort", stop);
      seen.stale = true;
      await refresh().catch(() => {});
      if (ENDED.includes(seen.job.state)) return;
    }
  }

  let running = null;
  function again() {
    running ??= live().finally(() => (running = null));
  }

  renderHead(page, seen, again);
  renderAsked(page, job);
  await refresh();
  again();
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, AGAIN, false));
}

/** The page's empty parts, put in their places once. */
function pageOf(place) {
  const parts = {};
  const part = (name) => (parts[name] = h("div", {}));
  const section = (name, title) =>
    h("section", { "aria-labelledby": `${name}-title` }, h("h2", { id: `${name}-title` }, title), part(name));
  place.replaceChildren(
    h("section", { class: "verdict" }, part("head"), part("actions")),
    section("front", "Quality against latency"),
    section("trials", "Trials"),
    section("files", "Delivered files"),
    section("notes", "Notes"),
    section("log", "Log"),
    section("asked", "What was asked"),
  );
  return parts;
}

function renderHead(page, seen, again) {
  const { job } = seen;
  // what has not changed is left alone: somebody may be reading or copying it
  const shown = JSON.stringify([job, seen.stages.length, seen.notes.length]);
  if (seen.shown === shown) return;
  seen.shown = shown;
  const [words, tone] = stateOf(job);
  const ended = ENDED.includes(job.state);
  page.head.className = tone;
  page.head.replaceChildren(
    h("p", { class: "pill" }, words),
    h("h1", { tabindex: "-1" }, nameOf(job)),
    h(
      "p",
      { class: "facts" },
      job.name && h("span", {}, job.id),
      h("span", {}, `budget ${job.request.latency_budget}, max_drop ${job.request.max_drop ?? "1pt"}`),
      h("span", {}, `submitted ${when(job.created)}`),
      job.started && h("span", {}, `begun ${when(job.started)}`),
      ended && job.finished && h("span", {}, `ended ${when(job.finished)}`),
      job.priority !== 0 && h("span", {}, `priority ${job.priority}`),
      job.attempts > 1 && h("span", {}, `attempt ${job.attempts}`),
    ),
    ...(ended ? [] : [progressOf(job)]),
    ...(job.problem ? [problemBox(job.problem)] : []),
    figuresOf(job),
    stagesOf(seen.stages, ended),
  );
  const notes = [...new Set(seen.notes)];
  page.notes.replaceChildren(
    notes.length
      ? h("ul", { class: "notes" }, notes.map((note) => h("li", {}, note)))
      : h("p", { class: "empty" }, "No notes."),
  );
  if (page.actions.dataset.state !== job.state) {
    page.actions.dataset.state = job.state;
    page.actions.replaceChildren(actionsOf(job, again));
  }
}

function progressOf(job) {
  const waiting = { queued: "Waits for the device.", cancelling: "Is being stopped." }[job.state];
  const { progress } = job;
  const words = waiting ?? (progress?.stage ? `${whereIs(job)}: ${progress.detail}` : "Begins.");
  const bar = !waiting && progress?.total
    ? h("progress", { max: progress.total, value: progress.done, "aria-label": progress.stage })
    : null;
  return h("div", { class: "progress" }, h("p", {}, words), bar);
}

function figuresOf(job) {
  const { best } = job;
  const figure = (label, value, beside) =>
    h("div", {}, h("dt", {}, label), h("dd", { class: "number" }, value), h("dd", { class: "beside" }, beside));
  if (!best) {
    if (job.state === "queued") return "";
    const told = ENDED.includes(job.state) ? "No trial met the contract." : "No trial meets the contract yet.";
    return h("p", { class: "lede" }, told);
  }
  return h(
    "dl",
    { class: "figures" },
    figure("Best latency", milliseconds(best.latency_seconds), `baseline ${milliseconds(best.baseline_seconds)}`),
    figure("Of the baseline", share(best.latency_ratio), `up to ${share(best.latency_ratio_high)}`),
    figure("Drop", drop(best.drop), `up to ${drop(best.drop_high)}, in the metric's unit`),
    figure("Compressed layers", String(best.compressed_layers), `recipe ${best.recipe_id}`),
  );
}

/** Stages in the order in which they were first reached; the last one is where the job is. */
function stagesOf(events, ended) {
  const names = [...new Set(events.map((event) => event.data.stage))];
  const current = ended ? null : events.at(-1)?.data.stage;
  return h(
    "ol",
    { class: "stages", "aria-label": "Stages" },
    names.map((name) =>
      h("li", { class: name === current ? "current" : "", "aria-current": name === current && "step" }, name),
    ),
  );
}

async function renderTrials(page, job, signal) {
  const { items } = await ask("GET", `/v1/jobs/${job.id}/trials`, { signal });
  if (!items.length) {
    page.front.replaceChildren(h("p", { class: "empty" }, "Nothing was measured yet."));
    page.trials.replaceChildren(h("p", { class: "empty" }, "No trials yet."));
    return;
  }
  const answer = await send("GET", `/v1/jobs/${job.id}/front`, { signal });
  const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!page.front.contains(document.activeElement)) {
    page.front.replaceChildren(...document.adoptNode(drawn.body).childNodes);
    page.front.querySelectorAll(".plot").forEach(window.makeInteractive);
  }
  const rows = items.slice(-MOST_ROWS).reverse().map((trial) => rowOf(trial, job.best));
  const more = items.length > MOST_ROWS ? `The newest ${MOST_ROWS} of ${items.length}.` : "Newest first.";
  const list = table("Trials", TRIAL_COLUMNS, rows);
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

function renderAsked(page, job) {
  const pairs = Object.entries(job.request).map(([name, value]) => [
    name,
    h("code", {}, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  page.asked.replaceChildren(facts(pairs));
}
