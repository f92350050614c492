// What can be done with a job: stop it, ask it anew, remove it.

import { ask } from "./access.js";
import { h, problemBox } from "./dom.js";
import { fieldOf, readFields } from "./job_fields.js";
import { ENDED, nameOf } from "./words.js";

/** Buttons for the state that a job is in; `again` is told when it goes on. */
export function actionsOf(job, again) {
  const problem = h("div", {});
  const form = h("div", {});

  async function tried(work) {
    problem.replaceChildren();
    try {
      await work();
    } catch (error) {
      problem.replaceChildren(problemBox(error));
    }
  }

  const cancel = () => tried(() => ask("POST", `/v1/jobs/${job.id}:cancel`));
  const remove = () =>
    tried(async () => {
      if (!confirm(`Remove ${nameOf(job)} and everything that it delivered?`)) return;
      await ask("DELETE", `/v1/jobs/${job.id}`);
      location.hash = "#/";
    });
  const anew = () => tried(() => showForm(form, job, again));
  const button = (words, action, kind) => h("button", { type: "button", class: kind, onclick: action }, words);
  const buttons = ENDED.includes(job.state)
    ? [
        button(job.state === "finished" ? "Ask for another budget" : "Resume", anew, "first"),
        button("Delete", remove, "danger"),
      ]
    : job.state === "cancelling"
      ? []
      : [button("Cancel", cancel, "danger")];
  return h("div", {}, h("div", { class: "row" }, buttons), form, problem);
}

/** What may be asked of a job that goes on; what is left empty stays as it was. */
async function showForm(place, job, again) {
  const { resume } = await readFields();
  const fields = Object.entries(resume.properties).map(([name, schema]) => {
    const before = job.request[name];
    return fieldOf(name, { ...schema, default: before ?? schema.default }, false);
  });
  for (const { name, control } of fields) {
    const before = job.request[name];
    if (before === undefined) continue;
    if (control.type === "checkbox") control.checked = before === true;
    else control.value = String(before);
  }
  const problem = h("div", {});

  async function submit(event) {
    event.preventDefault();
    problem.replaceChildren();
    const asked = Object.fromEntries(
      fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined),
    );
    try {
      await ask("POST", `/v1/jobs/${job.id}:resume`, { json: asked });
      place.replaceChildren();
      again();
    } catch (error) {
      problem.replaceChildren(problemBox(error));
    }
  }

  place.replaceChildren(
    h(
      "form",
      { onsubmit: submit, class: "job-form" },
      h("p", { class: "small" }, "The job goes on where it was: what was measured counts."),
      h("div", { class: "fields" }, fields.map((field) => field.element)),
      problem,
      h("button", { class: "first", type: "submit" }, "Go on"),
    ),
  );
  fields[0].control.focus();
}
