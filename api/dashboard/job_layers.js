// Layer by layer: what every level saves, as a heat map, and what a recipe has chosen.

import { h } from "./dom.js";
import { drop, share } from "./words.js";

const SHADES = 5;
const ABOUT =
  "What each level saves of the time that a layer takes as it came, in milliseconds: attributed shares of measured latencies. They explain; what decides is the latency of whole files.";
const OF_THE_RECIPE = ["The recipe's level", "Saved (ms)"];
const MINUS = "\u2212";
const UNKNOWN = "\u2013";

/** The map in its place; `update` shows what is known now, and keeps the recipe that was chosen. */
export function layerMap(place) {
  const choice = h("select", { id: "recipe" });
  const box = h("div", {});
  let known = { layers: [], trials: [] };
  let picked = false;
  let offered = "";
  choice.addEventListener("change", () => {
    picked = true;
    box.replaceChildren(...mapOf(known, choice.value));
  });

  function offer(trials, best, words) {
    const now = JSON.stringify([trials.map((trial) => trial.recipe_id), best, words]);
    if (now === offered) return; // somebody may be choosing
    offered = now;
    const before = choice.value;
    choice.replaceChildren(...optionsOf(trials, best, words));
    const stays = picked && (!before || trials.some((trial) => trial.recipe_id === before));
    choice.value = stays ? before : (best ?? "");
  }

  return function update(layers, trials, best, words) {
    known = { layers, trials };
    if (!layers.length) {
      place.replaceChildren(h("p", { class: "empty" }, "No level was measured yet."));
      return;
    }
    offer(trials, best, words);
    if (!place.contains(box)) {
      const row = h("div", { class: "row" }, h("label", { for: "recipe" }, "Recipe"), choice);
      place.replaceChildren(h("p", { class: "lede" }, ABOUT), row, legend(), box);
    }
    if (!box.contains(document.activeElement)) box.replaceChildren(...mapOf(known, choice.value));
  };
}

function optionsOf(trials, best, words) {
  const ordered = [...trials].sort((a, b) => a.latency_ratio - b.latency_ratio);
  return [
    h("option", { value: "" }, "none"),
    ...ordered.map((trial) => {
      const told = `${trial.recipe_id}: ${share(trial.latency_ratio)}, drop ${drop(trial.drop)}`;
      return h("option", { value: trial.recipe_id }, trial.recipe_id === best ? `${told} (${words})` : told);
    }),
  ];
}

function legend() {
  const item = (kind, words) => h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), words);
  return h(
    "ul",
    { class: "legend", "aria-label": "Legend" },
    item("won-5", "saves most"),
    item("won-1", "saves little"),
    item("lost-3", "costs time"),
    item("barred", "is not eligible"),
    item("chosen", "what the recipe has"),
  );
}

function mapOf({ layers, trials }, recipe) {
  const chosen = trials.find((trial) => trial.recipe_id === recipe)?.recipe.levels;
  const columns = [...new Set(layers.flatMap((layer) => layer.levels.map((one) => optionOf(one.level))))];
  const every = layers.flatMap((layer) => layer.levels.map((one) => Math.abs(one.saved_seconds ?? 0)));
  const most = Math.max(...every);
  const spell = speller(most);
  const rows = layers.map((layer) => rowOf(layer, columns, chosen && (chosen[layer.name] ?? ""), most, spell));
  const ofRecipe = (chosen ? OF_THE_RECIPE : []).map((title) => h("th", { scope: "col" }, title));
  const caption = "What every level saves in every layer, in milliseconds";
  const map = h(
    "div",
    { class: "scroll tall", role: "region", "aria-label": caption, tabindex: "0" },
    h(
      "table",
      { class: "heat" },
      h("caption", { class: "sr" }, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Layer"), ofRecipe, columns.map(headOf))),
      h("tbody", {}, rows),
      chosen && totalOf(spell(sumOf(layers, chosen)), columns),
    ),
  );
  return [map, whyNot(layers)].filter(Boolean);
}

function totalOf(saved, columns) {
  const rest = h("td", { colspan: columns.length });
  return h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "All layers"), h("td", {}), h("td", { class: "n" }, saved), rest));
}

/** A level without the method that makes it: those that differ in it share a column. */
function optionOf(level) {
  return level.split("+")[0];
}

function headOf(option) {
  const at = option.lastIndexOf(":");
  return h("th", { scope: "col", class: "n" }, option.slice(0, at), h("span", { class: "under" }, option.slice(at + 1)));
}

function rowOf(layer, columns, chosen, most, spell) {
  const mine = chosen === undefined ? null : layer.levels.find((one) => one.level === chosen);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, layer.name),
    chosen !== undefined && h("td", {}, h("code", {}, chosen)),
    chosen !== undefined && h("td", { class: "n" }, spell(mine?.saved_seconds)),
    columns.map((option) => cellOf(layer, option, chosen, most, spell)),
  );
}

/** Of levels that differ in their method: what the recipe has, else what may be chosen. */
function cellOf(layer, option, chosen, most, spell) {
  const found = layer.levels.filter((one) => optionOf(one.level) === option);
  if (!found.length) return h("td", {});
  const taken = found.find((one) => one.level === chosen);
  const shown = taken ?? found.find((one) => one.searched) ?? found.at(-1);
  if (!shown.searched && !taken) {
    return h("td", { class: "n barred", title: shown.reason }, spell(shown.saved_seconds), h("span", { class: "sr" }, " not eligible"));
  }
  const kinds = ["n", toneOf(shown, most), taken && "chosen"].filter(Boolean).join(" ");
  return h("td", { class: kinds }, spell(shown.saved_seconds), taken && h("span", { class: "sr" }, " chosen"));
}

function toneOf({ saved_seconds: saved }, most) {
  if (!saved || !most) return "";
  const shade = Math.max(1, Math.round((Math.abs(saved) / most) * SHADES));
  return `${saved > 0 ? "won" : "lost"}-${shade}`;
}

function sumOf(layers, chosen) {
  const saved = layers.map((layer) => layer.levels.find((one) => one.level === chosen[layer.name])?.saved_seconds);
  return saved.reduce((sum, one) => sum + (one ?? 0), 0);
}

/** Milliseconds with as many decimals as the largest one needs for three digits. */
function speller(mostSeconds) {
  const whole = mostSeconds > 0 ? Math.floor(Math.log10(mostSeconds * 1e3)) + 1 : 1;
  const decimals = Math.min(Math.max(3 - whole, 0), 6);
  return (seconds) => {
    if (!Number.isFinite(seconds)) return UNKNOWN;
    const text = (seconds * 1e3).toFixed(decimals);
    return Number(text) === 0 ? "0" : text.replace("-", MINUS);
  };
}

/** Reasons with the layers that they hold for: what a cell only has room for as a dash. */
function whyNot(layers) {
  const reasons = new Map();
  for (const layer of layers) {
    for (const { level, searched, reason } of layer.levels) {
      if (searched || !reason) continue;
      const key = `${optionOf(level)}\n${reason}`;
      reasons.set(key, [...(reasons.get(key) ?? []), layer.name]);
    }
  }
  if (!reasons.size) return null;
  const items = [...reasons].map(([key, names]) => {
    const [option, reason] = key.split("\n");
    const where = names.length === 1 ? names[0] : `${names.length} layers`;
    return h("li", {}, h("code", {}, option), ` in ${where}: ${reason}`);
  });
  return h("details", {}, h("summary", {}, `Why levels are not eligible (${reasons.size})`), h("ul", { class: "notes" }, items));
}
