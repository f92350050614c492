// Lists that are kept up to date while they are looked at.

const AGAIN = 3000;

/** Ask again every few seconds; not while the tab is hidden, nor after the page was left. */
export async function keepFresh(refresh, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    if (signal.aborted || document.hidden) continue;
    await refresh().catch(() => {}); // a server that is away comes back
  }
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

/** What an element can be found by after its list was made anew. */
function markOf(element) {
  if (element.dataset.mark) return `[data-mark="${CSS.escape(element.dataset.mark)}"]`;
  const address = element.getAttribute("href");
  return address && `a[href="${CSS.escape(address)}"]`;
}
