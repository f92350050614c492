// Submitting a search.

import { h } from "./dom.js";
import { jobForm, readSchemas, readUploaded } from "./job_fields.js";
import { submissionForm } from "./submission.js";

export async function showSubmit(place, signal) {
  const [schemas, uploaded] = await Promise.all([readSchemas(signal), readUploaded(signal)]);
  const form = jobForm(schemas.JobRequest, uploaded);
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "Submit a job"),
      h("p", { class: "lede" }, "Give a trained model, its data and a latency budget. The job is checked before it is accepted."),
      submissionForm(form, "/v1/jobs", "Submit"),
    ),
  );
}
