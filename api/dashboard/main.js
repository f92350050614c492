// Which page is shown: the part of the address behind the hash says it.

import { ask, keyring } from "./access.js";
import { showAtlases } from "./atlases_page.js";
import { showDocs } from "./docs_page.js";
import { h, problemBox } from "./dom.js";
import { showJob } from "./job_page.js";
import { showJobs } from "./jobs_page.js";
import { showKeyForm } from "./key_form.js";
import { showKeys } from "./keys_page.js";
import { showSchedules } from "./schedules_page.js";
import { showSubmit } from "./submit_page.js";
import { showTargets } from "./targets_page.js";
import { showUploads } from "./uploads_page.js";
import { showWebhooks } from "./webhooks_page.js";

const page = document.getElementById("page");
const forget = document.getElementById("forget");
let leaving = new AbortController();

const PAGES = [
  [/^#\/?$/, "jobs", showJobs],
  [/^#\/submit$/, "submit", showSubmit],
  [/^#\/schedules$/, "schedules", showSchedules],
  [/^#\/uploads$/, "uploads", showUploads],
  [/^#\/targets$/, "targets", showTargets],
  [/^#\/atlases$/, "atlases", showAtlases],
  [/^#\/webhooks$/, "webhooks", showWebhooks],
  [/^#\/keys$/, "keys", showKeys],
  [/^#\/docs$/, "docs", showDocs],
  [/^#\/jobs\/([a-z]+_[A-Za-z0-9]+)$/, "jobs", showJob],
];

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [match, name, render] = wanted();
  markCurrent(name);
  forget.hidden = !keyring.key;
  const place = h("div", {});
  page.replaceChildren(place);
  try {
    await render(place, signal, match[1]);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) return showKeyForm(place, show, Boolean(keyring.key));
    place.replaceChildren(h("section", {}, problemBox(error)));
  }
  if (!signal.aborted) focusTitle();
}

function wanted() {
  for (const [pattern, name, render] of PAGES) {
    const match = pattern.exec(location.hash || "#/");
    if (match) return [match, name, render];
  }
  return [["#/"], "jobs", showJobs];
}

function markCurrent(name) {
  for (const link of document.querySelectorAll("nav a[data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function focusTitle() {
  const title = page.querySelector("h1");
  document.title = title ? `${title.textContent} | AutoSparse` : "AutoSparse";
  if (!page.contains(document.activeElement)) page.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** A server without schedules shows no link to them. */
async function showWhatThereIs() {
  try {
    const { paths } = await ask("GET", "/openapi.json");
    document.getElementById("schedules-link").hidden = !("/v1/schedules" in paths);
  } catch {
    // the page itself says what is wrong
  }
}

forget.addEventListener("click", () => {
  keyring.key = null;
  show();
});
window.addEventListener("hashchange", () => {
  // the link that skips to the page is no page
  if (location.hash !== "#page") show();
});
show();
showWhatThereIs();
