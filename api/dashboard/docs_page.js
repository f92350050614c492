// The API, as it describes itself: every request, what it takes, and what it answers.

import { ask } from "./access.js";
import { h, prose, table } from "./dom.js";

const TAKES = [{ title: "Name" }, { title: "Kind" }, { title: "What it is" }];
const ANSWERS = [{ title: "Status", numeric: true }, { title: "When" }];

export async function showDocs(place, signal) {
  const whole = await ask("GET", "/openapi.json", { signal });
  const groups = groupsOf(whole);
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "The API"),
      paragraphs(whole.info.description),
      h("p", { class: "small" }, `Version ${whole.info.version}. The same for programs: `, h("a", { href: "/openapi.json" }, "/openapi.json")),
    ),
    ...[...groups].map(([tag, requests]) => h("section", {}, h("h2", {}, tag), requests)),
    h("section", {}, h("h2", {}, "Problems"), problemsOf(whole)),
  );
}

function groupsOf(whole) {
  const groups = new Map();
  for (const [path, item] of Object.entries(whole.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), requestOf(method.toUpperCase(), path, operation, whole)]);
    }
  }
  return groups;
}

/** What any request may answer instead: each says it, and all say the same. */
function problemsOf(whole) {
  const told = new Map();
  for (const operation of Object.values(whole.paths).flatMap(Object.values)) {
    for (const [status, { description }] of Object.entries(operation.responses)) {
      if (!status.startsWith("2")) told.set(status, description);
    }
  }
  const rows = [...told].sort().map(([status, words]) => h("tr", {}, h("td", { class: "n" }, status), h("td", {}, prose(words))));
  return table("What any request may answer instead", ANSWERS, rows);
}

function requestOf(method, path, operation, whole) {
  const [media, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const schema = media === "application/json" && resolved(body.schema, whole);
  const words = operation.description ?? "";
  const first = words.split(/(?<=\.)\s/)[0];
  const takes = [...(operation.parameters ?? []).map((one) => parameterOf(one, whole)), ...fieldsOf(schema, whole)];
  return h(
    "details",
    { class: "request" },
    h("summary", {}, h("code", {}, `${method} ${path}`), ` ${first}`),
    paragraphs(words.slice(first.length)),
    media && !schema && h("p", {}, "The body is the file itself."),
    takes.length > 0 && stacked(table(`What ${method} ${path} takes`, TAKES, takes)),
    example("For example", schema && exampleOf(schema)),
    example(`Answers ${goodOf(operation).map(([status]) => status).join(" or ")}`, answered(operation, whole)),
  );
}

/** One below the other where the screen is narrow: the words come last, and are what one looks for. */
function stacked(list) {
  list.classList.add("stacked");
  return list;
}

function parameterOf({ name, in: where, required, schema, description }, whole) {
  const words = [{ path: "Part of the path.", header: "A header." }[where], description].filter(Boolean).join(" ");
  return rowOf(name, required && where !== "path", schema, words, whole);
}

function fieldsOf(schema, whole) {
  const { properties = {}, required = [] } = schema || {};
  return Object.entries(properties).map(([name, field]) =>
    rowOf(name, required.includes(name), field, field.description ?? "", whole),
  );
}

function rowOf(name, isRequired, schema, words, whole) {
  const fallback = schema.default ?? null;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, name), isRequired && " (required)"),
    h("td", { "data-title": "Kind" }, kindOf(schema, whole), fallback !== null && fallback !== "" && `; else ${JSON.stringify(fallback)}`),
    h("td", {}, prose(words)),
  );
}

/** What a value may be, in words. */
function kindOf(schema, whole) {
  const found = resolved(schema, whole);
  if (found.enum) return found.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.anyOf) return [...new Set(found.anyOf.map((one) => kindOf(one, whole)))].join(" or ");
  if (found.type === "array") return `list of ${kindOf(found.items ?? {}, whole)}`;
  return found.type ?? "anything";
}

/** A schema itself, where another place is named in its stead, or it may be left out. */
function resolved(schema, whole) {
  if (schema.$ref) {
    const parts = schema.$ref.slice(2).split("/");
    return resolved(parts.reduce((place, part) => place[part], whole), whole);
  }
  const choices = (schema.anyOf ?? []).filter((one) => one.type !== "null");
  return schema.properties || choices.length !== 1 ? schema : { ...resolved(choices[0], whole), ...rest(schema) };
}

function rest({ description, default: fallback }) {
  return { ...(description && { description }), ...(fallback != null && { default: fallback }) };
}

function goodOf(operation) {
  return Object.entries(operation.responses).filter(([status]) => status.startsWith("2"));
}

function answered(operation, whole) {
  const schema = goodOf(operation)[0]?.[1].content?.["application/json"]?.schema;
  if (!schema) return null;
  const found = resolved(schema, whole);
  const items = found.properties?.items?.items;
  const one = items && exampleOf(resolved(items, whole));
  return one ? { items: [one], next: null } : exampleOf(found);
}

function exampleOf(schema) {
  return schema.examples?.[0] ?? null;
}

function example(title, value) {
  return value && [h("h3", {}, title), h("pre", { tabindex: "0", "aria-label": title }, h("code", {}, JSON.stringify(value, null, 2)))];
}

function paragraphs(text) {
  const parts = text.split(/\n\s*\n/).map((part) => part.trim());
  return parts.filter(Boolean).map((part) => h("p", {}, prose(part)));
}
