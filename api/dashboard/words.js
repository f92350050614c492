// Numbers and times as the report spells them.

const GAP = "\u00a0";
const MINUS = "\u2212";
const UNKNOWN = "\u2013";

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const IN_WORDS = new Intl.RelativeTimeFormat("en-GB");

export const ENDED = ["finished", "failed", "cancelled"];

export function milliseconds(seconds) {
  if (!Number.isFinite(seconds)) return UNKNOWN;
  const value = seconds * 1e3;
  return `${value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3))}${GAP}ms`;
}

export function share(fraction) {
  return Number.isFinite(fraction) ? `${(fraction * 100).toFixed(1)}${GAP}%` : UNKNOWN;
}

export function drop(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  const size = String(Number(Math.abs(value).toPrecision(3)));
  return `${value < 0 ? MINUS : value > 0 ? "+" : ""}${size}`;
}

export function when(seconds) {
  if (!Number.isFinite(seconds)) return UNKNOWN;
  return new Date(seconds * 1e3).toLocaleString("en-GB", {
    day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
  });
}

/** How long ago, in the largest unit that fits. */
export function ago(seconds) {
  const passed = Math.max(Date.now() / 1e3 - seconds, 0);
  const [unit, length] = UNITS.find(([, least]) => passed >= least) ?? UNITS.at(-1);
  return IN_WORDS.format(-Math.floor(passed / length), unit);
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) {
    bytes /= 1024;
    step += 1;
  }
  return `${step && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)}${GAP}${units[step]}`;
}

export function nameOf(job) {
  return job.name || job.id;
}

/** The state, or the verdict once there is one, with the tone that it is shown in. */
export function stateOf(job) {
  const verdicts = {
    met: ["met", "good"],
    "latency-infeasible": ["latency infeasible", "warn"],
    "not-found-within-limits": ["not found within limits", "warn"],
    simulated: ["met, SIMULATED", "warn"],
  };
  if (job.outcome?.regressions?.length) return ["regression", "bad"];
  if (job.verdict) return verdicts[job.verdict] ?? [job.verdict, "warn"];
  return [job.state, { failed: "bad", cancelled: "warn", cancelling: "warn", running: "busy" }[job.state] ?? ""];
}

/** What a job is asked for, in a few words. */
export function askedOf({ kind, request }) {
  if (kind === "refresh_atlas") return "an atlas";
  if (kind === "reverify") return "its bundle measured again";
  const budget = request.latency_budget ? `budget ${request.latency_budget}` : "the same budget";
  const most = request.max_drop ?? (kind === "search" ? "1pt" : null);
  return most ? `${budget}, max_drop ${most}` : budget;
}

/** Where a job is, in a few words. */
export function whereIs(job) {
  const { progress } = job;
  if (job.state !== "running" || !progress || !progress.stage) return "";
  const steps = progress.total ? `, ${progress.done} of ${progress.total}` : "";
  return `${progress.stage}${steps}`;
}
