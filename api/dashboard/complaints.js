// What the server has against a form, shown at the field that it is about.

import { say, showProblem } from "./dom.js";

// What may stand before the name of the field.
const PLACE = /^(the target: )?(--|the )?/;
// What the server calls a value that it cannot read, and the field that takes such a value.
const NAMED = {
  "latency budget": "latency_budget", "allowed drop": "max_drop", level: "levels", pattern: "levels",
  "cron expression": "cron",
};

/** Forget what was wrong the last time. */
export function calm(fields, place) {
  for (const field of fields) field.complain("");
  place.replaceChildren();
}

/** Say what is wrong: at its field, or in `place` where it is about none of them. */
export function complain(fields, place, problem) {
  const field = fieldMeant(fields, problem);
  if (!field) {
    showProblem(place, problem);
    return;
  }
  const fold = field.element.closest("details");
  if (fold) fold.open = true;
  const words = [wordsAt(field, problem.detail), problem.hint].filter(Boolean).join(" \u2013 ");
  field.complain(words);
  say(words);
}

/** What is wrong, without the field's name: it stands above it. */
function wordsAt({ name }, detail) {
  const said = detail.replace(PLACE, "");
  return said.replaceAll("-", "_").startsWith(`${name}: `) ? said.slice(name.length + 2) : detail;
}

/**
 * The server's sentences begin with the field that they are about, however it is spelled there:
 * `the target: threads: ...`, `--batch-size: ...`, `the calibration file has ...`. Of what cannot
 * be read, they tell what it is none of: `'x' is no latency budget`.
 */
function fieldMeant(fields, { detail, field }) {
  if (field) return fields.find(({ name }) => name === field);
  const text = detail.replace(PLACE, "").replaceAll("-", "_");
  const unread = / is no (.+)$/.exec(detail)?.[1] ?? "";
  const named = Object.keys(NAMED).find((words) => unread.startsWith(words));
  return (
    fields.find(({ name }) => text.startsWith(name) && !/\w/.test(text[name.length] ?? "")) ??
    fields.find(({ name }) => name === NAMED[named])
  );
}
