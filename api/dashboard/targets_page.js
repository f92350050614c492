// Targets: the devices that jobs are told to run for.

import { ask } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, say, showProblem, table } from "./dom.js";
import { fieldOf, readSchemas } from "./job_fields.js";
import { when } from "./words.js";

const COLUMNS = [
  { title: "Target" },
  { title: "Backend" },
  { title: "Device" },
  { title: "Threads", numeric: true },
  { title: "Batch", numeric: true },
  { title: "Input shapes" },
  { title: "Stored" },
  { title: "" },
];

const DEVICES = [
  { title: "Device" },
  { title: "Offered by" },
  { title: "Processor" },
  { title: "Cores", numeric: true },
  { title: "Libraries" },
  { title: "State" },
];

export async function showTargets(place, signal) {
  const { TargetRequest: schema } = await readSchemas(signal);
  const list = h("div", {});
  const problem = h("div", {});

  async function refresh() {
    const { items } = await ask("GET", "/v1/targets?limit=200", { signal });
    list.replaceChildren(...rendered(items, remove));
  }

  async function remove(target) {
    if (!confirm(`Remove the target ${target.name}?`)) return;
    problem.replaceChildren();
    try {
      await ask("DELETE", `/v1/targets/${target.id}`);
      await refresh();
      say(`${target.name} was removed.`);
      list.firstChild.focus();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  const { items: devices } = await ask("GET", "/v1/devices", { signal });
  await refresh();
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "Targets"),
      h(
        "p",
        { class: "lede" },
        "A target is a named device with everything fixed that a latency depends on. Without one, a job runs for this server as it is, with one thread and batch 1.",
      ),
      problem,
      list,
    ),
    h(
      "section",
      { "aria-labelledby": "add-title" },
      h("h2", { id: "add-title" }, "Add a target"),
      formOf(schema, refresh),
    ),
    h(
      "section",
      { "aria-labelledby": "devices-title" },
      h("h2", { id: "devices-title" }, "Devices"),
      h(
        "p",
        { class: "lede" },
        "What jobs measure on, one at a time. A job may name one of them; a machine offers itself with ",
        h("code", {}, "autosparse agent --join"),
        ".",
      ),
      devicesOf(devices),
    ),
  );
}

function rendered(targets, remove) {
  if (!targets.length) return [h("p", { class: "empty", tabindex: "-1" }, "No targets yet.")];
  const list = table("Targets", COLUMNS, targets.map((target) => rowOf(target, remove)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(target, remove) {
  const { document: fields } = target;
  const shapes = Object.entries(fields.input_shapes ?? {}).map(([name, sizes]) => `${name}=${sizes.join(",")}`);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, target.name, h("span", { class: "under" }, target.id)),
    h("td", { "data-title": "Backend" }, fields.backend),
    h("td", { "data-title": "Device" }, [fields.device, fields.architecture].filter(Boolean).join(", ")),
    h("td", { "data-title": "Threads", class: "n" }, fields.threads),
    h("td", { "data-title": "Batch", class: "n" }, fields.batch_size),
    h(
      "td",
      { "data-title": "Input shapes" },
      shapes.length ? shapes.map((shape) => h("code", { class: "pair-of" }, shape)) : "as in the model",
    ),
    h("td", { "data-title": "Stored", class: "time" }, when(target.created)),
    h(
      "td",
      {},
      h("button", { type: "button", class: "danger", "aria-label": `Remove: ${target.name}`, onclick: () => remove(target) }, "Remove"),
    ),
  );
}

function devicesOf(devices) {
  if (!devices.length) return h("p", { class: "empty" }, "No devices yet: none has a runner.");
  const list = table("Devices", DEVICES, devices.map(deviceRow));
  list.classList.add("stacked");
  return list;
}

function deviceRow(device) {
  const offered = device.shared ? "its agent, to every key" : "its agent, to this key";
  const libraries = Object.entries(device.libraries).map(([name, version]) => `${name} ${version}`);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, device.name, h("span", { class: "under" }, device.environment)),
    h("td", { "data-title": "Offered by" }, device.joined ? offered : "a runner of this service"),
    h("td", { "data-title": "Processor" }, [device.cpu, device.machine].filter(Boolean).join(", ")),
    h("td", { "data-title": "Cores", class: "n" }, device.cores),
    h("td", { "data-title": "Libraries" }, libraries.map((one) => h("code", { class: "pair-of" }, one))),
    h("td", { "data-title": "State" }, device.busy ? "a job runs there" : "free"),
  );
}

/** A field for everything that may be chosen; the server says what is wrong with it. */
function formOf(schema, refresh) {
  const open = Object.entries(schema.properties).filter(([, property]) => !("const" in property));
  const fields = open.map(([name, property]) => fieldOf(name, property, name === "name"));
  const problem = h("div", {});

  async function add(event) {
    event.preventDefault();
    calm(fields, problem);
    const given = fields.map((field) => [field.name, field.value()]);
    try {
      const made = await ask("POST", "/v1/targets", {
        json: Object.fromEntries(given.filter(([, value]) => value !== undefined)),
      });
      await refresh();
      event.target.reset();
      say(`${made.name} was stored.`);
      fields[0].control.focus();
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  return h(
    "form",
    { onsubmit: add, class: "job-form" },
    h("div", { class: "fields" }, fields.map((field) => field.element)),
    problem,
    h("button", { class: "first", type: "submit" }, "Add"),
  );
}
