// Uploads: the models and datasets that the server holds for this key, what needs each, and what is arriving.

import { allBehind, ask } from "./access.js";
import { h, prose, say, showProblem, table } from "./dom.js";
import { ago, nameOf, size, when } from "./words.js";

// What is sent in pieces is an upload that tells its kind itself.
const KINDS = { models: "model", datasets: "dataset", uploads: undefined };
const COLUMNS = [
  { title: "Upload" },
  { title: "Kind" },
  { title: "Holds" },
  { title: "Size", numeric: true },
  { title: "Uploaded" },
  { title: "Needed by" },
  { title: "" },
];

export async function showUploads(place, signal) {
  const list = h("div", {});
  const total = h("p", { class: "small" });
  const problem = h("div", {});

  async function refresh() {
    const uploads = await everyUpload(signal);
    const bytes = uploads.reduce((sum, one) => sum + one.size_bytes, 0);
    total.textContent = uploads.length ? `${uploads.length} in all, ${size(bytes)}.` : "";
    list.replaceChildren(...rendered(uploads, remove));
  }

  async function remove(upload) {
    if (!confirm(`Delete the ${upload.kind} ${nameOf(upload)}, ${size(upload.size_bytes)}?`)) return;
    problem.replaceChildren();
    try {
      await ask("DELETE", upload.path);
      await refresh();
      say(`${nameOf(upload)} was deleted.`);
      list.firstChild.focus();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  await refresh();
  const about = "Models and datasets stay on the server, so that they need not be sent twice, and count for the room that the key has. What a job or a schedule needs stays as long as that does.";
  place.replaceChildren(h("section", {}, h("h1", {}, "Uploads"), h("p", { class: "lede" }, about), total, problem, list));
}

/** Models, datasets and what is arriving, the newest first. */
async function everyUpload(signal) {
  const lists = Object.entries(KINDS).map(async ([route, kind]) => {
    const items = await allBehind(`/v1/${route}`, "", signal);
    return items.map((item) => ({ kind, needed_by: [], ...item, path: `/v1/${route}/${item.id}` }));
  });
  return (await Promise.all(lists)).flat().sort((one, other) => other.created - one.created);
}

function rendered(uploads, remove) {
  if (!uploads.length) {
    return [h("p", { class: "empty", tabindex: "-1" }, prose("No uploads yet. They come with a job that is submitted, here or with `autosparse submit`."))];
  }
  const list = table("Uploads", COLUMNS, uploads.map((upload) => rowOf(upload, remove)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(upload, remove) {
  const needs = upload.needed_by;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, nameOf(upload), upload.name && h("span", { class: "under" }, upload.id)),
    h("td", { "data-title": "Kind" }, upload.kind),
    h("td", { "data-title": "Holds" }, holdsOf(upload)),
    h("td", { "data-title": "Size", class: "n" }, size(upload.size_bytes)),
    h("td", { "data-title": "Uploaded", class: "time" }, ago(upload.created), h("span", { class: "under" }, when(upload.created))),
    h("td", { "data-title": "Needed by" }, needs.length ? needs.map(linkTo) : "nothing"),
    h(
      "td",
      {},
      !needs.length &&
        h("button", { type: "button", class: "danger", "aria-label": `Delete: ${nameOf(upload)}`, onclick: () => remove(upload) }, "Delete"),
    ),
  );
}

/** What the intake found in it, in a few words; of what is arriving, how much is there. */
function holdsOf({ kind, layers, inputs, arrays, received_bytes: received }) {
  if (received !== undefined) return `${size(received)} have arrived`;
  const parts = (kind === "model" ? inputs : arrays).map(({ name, shape }) => `${name}: ${shape.join(" \u00d7 ") || "a number"}`);
  const under = parts.length > 0 && h("span", { class: "under" }, parts.join(", "));
  return [kind === "model" ? counted(layers, "layer") : counted(arrays.length, "array"), under];
}

function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function linkTo(id) {
  const address = id.startsWith("job_") ? `#/jobs/${id}` : "#/schedules";
  return h("span", { class: "under" }, h("a", { href: address }, id));
}
