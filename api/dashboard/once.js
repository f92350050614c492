// A secret that is told once: shown until it is put away, or the page is left.

import { h } from "./dom.js";

/** Show it; `back` is where the focus goes when it is put away. */
export function showOnce(place, { title, words, secret }, back) {
  const copy = h("button", { type: "button", class: "copy" }, "Copy");
  const heading = h("h2", { tabindex: "-1" }, title);
  const putAway = () => {
    place.replaceChildren();
    back.focus();
  };
  place.replaceChildren(
    h(
      "div",
      { class: "once" },
      heading,
      h("p", {}, words),
      h("div", { class: "code" }, h("pre", { tabindex: "0", "aria-label": title }, h("code", {}, secret)), copy),
      h("div", { class: "row" }, h("button", { type: "button", onclick: putAway }, "It is stored safely")),
    ),
  );
  window.makeCopying(copy);
  heading.focus();
}
