// A form that makes a job: its files are sent first, then the server checks what is asked.

import { ask, upload } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, say } from "./dom.js";
import { uploadRoute } from "./job_fields.js";

// A file that was sent stays sent when the job itself is refused.
const sent = new WeakMap();

/** The form; what it makes is shown once it is accepted. */
export function submissionForm({ main, rest }, path, words) {
  const fields = [...main, ...rest];
  const progress = h("p", { class: "small" });
  const problem = h("div", {});
  const button = h("button", { class: "first", type: "submit" }, words);

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    calm(fields, problem);
    try {
      const asked = await askedFor(fields, (text) => (progress.textContent = text));
      progress.textContent = "The server checks what is asked";
      say(progress.textContent);
      const job = await ask("POST", path, { json: asked });
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      progress.textContent = "";
      complain(fields, problem, error);
    } finally {
      button.disabled = false;
    }
  }

  return h(
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
  try {
    const made = await upload(uploadRoute(name), file, (share) => {
      told(share < 1 ? `Sends ${file.name}: ${Math.round(share * 100)} %` : `The server reads ${file.name}`);
    });
    sent.set(file, made.id);
    return made.id;
  } catch (error) {
    error.field = name;
    throw error;
  }
}
