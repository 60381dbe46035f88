// Words that several panels use of the same things.

import { el } from "../dom.js";
import { ago, count } from "../format.js";

/** Colours of the page for the series of a plot, one a view. */
export const COLOURS = ["accent", "stream", "batch", "warm", "good", "bad"];

/** Views as series of a plot: the first of each kind has the colour of its kind. */
export function coloured(views) {
  const left = COLOURS.filter((colour) => !views.some((view) => view.kind === colour));
  const used = new Set();
  return views.map((view) => {
    const own = !used.has(view.kind);
    used.add(view.kind);
    return { label: view.name, colour: own ? view.kind : (left.shift() ?? "muted") };
  });
}

/** How many entities are stored: `200`, or `1,000+` where more were not looked at. */
export const storedWords = (one) => `${count(one.present)}${one.whole ? "" : "+"}`;

/** When a view was last written, and whether that is too long ago. */
export function loadState(view, run, nowMs, life) {
  if (view.kind === "stream") return streamState(view, life);
  if (!run || run.last_run_ms === null) return el("span", { class: "badge status-missing" }, "never loaded");
  const when = ago(Math.max(0, nowMs - run.last_run_ms));
  if (run.error) return el("span", { class: "pair" }, when, el("span", { class: "badge status-invalid" }, "failed"));
  return el("span", { class: "pair" }, when, run.late && el("span", { class: "badge status-missing" }, "late"));
}

/** How long ago a stream last wrote, by the field that has the most left; `null` if nothing tells. */
export function streamAge(view, life) {
  if (!life?.live || life.newest_ttl_ms === null) return null;
  return Math.max(0, Math.max(...view.fields.map((field) => field.ttl_ms)) - life.newest_ttl_ms);
}

/** A stream writes all the time: its newest field tells when it last did. */
function streamState(view, life) {
  if (!life?.live) return el("span", { class: "badge status-missing" }, "silent");
  const since = streamAge(view, life);
  const quiet = since !== null && since > view.refresh_ms;
  return el("span", { class: "pair" }, ago(since), quiet && el("span", { class: "badge status-missing" }, "late"));
}
