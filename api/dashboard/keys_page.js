// Keys: who may use this server. A key is shown once, when it is made or gets another secret.

import { ask, keyring } from "./access.js";
import { h, prose, say, showProblem, table } from "./dom.js";
import { showOnce } from "./once.js";
import { when } from "./words.js";

const SCOPES = [
  ["read", "look at its own things, and download them"],
  ["submit", "upload, submit, cancel and remove its own things"],
  ["admin", "make and revoke keys, and read the server's figures; nobody else's things"],
];
const FIRST = ["read", "submit"];
const COLUMNS = [
  { title: "Key" },
  { title: "May" },
  { title: "Made" },
  { title: "State" },
  { title: "" },
];

export async function showKeys(place, signal) {
  const list = h("div", {});
  const problem = h("div", {});
  const made = h("div", {});

  async function refresh() {
    const { items } = await ask("GET", "/v1/keys", { signal });
    list.replaceChildren(...rendered(items, revoke, rotate));
  }

  async function rotate(key) {
    problem.replaceChildren();
    try {
      if (await rotated(key, made, document.getElementById("key-name"))) await refresh();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  async function revoke(key) {
    const own = isOwn(key) ? " It is the one that is used here." : "";
    if (!confirm(`Revoke the key ${nameOf(key)}? Whoever uses it is refused from now on.${own}`)) return;
    problem.replaceChildren();
    try {
      await ask("DELETE", `/v1/keys/${key.id}`);
      if (isOwn(key)) return forgetIt();
      await refresh();
      say(`${nameOf(key)} is void.`);
      list.firstChild.focus();
    } catch (error) {
      showProblem(problem, error);
    }
  }

  try {
    await refresh();
  } catch (error) {
    if (error.status !== 403) throw error;
    return place.replaceChildren(notAllowed(made, problem));
  }
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "Keys"),
      h("p", { class: "lede" }, "Everything belongs to the key that uploaded or submitted it, and other keys do not see it. What a revoked key owns stays."),
      !keyring.key && h("p", { class: "remark" }, prose("This server was started with `--no-keys`: whoever reaches it may do everything. Keys count once it is started without.")),
      made,
      problem,
      list,
    ),
    h(
      "section",
      { "aria-labelledby": "make-title" },
      h("h2", { id: "make-title" }, "Make a key"),
      formOf(async (key) => {
        const words = "Copy it now: it is not shown again, and the server keeps only its digest. Whoever has it may do what it may.";
        showOnce(made, { title: `The new key, ${nameOf(key)}`, words, secret: key.key }, document.getElementById("key-name"));
        await refresh();
      }),
    ),
  );
}

/** Another secret for the key that is used here: shown once, and used from now on. */
async function rotated(key, place, back) {
  if (!confirm(`Give the key ${nameOf(key)} another secret? The former one is void at once; what the key owns stays.`)) return false;
  const fresh = await ask("POST", `/v1/keys/${key.id}:rotate`);
  keyring.key = fresh.key;
  const words = "Copy it now: it is not shown again. It is used here from now on; whoever else used the former one needs it, too.";
  showOnce(place, { title: `The new secret of ${nameOf(fresh)}`, words, secret: fresh.key }, back);
  return true;
}

function notAllowed(made, problem) {
  const own = { id: keyring.key.split(".")[0] };
  const rotate = () => rotated(own, made, button).catch((error) => showProblem(problem, error));
  const button = h("button", { type: "button", onclick: rotate }, "Rotate this key");
  return h(
    "section",
    {},
    h("h1", {}, "Keys"),
    h("p", { class: "lede" }, prose("The key that is used here does not have the scope `admin`, so it neither sees nor manages keys.")),
    h("p", {}, prose("Forget it, above, and use one that has it. Whoever has none makes one at the server with `autosparse serve --new-key`.")),
    made,
    problem,
    h("div", { class: "row" }, button),
  );
}

function rendered(keys, revoke, rotate) {
  if (!keys.length) return [h("p", { class: "empty", tabindex: "-1" }, "No keys yet.")];
  const list = table("Keys", COLUMNS, keys.map((key) => rowOf(key, revoke, rotate)));
  list.classList.add("stacked");
  return [list];
}

function rowOf(key, revoke, rotate) {
  const button = (words, kind, work) =>
    h("button", { type: "button", class: kind, "aria-label": `${words}: ${nameOf(key)}`, onclick: () => work(key) }, words);
  const [state, tone] = key.revoked ? ["void", "bad"] : ["valid", "good"];
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      nameOf(key),
      h("span", { class: "under" }, isOwn(key) ? `${key.id}, used here` : key.id),
    ),
    h("td", { "data-title": "May" }, key.scopes.join(", ")),
    h("td", { "data-title": "Made", class: "time" }, when(key.created)),
    h(
      "td",
      { "data-title": "State", class: tone },
      h("span", { class: "pill" }, state),
      key.revoked && h("span", { class: "under" }, `since ${when(key.revoked)}`),
    ),
    h(
      "td",
      {},
      !key.revoked && h("div", { class: "row" }, isOwn(key) && button("Rotate", null, rotate), button("Revoke", "danger", revoke)),
    ),
  );
}

function formOf(told) {
  const name = h("input", { id: "key-name", type: "text", maxlength: "200", autocomplete: "off", required: true, "aria-describedby": "key-name-words" });
  const boxes = SCOPES.map(([scope, words]) => [
    h("input", { type: "checkbox", id: `scope-${scope}`, value: scope, checked: FIRST.includes(scope), "aria-describedby": `scope-${scope}-words` }),
    h("label", { for: `scope-${scope}` }, scope),
    h("span", { class: "small", id: `scope-${scope}-words` }, words),
  ]);
  const problem = h("div", {});

  async function make(event) {
    event.preventDefault();
    problem.replaceChildren();
    const scopes = boxes.map(([box]) => box).filter((box) => box.checked).map((box) => box.value);
    try {
      const key = await ask("POST", "/v1/keys", { json: { name: name.value.trim(), scopes } });
      event.target.reset();
      await told(key);
    } catch (error) {
      showProblem(problem, error);
    }
  }

  return h(
    "form",
    { onsubmit: make, class: "narrow-form" },
    h("label", { for: "key-name" }, "Name"),
    name,
    h("p", { class: "small", id: "key-name-words" }, "For people: who or what uses it."),
    h("fieldset", {}, h("legend", {}, "What it may do"), boxes.map((parts) => h("div", { class: "choice" }, parts))),
    problem,
    h("button", { class: "first", type: "submit" }, "Make"),
  );
}

function forgetIt() {
  keyring.key = null;
  location.hash = "#/";
}

function isOwn(key) {
  return keyring.key?.split(".")[0] === key.id;
}

function nameOf(key) {
  return key.name || key.id;
}
