// The top of a job's page: its state, where it is, and what it came to.

import { h, problemBox, table } from "./dom.js";
import { ENDED, askedOf, drop, milliseconds, nameOf, share, stateOf, when, whereIs } from "./words.js";

const OFFER_COLUMNS = [
  { title: "Recipe" },
  { title: "Latency", numeric: true },
  { title: "Of the baseline", numeric: true },
  { title: "Drop", numeric: true },
];

/** Everything above the sections. */
export function headOf(job, stages) {
  const [words] = stateOf(job);
  const ended = ENDED.includes(job.state);
  return [
    h("p", { class: "pill" }, words),
    h("h1", { tabindex: "-1" }, nameOf(job)),
    h(
      "p",
      { class: "facts" },
      job.name && h("span", {}, job.id),
      h("span", {}, askedOf(job)),
      job.request.job && h("span", {}, "of ", h("a", { href: `#/jobs/${job.request.job}` }, job.request.job)),
      h("span", {}, `submitted ${when(job.created)}`),
      job.started && h("span", {}, `begun ${when(job.started)}`),
      ended && job.finished && h("span", {}, `ended ${when(job.finished)}`),
      job.priority !== 0 && h("span", {}, `priority ${job.priority}`),
      job.kept && h("span", {}, "kept"),
      job.attempts > 1 && h("span", {}, `attempt ${job.attempts}`),
    ),
    job.manifest?.simulated && h("p", { class: "remark" }, "SIMULATED: every latency of this job comes from a model of the device, none was measured."),
    !ended && progressOf(job),
    job.problem && problemBox(job.problem),
    figuresOf(job, ended),
    offersOf(job),
    stagesOf(stages, ended),
  ].filter(Boolean);
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

function figuresOf(job, ended) {
  if (job.kind === "refresh_atlas") return job.outcome && h("p", { class: "lede" }, job.outcome.summary);
  if (job.kind === "reverify") return job.outcome && measuredAgain(job.outcome);
  if (job.manifest?.latency) return delivered(job.manifest, job.best);
  if (job.best) return bestSoFar(job.best);
  const told = ended ? "No trial met the contract." : "No trial meets the contract yet.";
  return job.state !== "queued" && h("p", { class: "lede" }, told);
}

function figures(list) {
  return h(
    "dl",
    { class: "figures" },
    list.map(([label, value, beside]) =>
      h("div", {}, h("dt", {}, label), h("dd", { class: "number" }, value), h("dd", { class: "beside" }, beside)),
    ),
  );
}

function bestSoFar(best) {
  return figures([
    ["Best latency", milliseconds(best.latency_seconds), `baseline ${milliseconds(best.baseline_seconds)}`],
    ["Of the baseline", share(best.latency_ratio), `up to ${share(best.latency_ratio_high)}`],
    ["Drop", drop(best.drop), `up to ${drop(best.drop_high)}, in the metric's unit`],
    ["Compressed layers", String(best.compressed_layers), `recipe ${best.recipe_id}`],
  ]);
}

/** What was verified, which is not what the search measured: other rows, another process. */
function delivered({ contract, latency, quality, recipe_id }, best) {
  const at = contract.percentile;
  const { low, high } = latency.ratio_interval;
  const drops = quality.drop_interval;
  const layers = best?.recipe_id === recipe_id ? `, ${best.compressed_layers} compressed layers` : "";
  return figures([
    [`Delivered latency (${at})`, milliseconds(latency[at]), `baseline ${milliseconds(latency[`baseline_${at}`])}`],
    ["Of the baseline", share(latency.ratio), `${share(low)} to ${share(high)}`],
    [`Drop of ${quality.metric}`, drop(quality.drop), `${drop(drops.low)} to ${drop(drops.high)}`],
    ["Recipe", recipe_id, `verified on ${quality.rows} rows${layers}`],
  ]);
}

function measuredAgain(found) {
  const worse = found.regressions ?? [];
  return h(
    "div",
    {},
    figures([
      ["Latency now", milliseconds(found.latency_seconds), `baseline ${milliseconds(found.baseline_seconds)}`],
      ["Of the baseline", share(found.latency_ratio), `delivered with ${share(found.delivered?.latency_ratio)}`],
      ["Drop", drop(found.drop), `delivered with ${drop(found.delivered?.drop)}`],
      ["Recipe", found.recipe_id, found.holds ? "the contract holds" : "the contract does not hold"],
    ]),
    worse.length
      ? h("ul", { class: "notes" }, worse.map((told) => h("li", { class: "no" }, String(told))))
      : h("p", { class: "lede" }, "It is no worse than when it was delivered."),
  );
}

/** What could be had instead, where the contract was not met. */
function offersOf({ manifest, verdict }) {
  const offers = manifest?.offers ?? [];
  if (!offers.length || verdict === "met" || verdict === "simulated") return null;
  const rows = offers.map((offer) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("code", {}, offer.recipe_id)),
      h("td", { class: "n" }, milliseconds(offer.latency_seconds)),
      h("td", { class: "n" }, share(offer.latency_ratio)),
      h("td", { class: "n" }, drop(offer.drop)),
    ),
  );
  return h("div", {}, h("h2", {}, "What could be had"), table("What could be had", OFFER_COLUMNS, rows));
}

/** Stages in the order in which they were first reached; the last one is where the job is. */
function stagesOf(events, ended) {
  const names = [...new Set(events.map((event) => event.data.stage))];
  const current = ended ? null : events.at(-1)?.data.stage;
  if (!names.length) return null;
  return h(
    "ol",
    { class: "stages", "aria-label": "Stages" },
    names.map((name) =>
      h("li", { class: name === current ? "current" : "", "aria-current": name === current && "step" }, name),
    ),
  );
}
