// A job's log: only what is new is asked for.

import { send } from "./access.js";
import { h } from "./dom.js";

const FIRST_BYTES = 65536;

export function liveLog(job, signal) {
  const text = h("code", {}, "No log yet.");
  const box = h("pre", { class: "log", tabindex: "0", "aria-label": "Log" }, text);
  let have = 0;

  async function refresh() {
    let answer;
    try {
      // the last byte is asked for again: a range behind the end would be an error
      const range = have ? `bytes=${have - 1}-` : `bytes=-${FIRST_BYTES}`;
      answer = await send("GET", `/v1/jobs/${job}/logs`, { more: { Range: range }, signal });
    } catch (error) {
      if (error.status !== 404 && error.status !== 416) throw error;
      return;
    }
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const fresh = new TextDecoder().decode(have ? bytes.subarray(1) : bytes);
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    text.textContent = have ? text.textContent + fresh : fresh;
    have = endOf(answer, bytes.length);
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  return { element: box, refresh };
}

function endOf(answer, length) {
  const range = /bytes \d+-(\d+)\//.exec(answer.headers.get("Content-Range") ?? "");
  return range ? Number(range[1]) + 1 : length;
}
