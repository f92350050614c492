// Schedules as the server lists them: what it tells of each, without knowing its fields.

import { ask } from "./access.js";
import { h, prose, table } from "./dom.js";
import { when } from "./words.js";

const MOST_COLUMNS = 7;
const EARLIEST_TIME = 1e9; // no count is so large, and no time is smaller

export async function showSchedules(place, signal) {
  const { items } = await ask("GET", "/v1/schedules", { signal });
  const names = [...new Set(items.flatMap((item) => Object.keys(item).filter((name) => isPlain(item[name]))))];
  const columns = names.slice(0, MOST_COLUMNS);
  const rows = items.map((item) =>
    h("tr", {}, columns.map((name) => h("td", { "data-title": words(name) }, told(item[name])))),
  );
  const list = items.length
    ? table("Schedules", columns.map((name) => ({ title: words(name) })), rows)
    : h("p", { class: "empty" }, prose("No schedules yet. Make one with `autosparse schedule`."));
  list.classList.add("stacked");
  place.replaceChildren(h("section", {}, h("h1", {}, "Schedules"), list));
}

function isPlain(value) {
  return ["string", "number", "boolean"].includes(typeof value);
}

function words(name) {
  const spaced = name.replaceAll("_", " ");
  return spaced[0].toUpperCase() + spaced.slice(1);
}

function told(value) {
  if (value === undefined || value === null) return "\u2013";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" && value > EARLIEST_TIME ? when(value) : String(value);
}
