// Making a schedule: a bundle that is measured again, or an atlas, whenever a clock says so.

import { ask } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, prose, say } from "./dom.js";
import { fieldOf, readSchemas, readUploaded } from "./job_fields.js";
import { nameOf } from "./words.js";

const NEEDED = ["cron"];
// What is done is chosen as one thing, a job or a model: the kind and the request follow from it.
const CHOSEN = ["kind", "request"];

/** The form; `made` is told when there is one more. */
export async function scheduleForm(signal, made) {
  const [schemas, { models }, { items: jobs }] = await Promise.all([
    readSchemas(signal),
    readUploaded(signal),
    ask("GET", "/v1/jobs?state=finished&limit=200", { signal }),
  ]);
  const bundles = jobs.filter((job) => job.verdict && ["search", "resolve"].includes(job.kind));
  if (!bundles.length && !models.length) {
    return h("p", { class: "empty" }, "A schedule needs a finished job whose bundle it measures again, or an uploaded model for an atlas.");
  }
  const what = chosenFrom(bundles, models);
  const { properties } = schemas.ScheduleRequest;
  const fields = Object.keys(properties)
    .filter((name) => !CHOSEN.includes(name))
    .map((name) => fieldOf(name, properties[name], NEEDED.includes(name)));
  fields.find(({ name }) => name === "time_zone").control.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return form(what, fields, made);
}

function form(what, fields, made) {
  const problem = h("div", {});

  async function submit(event) {
    event.preventDefault();
    calm(fields, problem);
    const [kind, key, id] = what.value.split(" ");
    const given = fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined);
    try {
      const asked = { ...Object.fromEntries(given), kind, request: { [key]: id } };
      const schedule = await ask("POST", "/v1/schedules", { json: asked });
      await made();
      say(`${schedule.name || schedule.id} was made.`);
      what.focus();
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  const words = "Schedules of a whole search are made with `autosparse schedule search`.";
  return h(
    "form",
    { onsubmit: submit, class: "job-form" },
    h(
      "div",
      { class: "fields" },
      h("div", { class: "field" }, h("label", { for: "what" }, "What is done"), what, h("p", { class: "small" }, prose(words))),
      fields.map((field) => field.element),
    ),
    problem,
    h("button", { class: "first", type: "submit" }, "Make"),
  );
}

function chosenFrom(bundles, models) {
  const group = (label, kind, key, items, name) =>
    items.length > 0 &&
    h("optgroup", { label }, items.map((item) => h("option", { value: `${kind} ${key} ${item.id}` }, name(item))));
  return h(
    "select",
    { id: "what" },
    group("Measure the bundle again", "reverify", "job", bundles, nameOf),
    group("Measure an atlas", "refresh_atlas", "model", models, (model) => model.name || model.id),
  );
}
