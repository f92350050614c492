// Asking for the key.

import { keyring } from "./access.js";
import { h, problemBox, prose } from "./dom.js";

export function showKeyForm(place, again, refused) {
  const field = h("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
  });
  const form = h(
    "form",
    {
      class: "narrow-form",
      onsubmit: (event) => {
        event.preventDefault();
        keyring.key = field.value.trim();
        again();
      },
    },
    h("label", { for: "key" }, "Key"),
    field,
    h("p", { class: "small" }, "It stays in this tab and is gone when the tab is closed."),
    h("button", { class: "first", type: "submit" }, "Use this key"),
  );
  const lost = "Whoever lost it makes another with `autosparse serve --new-key`, at the server.";
  place.replaceChildren(
    h(
      "section",
      {},
      h("h1", {}, "This server asks for a key"),
      h("p", { class: "lede" }, prose(`The first one was printed when the server was started. ${lost}`)),
      refused && problemBox({ detail: "That key is not valid.", hint: "" }),
      form,
    ),
  );
  keyring.key = null;
  document.title = "Key | AutoSparse";
  field.focus();
}
