// What may be changed of something that is there: a form that shows it as it is, and sends what is different.

import { ask } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, say } from "./dom.js";
import { wayBackTo } from "./fresh.js";
import { fieldOf, fill, readSchemas } from "./job_fields.js";

/** Show the form for a `kind` of changes; `told` is told when something was changed. */
export async function showChanges(place, path, kind, told) {
  const goBack = wayBackTo(document.activeElement);
  const [schemas, before] = await Promise.all([readSchemas(), ask("GET", path)]);
  const fields = Object.entries(schemas[kind].properties).map(([name, schema]) => fieldWith(name, schema, before[name]));
  const problem = h("div", {});

  function close() {
    place.replaceChildren();
    goBack();
  }

  async function save(event) {
    event.preventDefault();
    calm(fields, problem);
    const now = fields.map(({ name, control }) => [name, givenIn(control)]);
    const changed = now.filter(([name, value]) => value !== before[name]);
    try {
      const after = await ask("PATCH", path, { json: Object.fromEntries(changed) });
      close();
      say(`${after.name || after.id} was changed.`);
      told();
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  const buttons = [
    h("button", { class: "first", type: "submit" }, "Save"),
    h("button", { type: "button", onclick: close }, "Close"),
  ];
  place.replaceChildren(
    h(
      "form",
      { onsubmit: save, class: "job-form", "aria-label": `Change ${before.name || before.id}` },
      h("div", { class: "fields" }, fields.map((field) => field.element)),
      problem,
      h("div", { class: "row" }, buttons),
    ),
  );
  fields[0].control.focus();
}

/** A field that shows what is; its id is its own, since another form of the page may have such a field. */
function fieldWith(name, schema, before) {
  const field = fieldOf(name, schema, false, {}, "change-");
  const { control } = field;
  // what is there cannot become nothing
  control.querySelector("option[value='']")?.remove();
  control.required = control.type === "number";
  fill(control, before);
  return field;
}

function givenIn(control) {
  if (control.type === "checkbox") return control.checked;
  return control.type === "number" ? Number(control.value) : control.value.trim();
}
