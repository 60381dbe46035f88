// TTLs that count down in the page: one timer updates all cells, and a cell that reaches zero fires
// an event at once.

import { el } from "./dom.js";
import { span } from "./format.js";

const TICK_MS = 200;

/**
 * The remaining TTL of a value, with a bar that shows its share of the full TTL.
 *
 * `ttlMs` is the TTL at the time `at` (from performance.now()); -1 means no expiry, and `null` no
 * value. `fullMs` is the full TTL, and `kind` the kind of the view. At zero, the cell fires `expired`,
 * which bubbles.
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

/** The remaining TTL of a stored value, which says so if it expires with its key. */
export const valueTtl = (ttlMs, fullMs, at, kind, byKey) =>
  el("span", { class: "stack-tight right" }, ttlCell(ttlMs, fullMs, at, kind), byKey && ttlMs > 0 ? el("span", { class: "type" }, "by the key") : null);

const left = (until) => span(Math.max(0, until - performance.now()));
const part = (until, full) => Math.max(0, Math.min(1, (until - performance.now()) / full)).toFixed(3);

function move() {
  for (const cell of document.querySelectorAll(".ttl[data-until]")) {
    if (!cell.dataset.until) continue; // an earlier cell expired and its listener redrew all cells
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
