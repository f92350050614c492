// Pieces of a page that the server draws, as it draws the report.

import { send } from "./access.js";
import { problemBox } from "./dom.js";

/** Put a piece into its place, unless somebody is in the one before it. */
export async function draw(place, path, signal) {
  let piece;
  try {
    piece = await (await send("GET", path, { signal })).text();
  } catch (error) {
    if (signal.aborted) throw error;
    return place.replaceChildren(problemBox(error)); // the rest of the page is of use without it
  }
  const drawn = new DOMParser().parseFromString(piece, "text/html");
  if (place.contains(document.activeElement)) return;
  place.replaceChildren(...document.adoptNode(drawn.body).childNodes);
  place.querySelectorAll(".plot").forEach(window.makeInteractive);
  place.querySelectorAll("a[href^='#']").forEach(stayHere);
}

/** What is behind the hash says which page is shown: a link within the page only goes there. */
function stayHere(link) {
  const goal = link.getAttribute("href").slice(1);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const found = document.getElementById(goal);
    found.setAttribute("tabindex", "-1");
    found.focus();
  });
}
