// Requests with the key, which stays in this tab: nothing is stored that outlives it.

const PLACE = "autosparse-key";
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15000;

export const keyring = {
  get key() {
    return sessionStorage.getItem(PLACE);
  },
  set key(value) {
    if (value) sessionStorage.setItem(PLACE, value);
    else sessionStorage.removeItem(PLACE);
  },
};

/** An answer that is no success, in the server's words. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail);
    this.status = status;
    this.detail = document.detail;
    this.hint = document.hint;
  }
}

function headers(more = {}) {
  return keyring.key ? { Authorization: `Bearer ${keyring.key}`, ...more } : more;
}

function problemOf(status, text) {
  try {
    return new Problem(status, JSON.parse(text));
  } catch {
    return new Problem(status, { detail: `The server answered with status ${status}.`, hint: "" });
  }
}

/** Send a request; its answer once it is a success. */
export async function send(method, path, { json, more, signal } = {}) {
  const asked = { method, headers: headers(more), signal, cache: "no-store" };
  if (json !== undefined) {
    asked.body = JSON.stringify(json);
    asked.headers = { ...asked.headers, "Content-Type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(path, asked);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server cannot be reached.", hint: "See that it runs." });
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text());
  return answer;
}

export async function ask(method, path, options) {
  const answer = await send(method, path, options);
  return answer.status === 204 ? null : answer.json();
}

/** The items of a list behind one, on however many pages; all of it where `after` is empty. */
export async function allBehind(path, after, signal) {
  const items = [];
  while (after !== null) {
    const behind = after === "" ? "" : `&after=${after}`;
    const page = await ask("GET", `${path}?limit=200${behind}`, { signal });
    items.push(...page.items);
    after = page.next;
  }
  return items;
}

/** Upload a file as the body of a request; `told` hears the share that is sent. */
export function upload(path, file, told) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${path}?name=${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) told(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(problemOf(request.status, request.responseText));
    });
    request.addEventListener("error", () =>
      reject(new Problem(0, { detail: `${file.name} could not be sent.`, hint: "Try again." })),
    );
    request.send(file);
  });
}

/** A job's events until it ends: each once, also across lost connections. */
export async function follow(job, signal, told) {
  let last = 0;
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const path = `/v1/jobs/${job}/events`;
      const answer = await send("GET", path, { more: { "Last-Event-ID": String(last) }, signal });
      for await (const event of eventsOf(answer.body)) {
        last = event.sequence;
        wait = FIRST_WAIT;
        told(event);
      }
      return; // the stream ends with the job
    } catch (error) {
      if (signal.aborted || (error.status >= 400 && error.status < 500)) return;
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}

/** Open a delivery: a page in a tab of its own, a file as a download. */
export async function open(job, artifact) {
  const { url } = await ask("POST", `/v1/jobs/${job}/links`, { json: { artifact } });
  if (artifact?.endsWith(".html")) window.open(url, "_blank", "noopener");
  else location.assign(url);
}
