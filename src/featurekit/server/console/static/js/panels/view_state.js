// The state of a view in words, shared by several panels.

import { el } from "../dom.js";
import { ago, count } from "../format.js";

/** The colours of chart series, one per view. */
export const COLOURS = ["accent", "stream", "batch", "warm", "good", "bad"];

/** Chart series for views; the first view of each kind has the colour of its kind. */
export function coloured(views) {
  const left = COLOURS.filter((colour) => !views.some((view) => view.kind === colour));
  const used = new Set();
  return views.map((view) => {
    const own = !used.has(view.kind);
    used.add(view.kind);
    return { label: view.name, colour: own ? view.kind : (left.shift() ?? "muted") };
  });
}

/** The number of stored entities: `200`, or `1,000+` if the sample is incomplete. */
export const storedWords = (one) => `${count(one.present)}${one.whole ? "" : "+"}`;

/** When a view was last written, and whether it is late. */
export function loadState(view, run, nowMs, life) {
  if (view.kind === "stream") return streamState(view, life);
  if (!run || run.last_run_ms === null) return el("span", { class: "badge status-missing" }, "never loaded");
  const when = ago(Math.max(0, nowMs - run.last_run_ms));
  if (run.error) return el("span", { class: "pair" }, when, el("span", { class: "badge status-invalid" }, "failed"));
  return el("span", { class: "pair" }, when, run.late && el("span", { class: "badge status-missing" }, "late"));
}

/** Milliseconds since a stream was last written, computed from its longest remaining TTL; `null` if unknown. */
export function streamAge(view, life) {
  if (!life?.live || life.newest_ttl_ms === null) return null;
  return Math.max(0, Math.max(...view.fields.map((field) => field.ttl_ms)) - life.newest_ttl_ms);
}

/** The state of a stream view, computed from its newest field. */
function streamState(view, life) {
  if (!life?.live) return el("span", { class: "badge status-missing" }, "silent");
  const since = streamAge(view, life);
  const quiet = since !== null && since > view.refresh_ms;
  return el("span", { class: "pair" }, ago(since), quiet && el("span", { class: "badge status-missing" }, "late"));
}
