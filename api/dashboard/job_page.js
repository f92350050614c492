// One job: where it is, what it found, what it says, what it delivered; live until it ends.

import { allBehind, ask, follow } from "./access.js";
import { facts, h, say } from "./dom.js";
import { steadily } from "./fresh.js";
import { actionsOf } from "./job_actions.js";
import { filesOf } from "./job_files.js";
import { headOf } from "./job_head.js";
import { layerMap } from "./job_layers.js";
import { liveLog } from "./job_log.js";
import { renderTrials } from "./job_trials.js";
import { draw } from "./pieces.js";
import { ENDED, nameOf, stateOf } from "./words.js";

const AGAIN = 2000;
const TITLES = {
  atlas: "Latency over sparsity",
  front: "Quality against latency",
  anytime: "The best answer over time",
  layers: "Layer by layer",
  trials: "Trials",
  files: "Delivered files",
  notes: "Notes",
  log: "Log",
  asked: "What was asked",
};
const OF_A_SEARCH = ["front", "anytime", "layers", "trials"];
const OF_A_KIND = { search: OF_A_SEARCH, resolve: OF_A_SEARCH, reverify: [], refresh_atlas: ["atlas"] };

export async function showJob(place, signal, id) {
  const job = await ask("GET", `/v1/jobs/${id}`, { signal });
  const page = pageOf(place, job.kind);
  const log = liveLog(id, signal);
  page.log.replaceChildren(log.element);
  const seen = { stages: [], notes: [], stale: true, job, trials: [], at: "" };
  const updateLayers = page.layers && layerMap(page.layers);
  const tried = steadily(page.away);

  async function refresh() {
    seen.job = await ask("GET", `/v1/jobs/${id}`, { signal });
    renderHead(page, seen, again);
    const stale = seen.stale;
    seen.stale = false;
    try {
      await refreshParts(stale);
    } catch (error) {
      seen.stale ||= stale;
      throw error;
    }
  }

  async function refreshParts(stale) {
    if (updateLayers) await refreshSearch(stale);
    if (stale && page.atlas) await renderAtlas(page.atlas, seen.job, signal);
    if (stale) page.files.replaceChildren(...(await filesOf(seen.job, signal)));
    if (seen.job.started) await log.refresh();
  }

  async function refreshSearch(stale) {
    const { manifest, best, progress } = seen.job;
    // a table that is being built grows without an event
    const at = JSON.stringify(progress);
    const grows = !seen.trials.length && at !== seen.at;
    seen.at = at;
    if (stale) {
      const last = seen.trials.at(-1)?.number ?? 0;
      seen.trials = [...seen.trials, ...(await allBehind(`/v1/jobs/${id}/trials`, last, signal))];
      await renderTrials(page, seen.job, seen.trials, signal);
    }
    if (!stale && !grows) return;
    const layers = (await ask("GET", `/v1/jobs/${id}/layers`, { signal })).items;
    const delivered = seen.trials.find((trial) => trial.recipe_id === manifest?.recipe_id);
    const words = delivered ? "delivered" : "best so far";
    updateLayers(layers, seen.trials, (delivered ?? best)?.recipe_id, words);
  }

  function told(event) {
    if (event.kind === "stage") seen.stages.push(event);
    if (event.kind === "note") seen.notes.push(event.data.text);
    if (event.kind === "state") say(`${nameOf(seen.job)}: ${event.data.verdict ?? event.data.state}`);
    if (event.kind !== "note") seen.stale = true;
    if (event.kind === "trial" || event.kind === "state" || seen.drawing) return;
    // many come at once when the page is opened
    seen.drawing = true;
    requestAnimationFrame(() => {
      seen.drawing = false;
      if (!signal.aborted) renderHead(page, seen, again);
    });
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
        if (!document.hidden) await tried(refresh, signal);
      }
      signal.removeEventListener("abort", stop);
      seen.stale = true;
      await tried(refresh, signal);
      if (ENDED.includes(seen.job.state)) return;
    }
  }

  let running = null;
  function again() {
    running ??= live().finally(() => (running = null));
  }

  renderHead(page, seen, again);
  renderAsked(page, job);
  await tried(refresh, signal);
  again();
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, AGAIN, false));
}

/** The page's empty parts, put in their places once. */
function pageOf(place, kind) {
  const parts = {};
  const part = (name) => (parts[name] = h("div", {}));
  const section = (name) =>
    h("section", { "aria-labelledby": `${name}-title` }, h("h2", { id: `${name}-title` }, TITLES[name]), part(name));
  place.replaceChildren(
    h("section", { class: "verdict" }, part("head"), part("away"), part("actions"), part("form")),
    ...[...OF_A_KIND[kind], "files", "notes", "log", "asked"].map(section),
  );
  return parts;
}

function renderHead(page, seen, again) {
  const { job } = seen;
  // what has not changed is left alone: somebody may be reading or copying it
  const shown = JSON.stringify([job, seen.stages.length, seen.notes.length]);
  if (seen.shown === shown) return;
  seen.shown = shown;
  page.head.className = stateOf(job)[1];
  page.head.replaceChildren(...headOf(job, seen.stages));
  const notes = [...new Set(seen.notes)];
  page.notes.replaceChildren(
    notes.length
      ? h("ul", { class: "notes" }, notes.map((note) => h("li", {}, note)))
      : h("p", { class: "empty" }, "No notes."),
  );
  if (page.actions.dataset.state !== job.state) {
    page.actions.dataset.state = job.state;
    page.actions.replaceChildren(actionsOf(job, page.form, again));
  }
}

async function renderAtlas(place, job, signal) {
  if (job.state === "finished") return draw(place, `/v1/jobs/${job.id}/atlas`, signal);
  const told = ENDED.includes(job.state) ? "The job made no atlas." : "It is shown when every level was measured.";
  return place.replaceChildren(h("p", { class: "empty" }, told));
}

function renderAsked(page, job) {
  const pairs = Object.entries(job.request).map(([name, value]) => [
    name,
    h("code", {}, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  page.asked.replaceChildren(facts(pairs));
}
