// Making a schedule: what a job did, done again whenever a clock says so.

import { ask } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, prose, say } from "./dom.js";
import { fieldOf, fill, readSchemas, readUploaded } from "./job_fields.js";
import { nameOf } from "./words.js";

const NEEDED = ["cron"];
// What is done is chosen as one thing: the kind and the request follow from it.
const CHOSEN = ["kind", "request"];
const SEARCHES = ["search", "resolve"];
const AGAIN = { search: "Search again", refresh_atlas: "Measure the atlas again", reverify: "Measure the bundle again" };

/** The form of the schedules' page; `made` is told when there is one more. */
export async function scheduleForm(signal, made) {
  const [{ ScheduleRequest: schema }, { models }, { items: jobs }] = await Promise.all([
    readSchemas(signal),
    readUploaded(signal),
    ask("GET", "/v1/jobs?state=finished&limit=200", { signal }),
  ]);
  const choices = [...jobs.filter(hasBundle).map(measured), ...models.map(measuredAtlas)];
  if (!choices.length) {
    return h("p", { class: "empty" }, "A schedule needs a finished job whose bundle it measures again, or an uploaded model for an atlas.");
  }
  const words = "A whole search is scheduled on the page of its job, or with `autosparse schedule search`.";
  return form(schema, choices, { words, name: "" }, made);
}

/** The form of a job's page. */
export async function scheduleFormOf(job, made) {
  const { ScheduleRequest: schema } = await readSchemas();
  const words = "Each run is a job of its own, with what was asked of this one.";
  return form(schema, choicesOf(job), { words, name: job.name }, made);
}

/** What a job did that can be done again. */
export function choicesOf(job) {
  const same = AGAIN[job.kind] && { words: AGAIN[job.kind], kind: job.kind, request: job.request };
  return [same, hasBundle(job) && { ...measured(job), group: undefined, words: AGAIN.reverify }].filter(Boolean);
}

function hasBundle({ state, verdict, kind }) {
  return state === "finished" && Boolean(verdict) && SEARCHES.includes(kind);
}

function measured(job) {
  return { group: AGAIN.reverify, words: nameOf(job), kind: "reverify", request: { job: job.id } };
}

function measuredAtlas(model) {
  return { group: "Measure an atlas", words: nameOf(model), kind: "refresh_atlas", request: { model: model.id } };
}

function form({ properties }, choices, { words, name }, made) {
  const what = chosenFrom(choices);
  const fields = Object.keys(properties)
    .filter((field) => !CHOSEN.includes(field))
    .map((field) => fieldOf(field, properties[field], NEEDED.includes(field)));
  const usual = { name, time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone };
  for (const field of fields) fill(field.control, usual[field.name]);
  const problem = h("div", {});

  async function submit(event) {
    event.preventDefault();
    calm(fields, problem);
    const { kind, request } = choices[Number(what.value)];
    const given = fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined);
    try {
      const schedule = await ask("POST", "/v1/schedules", { json: { ...Object.fromEntries(given), kind, request } });
      await made();
      say(`${schedule.name || schedule.id} was made.`);
      what.focus();
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  const choice = h("div", { class: "field" }, h("label", { for: "what" }, "What is done"), what, h("p", { class: "small" }, prose(words)));
  return h(
    "form",
    { onsubmit: submit, class: "job-form" },
    h("div", { class: "fields" }, choice, fields.map((field) => field.element)),
    problem,
    h("button", { class: "first", type: "submit" }, "Make"),
  );
}

function chosenFrom(choices) {
  const groups = [...new Set(choices.map(({ group }) => group))];
  const options = (group) =>
    choices.flatMap((choice, at) => (choice.group === group ? [h("option", { value: String(at) }, choice.words)] : []));
  const parts = groups.flatMap((group) => (group ? [h("optgroup", { label: group }, options(group))] : options(group)));
  return h("select", { id: "what" }, parts);
}
