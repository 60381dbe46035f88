// Time to live, counted down in the page: each cell knows when it ends, one clock moves them all,
// and a cell that reaches zero says so at once.

import { el } from "./dom.js";
import { span } from "./format.js";

const TICK_MS = 200;

/**
 * How long a value has left, with a bar of how much of its full TTL that is.
 *
 * `ttlMs` is what was left at `at` (of performance.now()); -1 for a value that nothing expires, and
 * nothing for no value; `fullMs` is the whole TTL, and `kind` that of the view. The cell fires `expired`, which bubbles, when it gets to zero.
 */
export function ttlCell(ttlMs, fullMs, at, kind = "plain") {
  if (ttlMs === null || ttlMs === undefined) return el("span", { class: "ttl ttl-none" }, "–");
  if (ttlMs < 0) return el("span", { class: "ttl ttl-ever" }, "no expiry");
  const until = at + ttlMs;
  return el(
    "span",
    { class: "ttl", "data-until": until.toFixed(0), "data-full": fullMs },
    fullMs ? el("span", { class: `bar bar-life bar-${kind}`, "aria-hidden": "true" }, el("span", { class: "bar-fill", vars: { "--part": part(until, fullMs) } })) : null,
    el("span", { class: "ttl-text" }, left(until)),
  );
}

const left = (until) => span(Math.max(0, until - performance.now()));
const part = (until, full) => Math.max(0, Math.min(1, (until - performance.now()) / full)).toFixed(3);

function move() {
  for (const cell of document.querySelectorAll(".ttl[data-until]")) {
    if (!cell.dataset.until) continue; // a cell before it came to its end, and all were drawn anew
    const until = Number(cell.dataset.until);
    const text = left(until);
    const shown = cell.querySelector(".ttl-text");
    if (shown.textContent !== text) shown.textContent = text;
    cell.querySelector(".bar-fill")?.style.setProperty("--part", part(until, Number(cell.dataset.full)));
    if (until <= performance.now()) {
      delete cell.dataset.until;
      cell.classList.add("ttl-over");
      cell.dispatchEvent(new CustomEvent("expired", { bubbles: true }));
    }
  }
}

setInterval(move, TICK_MS);
