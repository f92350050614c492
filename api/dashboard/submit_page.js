// Submitting a job: files are sent first, then the job is checked by the server's own intake.

import { ask, upload } from "./access.js";
import { h, problemBox, say } from "./dom.js";
import { jobForm, readFields, uploadRoute } from "./job_fields.js";

// A file that was sent stays sent when the job itself is refused.
const sent = new WeakMap();

export async function showSubmit(place, signal) {
  const known = await readFields(signal);
  const { main, rest } = jobForm(known);
  const progress = h("p", { class: "small", id: "sending" });
  const problem = h("div", {});
  const button = h("button", { class: "first", type: "submit" }, "Submit");

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    problem.replaceChildren();
    try {
      const asked = await askedFor([...main, ...rest], (text) => (progress.textContent = text));
      progress.textContent = "The server checks the job against the model and the data";
      say(progress.textContent);
      const job = await ask("POST", "/v1/jobs", { json: asked });
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      progress.textContent = "";
      const box = problemBox(error);
      problem.replaceChildren(box);
      box.focus();
    } finally {
      button.disabled = false;
    }
  }

  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "Submit a job"),
      h("p", { class: "lede" }, "Give a trained model, its data and a latency budget. The job is checked before it is accepted."),
      h(
        "form",
        { onsubmit: submit, class: "job-form" },
        h("div", { class: "fields" }, main.map((field) => field.element)),
        h(
          "details",
          {},
          h("summary", {}, "More"),
          h("div", { class: "fields" }, rest.map((field) => field.element)),
        ),
        problem,
        h("div", { class: "row" }, button, progress),
      ),
    ),
  );
}

async function askedFor(fields, told) {
  const asked = {};
  for (const field of fields) {
    let value = field.value();
    if (value instanceof File) value = await idOf(field.name, value, told);
    if (value !== undefined) asked[field.name] = value;
  }
  return asked;
}

async function idOf(name, file, told) {
  const before = sent.get(file);
  if (before) return before;
  const route = uploadRoute(name);
  const made = await upload(route, file, (share) => {
    told(share < 1 ? `Sends ${file.name}: ${Math.round(share * 100)} %` : `The server reads ${file.name}`);
  });
  sent.set(file, made.id);
  return made.id;
}
