// What is kept up to date while it is looked at.

import { problemBox } from "./dom.js";

const AGAIN = 3000;

/** Ask again every few seconds; not while the tab is hidden, nor after the page was left. */
export async function keepFresh(refresh, signal, place) {
  const tried = steadily(place);
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    if (!signal.aborted && !document.hidden) await tried(refresh, signal);
  }
}

/** For work that is done again and again: what goes wrong is shown until it goes well. */
export function steadily(place) {
  let told = null;
  return async function tried(work, signal) {
    try {
      await work();
      if (told) place.replaceChildren();
      told = null;
    } catch (error) {
      const now = error.detail ?? String(error);
      if (signal.aborted || now === told) return;
      told = now;
      place.replaceChildren(problemBox(error));
    }
  };
}

/** Put what came of a look in its place: nothing moves, and no focus is lost, where it is the same. */
export function keeper(place) {
  let shown = null;
  return (found, render) => {
    const now = JSON.stringify(found);
    if (now === shown) return;
    shown = now;
    const focused = place.contains(document.activeElement) ? markOf(document.activeElement) : null;
    place.replaceChildren(...render());
    if (focused) place.querySelector(focused)?.focus();
  };
}

/** The way back to an element, also where its list was made anew meanwhile. */
export function wayBackTo(element) {
  const mark = markOf(element);
  return () => (element.isConnected ? element : mark && document.querySelector(mark))?.focus();
}

/** What an element can be found by after its list was made anew. */
function markOf(element) {
  if (element.dataset.mark) return `[data-mark="${CSS.escape(element.dataset.mark)}"]`;
  const address = element.getAttribute("href");
  return address && `a[href="${CSS.escape(address)}"]`;
}
