// Fields of a job as the API's document describes them: there is no second list of them here.

import { ask } from "./access.js";
import { h, prose } from "./dom.js";

const UPLOADS = {
  model: "models", calibration: "datasets", validation: "datasets", train: "datasets",
  test: "datasets", target: "targets",
};
const MAIN = ["name", "model", "calibration", "validation", "latency_budget", "max_drop", "target"];
const SHOWN_FIRST = { latency_budget: "60%" };
const SHAPES = "input_shape";

/** Every field's description, and what was uploaded before. */
export async function readFields(signal) {
  const [document_, ...lists] = await Promise.all([
    ask("GET", "/openapi.json", { signal }),
    ...["models", "datasets", "targets"].map((kind) => ask("GET", `/v1/${kind}?limit=200`, { signal })),
  ]);
  const { JobRequest, ResumeRequest } = document_.components.schemas;
  const [models, datasets, targets] = lists.map((page) => page.items);
  return { job: JobRequest, resume: ResumeRequest, uploaded: { models, datasets, targets } };
}

/** The form's parts: what is always asked, and the rest. */
export function jobForm({ job, uploaded }) {
  const required = new Set(job.required);
  const names = Object.keys(job.properties);
  const field = (name) => fieldOf(name, job.properties[name], required.has(name), uploaded);
  return {
    main: MAIN.filter((name) => names.includes(name)).map(field),
    rest: names.filter((name) => !MAIN.includes(name)).map(field),
  };
}

/** One field with its label and its words. */
export function fieldOf(name, schema, required, uploaded = {}) {
  const input = name in UPLOADS ? null : inputOf(name, schema, required);
  const control = input ?? uploadOf(name, required, uploaded[UPLOADS[name]] ?? []);
  const words = schema.description?.replace(/^Id of an upload\. /, "");
  return {
    name,
    control,
    element: h(
      "div",
      { class: "field" },
      h("label", { for: `field-${name}` }, title(name), required && h("span", { class: "needed" }, " needed")),
      control,
      words && h("p", { class: "small", id: `words-${name}` }, prose(words)),
    ),
    value: () => valueOf(name, schema, control),
  };
}

/** Where a file goes to, and whether it is chosen from the disk. */
export function uploadRoute(name) {
  return `/v1/${UPLOADS[name]}`;
}

function title(name) {
  const spaced = name.replaceAll("_", " ");
  return spaced[0].toUpperCase() + spaced.slice(1);
}

function inputOf(name, schema, required) {
  const shared = { id: `field-${name}`, "aria-describedby": `words-${name}`, required };
  if (schema.enum) {
    const usual = schema.default ?? "";
    const options = schema.enum.map((value) => h("option", { value, selected: value === usual }, value));
    const none = !schema.default && h("option", { value: "" }, "not given");
    return h("select", shared, none, options);
  }
  if (schema.type === "boolean") return h("input", { ...shared, type: "checkbox" });
  if (schema.type === "array") return h("textarea", { ...shared, rows: "2", placeholder: "one per line" });
  const usual = schema.default === undefined || schema.default === null ? "" : String(schema.default);
  if (schema.type === "integer") {
    return h("input", { ...shared, type: "number", step: "1", min: schema.minimum, max: schema.maximum, placeholder: usual });
  }
  return h("input", { ...shared, type: "text", placeholder: usual, value: SHOWN_FIRST[name], maxlength: "200", autocomplete: "off" });
}

/** A file of this machine, or something that was uploaded before. */
function uploadOf(name, required, before) {
  const choice = h(
    "select",
    { "aria-label": `${title(name)}: uploaded before`, id: name === "target" ? `field-${name}` : null },
    h("option", { value: "" }, name === "target" ? "this server's own" : "a file of this machine"),
    before.map((item) => h("option", { value: item.id }, `${item.name || item.id}`)),
  );
  if (name === "target") return h("div", { class: "upload" }, choice);
  const file = h("input", {
    id: `field-${name}`, type: "file", accept: name === "model" ? ".onnx,.zip" : ".npz",
    "aria-describedby": `words-${name}`, required,
  });
  choice.addEventListener("change", () => {
    file.hidden = Boolean(choice.value);
    file.required = required && !choice.value;
  });
  return h("div", { class: "upload" }, file, before.length > 0 && choice);
}

/** What is asked: undefined where nothing was given, a File where one has to be sent first. */
function valueOf(name, schema, control) {
  if (name in UPLOADS) {
    const chosen = control.querySelector("select")?.value;
    return chosen || control.querySelector("input")?.files[0];
  }
  if (schema.type === "boolean") return control.checked || undefined;
  const text = control.value.trim();
  if (!text) return undefined;
  if (name === SHAPES) return shapesOf(text);
  if (schema.type === "array") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  return schema.type === "integer" ? Number(text) : text;
}

/** `ids=1,128 mask=1,128` as the sizes of each input. */
function shapesOf(text) {
  const parts = text.split(/\s+/).map((part) => part.split("="));
  return Object.fromEntries(parts.map(([name, sizes = ""]) => [name, sizes.split(",").map(Number)]));
}
