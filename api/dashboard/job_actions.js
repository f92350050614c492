// What can be done with a job: stop it, let it go on, ask something else of it, change it, remove it.

import { ask } from "./access.js";
import { showChanges } from "./changes.js";
import { calm, complain } from "./complaints.js";
import { h, showProblem } from "./dom.js";
import { fill, jobForm, readSchemas } from "./job_fields.js";
import { choicesOf, scheduleFormOf } from "./schedule_form.js";
import { ENDED, nameOf } from "./words.js";

const SEARCHES = ["search", "resolve"];
// Of the rest, what was asked of the search is no wish of the answer from it.
const CONTRACT = ["latency_budget", "max_drop", "percentile", "strict"];

/**
 * Buttons for the state that a job is in; `again` is told when it goes on. What they ask is asked
 * in `form`, which outlives them: a job that begins to run takes nobody's words away.
 */
export function actionsOf(job, form, again) {
  const problem = h("div", {});

  async function tried(work) {
    problem.replaceChildren();
    try {
      await work();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  const tasks = tasksOf(job, form, again);
  const buttons = tasks.map(([words, kind, work]) =>
    h("button", { type: "button", class: kind, "data-mark": `task ${words}`, onclick: () => tried(work) }, words),
  );
  return h("div", {}, h("div", { class: "row" }, buttons), problem);
}

/** Words, kind and work of every button. */
function tasksOf(job, form, again) {
  const path = `/v1/jobs/${job.id}`;
  const cancel = ["Cancel", "danger", () => ask("POST", `${path}:cancel`)];
  const change = ["Change", null, () => showChanges(form, path, "JobChanges", again)];
  const schedule = choicesOf(job).length > 0 && ["Schedule", null, () => showSchedule(form, job)];
  const always = [change, schedule].filter(Boolean);
  if (job.state === "cancelling") return always;
  if (!ENDED.includes(job.state)) return [cancel, ...always];
  return [...goingOn(job, path, form, again), ...always, ["Delete", "danger", () => remove(job, path)]];
}

function goingOn(job, path, form, again) {
  const asksAnew = (words, kind, about) => [words, kind, () => showForm(form, job, again, about)];
  const further = {
    schema: "ResumeRequest", path: `${path}:resume`, button: "Go on", keeps: () => true,
    told: "The job goes on where it was: what was measured counts.",
  };
  const other = {
    schema: "ResolveRequest", path: `${path}:resolve`, button: "Ask", keeps: (name) => CONTRACT.includes(name),
    told: "A new job answers from what this one measured, within minutes. This one stays as it is.",
  };
  const finished = job.state === "finished";
  if (finished && SEARCHES.includes(job.kind)) {
    return [
      asksAnew("Ask for another budget", "first", other),
      ...(job.kind === "search" ? [asksAnew("Search further", null, further)] : []),
      ["Measure the bundle again", null, () => begin(`${path}:reverify`, {})],
    ];
  }
  if (finished) return [["Measure again", "first", () => measureAgain(job)]];
  if (job.kind === "search") return [asksAnew("Resume", "first", further)];
  return [["Resume", "first", () => ask("POST", `${path}:resume`, { json: {} }).then(again)]];
}

function measureAgain({ kind, request }) {
  if (kind === "refresh_atlas") return begin("/v1/atlases", request);
  const { tolerance } = request;
  return begin(`/v1/jobs/${request.job}:reverify`, tolerance === undefined ? {} : { tolerance });
}

/** Make another job, and show it. */
async function begin(path, asked) {
  const made = await ask("POST", path, { json: asked });
  location.hash = `#/jobs/${made.id}`;
}

async function showSchedule(place, job) {
  const form = await scheduleFormOf(job, () => (location.hash = "#/schedules"));
  place.replaceChildren(form);
  form.querySelector("select").focus();
}

async function remove(job, path) {
  if (!confirm(`Remove ${nameOf(job)} and everything that it delivered?`)) return;
  await ask("DELETE", path);
  location.hash = "#/";
}

/** What may be asked of a job that is over; what is left empty stays as it was. */
async function showForm(place, job, again, { schema, keeps, path, button, told }) {
  const { main, rest } = jobForm((await readSchemas())[schema], {});
  const fields = [...main, ...rest];
  for (const field of fields) {
    if (keeps(field.name)) fill(field.control, job.request[field.name]);
  }
  const problem = h("div", {});

  async function submit(event) {
    event.preventDefault();
    calm(fields, problem);
    const given = fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined);
    try {
      const made = await ask("POST", path, { json: Object.fromEntries(given) });
      place.replaceChildren();
      if (made.id === job.id) again();
      else location.hash = `#/jobs/${made.id}`;
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  const grid = (list) => h("div", { class: "fields" }, list.map((field) => field.element));
  place.replaceChildren(
    h(
      "form",
      { onsubmit: submit, class: "job-form" },
      h("p", { class: "small" }, told),
      grid(main),
      h("details", {}, h("summary", {}, "More"), grid(rest)),
      problem,
      h("div", { class: "row" }, h("button", { class: "first", type: "submit" }, button)),
    ),
  );
  fields[0].control.focus();
}
