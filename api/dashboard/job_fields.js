// Fields of a job as the API's document describes them: there is no second list of them here.

import { ask } from "./access.js";
import { h, prose } from "./dom.js";

const UPLOADS = {
  model: "models", calibration: "datasets", validation: "datasets", train: "datasets",
  test: "datasets", target: "targets",
};
const MAIN = ["name", "model", "calibration", "validation", "latency_budget", "max_drop", "target"];
const SHOWN_FIRST = { latency_budget: "60%" };
const SHAPES = ["input_shape", "input_shapes"];
const SPELLED = { url: "URL" };
const LONGEST = 2000;

/** What every kind of request may hold. */
export async function readSchemas(signal) {
  const { components } = await ask("GET", "/openapi.json", { signal });
  return components.schemas;
}

/** What was uploaded before, by the route that lists it. */
export async function readUploaded(signal) {
  const kinds = ["models", "datasets", "targets"];
  const pages = kinds.map((kind) => ask("GET", `/v1/${kind}?limit=200`, { signal }));
  return Object.fromEntries((await Promise.all(pages)).map(({ items }, at) => [kinds[at], items]));
}

/** A form's parts: what is always asked, and the rest. */
export function jobForm(schema, uploaded) {
  const required = new Set(schema.required);
  const names = Object.keys(schema.properties);
  const field = (name) => fieldOf(name, schema.properties[name], required.has(name), uploaded);
  return {
    main: MAIN.filter((name) => names.includes(name)).map(field),
    rest: names.filter((name) => !MAIN.includes(name)).map(field),
  };
}

/** One field with its label, its words, and a place for what is wrong with it; `scope` begins its ids. */
export function fieldOf(name, schema, required, uploaded = {}, scope = "") {
  const at = `${scope}${name}`;
  const words = schema.description?.replace(/^Id of an? \w+\. /, "");
  const described = words ? `wrong-${at} words-${at}` : `wrong-${at}`;
  const shared = { id: `field-${at}`, "aria-describedby": described, required };
  const input = name in UPLOADS ? null : inputOf(name, plain(schema), shared);
  const control = input ?? uploadOf(name, shared, uploaded[UPLOADS[name]] ?? []);
  const wrong = h("p", { class: "small wrong", id: `wrong-${at}`, hidden: true });
  const element = h(
    "div",
    { class: "field" },
    h("label", { for: `field-${at}` }, title(name), required && h("span", { class: "needed" }, " needed")),
    control,
    wrong,
    words && h("p", { class: "small", id: `words-${at}` }, prose(words)),
  );
  return {
    name,
    control,
    element,
    value: () => valueOf(name, plain(schema), control),
    complain: (text) => {
      wrong.textContent = text;
      wrong.hidden = !text;
      const asked = control.id === shared.id ? control : control.querySelector(`#${shared.id}`);
      asked.setAttribute("aria-invalid", String(Boolean(text)));
      if (text) asked.focus();
    },
  };
}

/** Show what was asked before; nothing where there was nothing. */
export function fill(control, before) {
  if (before === undefined) return;
  if (control.type === "checkbox") control.checked = before === true;
  else control.value = String(before);
}

/** Where a file goes to, and whether it is chosen from the disk. */
export function uploadRoute(name) {
  return `/v1/${UPLOADS[name]}`;
}

function title(name) {
  if (name in SPELLED) return SPELLED[name];
  const spaced = name.replaceAll("_", " ");
  return spaced[0].toUpperCase() + spaced.slice(1);
}

/** What may be left out is a choice of nothing, too: the form has that in what is left empty. */
function plain(schema) {
  const kinds = schema.anyOf?.filter(({ type }) => type !== "null") ?? [];
  const chosen = kinds.find(({ enum: values }) => values) ?? (kinds.length === 1 ? kinds[0] : null);
  return chosen ? { ...schema, ...chosen } : schema;
}

function inputOf(name, schema, shared) {
  if (schema.enum) {
    const usual = schema.default ?? "";
    const options = schema.enum.map((value) => h("option", { value, selected: value === usual }, value));
    const none = !schema.default && h("option", { value: "" }, "not given");
    return h("select", shared, none, options);
  }
  if (schema.type === "boolean") return h("input", { ...shared, type: "checkbox" });
  if (schema.type === "array") return h("textarea", { ...shared, rows: "2", placeholder: "one per line" });
  const usual = ["string", "number"].includes(typeof schema.default) ? String(schema.default) : "";
  if (schema.type === "integer") {
    return h("input", { ...shared, type: "number", step: "1", min: schema.minimum, max: schema.maximum, placeholder: usual });
  }
  const shown = SHAPES.includes(name) ? "name=1,128" : usual;
  return h("input", { ...shared, type: "text", placeholder: shown, value: shared.required && SHOWN_FIRST[name], maxlength: schema.maxLength ?? LONGEST, autocomplete: "off" });
}

/** A file of this machine, or something that was uploaded before. */
function uploadOf(name, shared, before) {
  const of = name === "target" ? shared : { "aria-label": `${title(name)}: uploaded before` };
  const choice = h(
    "select",
    of,
    h("option", { value: "" }, name === "target" ? "this server's own" : "a file of this machine"),
    before.map((item) => h("option", { value: item.id }, `${item.name || item.id}`)),
  );
  if (name === "target") return h("div", { class: "upload" }, choice);
  const file = h("input", { ...shared, type: "file", accept: name === "model" ? ".onnx,.zip" : ".npz" });
  choice.addEventListener("change", () => {
    file.hidden = Boolean(choice.value);
    file.required = shared.required && !choice.value;
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
  if (SHAPES.includes(name)) return shapesOf(text);
  if (schema.type === "array") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  return schema.type === "integer" ? Number(text) : text;
}

/** `ids=1,128 mask=1,128` as the sizes of each input. */
function shapesOf(text) {
  const parts = text.split(/\s+/).map((part) => part.split("="));
  return Object.fromEntries(parts.map(([name, sizes = ""]) => [name, sizes.split(",").map(Number)]));
}
