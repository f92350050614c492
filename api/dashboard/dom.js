// Building pages. Text goes in as text nodes only: names come from whoever uploaded them.

/** An element; attributes that are null, undefined or false are left out, `on...` are listeners. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

/** A table in a box that scrolls by itself where the screen is narrow. */
export function table(caption, columns, rows) {
  const heads = columns.map(({ title, numeric }) =>
    h("th", { scope: "col", class: numeric && "n" }, title),
  );
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0", "data-mark": caption },
    h(
      "table",
      {},
      h("caption", { class: "sr" }, caption),
      h("thead", {}, h("tr", {}, heads)),
      h("tbody", {}, rows),
    ),
  );
}

/** Facts as a list of names and values. */
export function facts(pairs, kind = "facts-list") {
  return h(
    "dl",
    { class: kind },
    pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** Words in which `backticks` stand for code. */
export function prose(text) {
  return text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part));
}

/** What went wrong, and what to do about it. */
export function problemBox(problem) {
  return h(
    "div",
    { class: "problem bad", role: "alert", tabindex: "-1" },
    h("p", { class: "strong" }, problem.detail || problem.title || "Something went wrong."),
    problem.hint && h("p", { class: "small" }, problem.hint),
  );
}

/** Tell screen readers something that is seen anyway. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Show what went wrong in its place, and go there. */
export function showProblem(place, problem) {
  const box = problemBox(problem);
  place.replaceChildren(box);
  box.focus();
}
