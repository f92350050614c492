"use strict";
// Everything is readable without this script; it adds sorting, filtering, folding, copying and
// pointing at charts. Text goes in through textContent only: names come from hostile files.
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".plot").forEach(makeInteractive);
  document.querySelectorAll("button.copy").forEach(makeCopying);
  makeLayerTable();
});

// --- tables ---------------------------------------------------------------------------------

function makeSortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, headers, column));
  });
}

function sortBy(table, headers, column) {
  const header = headers[column];
  const numeric = header.classList.contains("n");
  // numbers are asked for from the largest, names from the first
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const direction = header.getAttribute("aria-sort") === first ? second : first;
  headers.forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies].map((body) => [keyOf(body.rows[0].cells[column], numeric), body]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // unknown comes last
    return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  table.append(...keyed.map(([, body]) => body));
}

function keyOf(cell, numeric) {
  if (!numeric) return cell.textContent.trim();
  const text = cell.dataset.v ?? cell.textContent;
  const value = Number.parseFloat(text);
  return Number.isNaN(value) ? null : value;
}

function makeLayerTable() {
  const table = document.getElementById("layer-table");
  if (!table) return; // another page in the report's style
  const filter = document.getElementById("layer-filter");
  const compressed = document.getElementById("layer-compressed");
  const unfold = document.getElementById("layer-unfold");
  const count = document.getElementById("layer-count");
  const bodies = [...table.tBodies];
  const words = new Map(bodies.map((body) => [body, wordsOf(body.rows[0])]));

  function refresh() {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    for (const body of bodies) {
      const matches =
        wanted.every((word) => words.get(body).includes(word)) &&
        (!compressed.checked || "compressed" in body.dataset);
      body.hidden = !matches;
      shown += matches;
    }
    const noun = bodies.length === 1 ? "layer" : "layers";
    count.textContent =
      shown === bodies.length ? `${shown} ${noun}` : `${shown} of ${bodies.length} ${noun}`;
  }

  filter.addEventListener("input", refresh);
  compressed.addEventListener("change", refresh);
  table.addEventListener("click", (event) => {
    const button = event.target.closest("button.unfold");
    if (button) setFolded(button, button.getAttribute("aria-expanded") === "true");
  });
  unfold.addEventListener("click", () => {
    const fold = unfold.getAttribute("aria-pressed") === "true";
    unfold.setAttribute("aria-pressed", String(!fold));
    unfold.textContent = fold ? "Unfold all" : "Fold all";
    table.querySelectorAll("button.unfold").forEach((button) => setFolded(button, fold));
  });
}

function wordsOf(row) {
  const titled = row.querySelector("[title]");
  return `${row.textContent} ${titled ? titled.title : ""}`.toLowerCase();
}

function setFolded(button, folded) {
  button.setAttribute("aria-expanded", String(!folded));
  document.getElementById(button.getAttribute("aria-controls")).classList.toggle("open", !folded);
}

// --- charts ---------------------------------------------------------------------------------

const REACH = 28; // pixels of the screen from which a point is picked up

function makeInteractive(plot) {
  const tips = JSON.parse(plot.querySelector("script").textContent);
  const tip = plot.querySelector(".tip");
  const live = plot.querySelector("[aria-live]");
  let current = -1;

  function drawing() {
    return [...plot.querySelectorAll("svg")].find((svg) => svg.getClientRects().length > 0);
  }

  function marksOf(svg) {
    svg.marks ??= [...svg.querySelectorAll(".marks > use")].map((mark, index) => ({
      index,
      x: Number(mark.getAttribute("x")),
      y: Number(mark.getAttribute("y")),
    }));
    return svg.marks;
  }

  function show(svg, mark, speak) {
    current = mark.index;
    const cursor = svg.querySelector(".cursor");
    cursor.setAttribute("cx", mark.x);
    cursor.setAttribute("cy", mark.y);
    const same = marksOf(svg).filter((other) => other.x === mark.x && other.y === mark.y).length;
    const lines = tips[mark.index].concat(same > 1 ? [`and ${same - 1} more at the same place`] : []);
    tip.replaceChildren(
      ...lines.map((line, index) => {
        const element = document.createElement(index ? "span" : "b");
        element.textContent = line;
        return element;
      }),
    );
    tip.hidden = false;
    const box = svg.getBoundingClientRect();
    const outer = plot.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = mark.x * scale + box.left - outer.left;
    const y = mark.y * scale + box.top - outer.top;
    const left = x + tip.offsetWidth + 16 > outer.width ? x - tip.offsetWidth - 14 : x + 14;
    tip.style.left = `${Math.max(0, Math.min(left, outer.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, Math.min(y - 20, outer.height - tip.offsetHeight))}px`;
    if (speak) live.textContent = lines.join(", ");
  }

  function hide() {
    tip.hidden = true;
    plot.querySelectorAll(".cursor").forEach((cursor) => cursor.setAttribute("cx", -50));
  }

  function point(event) {
    const svg = drawing();
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const y = (event.clientY - box.top) / scale;
    let nearest = null;
    let least = REACH / scale;
    for (const mark of marksOf(svg)) {
      const distance = Math.hypot(mark.x - x, mark.y - y);
      // of equals the last drawn wins: it is the one on top
      if (distance <= least) [nearest, least] = [mark, distance];
    }
    if (nearest) show(svg, nearest, false);
    else hide();
  }

  function walk(event) {
    if (event.key === "Escape") return hide();
    const svg = drawing();
    const order = [...marksOf(svg)].sort((a, b) => a.x - b.x || a.y - b.y || a.index - b.index);
    if (!order.length) return;
    const at = order.findIndex((mark) => mark.index === current);
    const next = {
      ArrowRight: at + 1, ArrowDown: at + 1,
      ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: 0, End: order.length - 1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(svg, order[Math.max(0, Math.min(next, order.length - 1))], true);
  }

  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("keydown", walk);
  plot.addEventListener("blur", hide);
}

// --- copying --------------------------------------------------------------------------------

function makeCopying(button) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(code)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // a page that was opened from a disk may not write to the clipboard: select the text instead
    getSelection().selectAllChildren(code);
    return false;
  }
}
