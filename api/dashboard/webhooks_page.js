// Webhooks: who is told what happens to the key's jobs, and whether it was.

import { ask } from "./access.js";
import { calm, complain } from "./complaints.js";
import { h, showProblem, table } from "./dom.js";
import { keeper } from "./fresh.js";
import { fieldOf, readSchemas } from "./job_fields.js";
import { showOnce } from "./once.js";
import { when } from "./words.js";

const COLUMNS = [{ title: "URL" }, { title: "Is told of" }, { title: "Made" }, { title: "" }];
const DELIVERY_COLUMNS = [
  { title: "What" },
  { title: "When" },
  { title: "State" },
  { title: "Times sent", numeric: true },
  { title: "Answer" },
];

export async function showWebhooks(place, signal) {
  const { WebhookRequest: schema } = await readSchemas(signal);
  const list = h("div", {});
  const problem = h("div", {});
  const fresh = h("div", {});
  const deliveries = h("div", {});
  const keep = keeper(list);

  async function refresh() {
    const { items } = await ask("GET", "/v1/webhooks", { signal });
    keep(items, () => rendered(items, tried));
  }

  async function tried(hook, verb) {
    problem.replaceChildren();
    try {
      if (verb === "delete") await remove(hook, deliveries);
      if (verb === "test") await ask("POST", `/v1/webhooks/${hook.id}:test`);
      if (verb !== "delete") await showDeliveries(deliveries, hook, signal);
      await refresh();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  await refresh();
  const about = "A webhook tells a URL what happens to this key's jobs: signed, and sent again until it is answered.";
  place.replaceChildren(
    h("section", {}, h("h1", {}, "Webhooks"), h("p", { class: "lede" }, about), fresh, problem, list, deliveries),
    h("section", { "aria-labelledby": "make-title" }, h("h2", { id: "make-title" }, "Make a webhook"), formOf(schema, fresh, refresh)),
  );
}

async function remove(hook, deliveries) {
  if (!confirm(`Tell ${hook.url} nothing more, and forget what it was told?`)) return;
  await ask("DELETE", `/v1/webhooks/${hook.id}`);
  deliveries.replaceChildren();
}

function rendered(hooks, tried) {
  if (!hooks.length) return [h("p", { class: "empty" }, "No webhooks yet.")];
  const list = table("Webhooks", COLUMNS, hooks.map((hook) => rowOf(hook, tried)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(hook, tried) {
  const button = (words, verb, kind) =>
    h(
      "button",
      {
        type: "button", class: kind, "data-mark": `${verb} ${hook.id}`,
        "aria-label": `${words}: ${hook.url}`, onclick: () => tried(hook, verb),
      },
      words,
    );
  const buttons = [button("Send a test", "test"), button("Deliveries", "look"), button("Remove", "delete", "danger")];
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("span", { class: "url" }, hook.url), h("span", { class: "under" }, hook.id)),
    h("td", { "data-title": "Is told of" }, hook.kinds.join(", ") || "everything"),
    h("td", { "data-title": "Made", class: "time" }, when(hook.created)),
    h("td", {}, h("div", { class: "row" }, buttons)),
  );
}

async function showDeliveries(place, hook, signal) {
  const { items } = await ask("GET", `/v1/webhooks/${hook.id}/deliveries`, { signal });
  const list = items.length
    ? table("Deliveries", DELIVERY_COLUMNS, items.map(deliveryOf))
    : h("p", { class: "empty" }, "It was told nothing yet.");
  if (items.length) list.classList.add("stacked");
  place.replaceChildren(h("h2", {}, `Deliveries to ${hook.url}`), list);
}

function deliveryOf(delivery) {
  const tone = { delivered: "good", failed: "bad" }[delivery.state];
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, delivery.kind),
    h("td", { "data-title": "When", class: "time" }, when(delivery.created)),
    h("td", { "data-title": "State", class: tone }, h("span", { class: "pill" }, delivery.state)),
    h("td", { "data-title": "Times sent", class: "n" }, delivery.attempts),
    h("td", { "data-title": "Answer" }, delivery.status ?? "\u2013", delivery.problem && h("span", { class: "under" }, delivery.problem)),
  );
}

function formOf({ properties }, fresh, refresh) {
  const fields = [
    fieldOf("url", properties.url, true),
    fieldOf("kinds", { ...properties.kinds, description: `One per line: ${properties.kinds.items.enum.join(", ")}. Empty for everything.` }, false),
  ];
  const problem = h("div", {});

  async function make(event) {
    event.preventDefault();
    calm(fields, problem);
    const given = fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined);
    try {
      const hook = await ask("POST", "/v1/webhooks", { json: Object.fromEntries(given) });
      event.target.reset();
      await refresh();
      const words = "Copy it now: it is not shown again. It signs what is sent, so that the receiver can tell that it comes from here.";
      showOnce(fresh, { title: "The new webhook's secret", words, secret: hook.secret }, fields[0].control);
    } catch (error) {
      complain(fields, problem, error);
    }
  }

  return h(
    "form",
    { onsubmit: make, class: "job-form" },
    h("div", { class: "fields" }, fields.map((field) => field.element)),
    problem,
    h("button", { class: "first", type: "submit" }, "Make"),
  );
}
