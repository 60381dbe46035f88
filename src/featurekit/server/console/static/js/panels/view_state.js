// The state of a view in words, shared by several panels.

import { el } from "../dom.js";
import { ago, count, span } from "../format.js";

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

const STATE_BADGES = { "on time": "status-present", late: "status-missing", never: "status-missing" };

/** A badge with the state of a view; its title says why. */
export const stateBadge = (run) => el("span", { class: `badge ${STATE_BADGES[run.state] ?? "status-invalid"}`, title: run.reason }, run.state);

/** When a view was last written, and its state. */
export function loadState(view, run, nowMs, life) {
  const since = view.kind === "stream" ? streamAge(view, life) : run?.last_run_ms == null ? null : Math.max(0, nowMs - run.last_run_ms);
  return el("span", { class: "pair" }, since !== null && ago(since), run && stateBadge(run));
}

/** Milliseconds since a stream was last written, computed from its longest remaining TTL; `null` if unknown. */
export function streamAge(view, life) {
  if (!life?.live || life.newest_ttl_ms === null) return null;
  return Math.max(0, Math.max(...view.fields.map((field) => field.ttl_ms)) - life.newest_ttl_ms);
}

/** What is left of the TTLs of a view's sampled values: the shortest to the longest. */
export function leftWords(life) {
  if (!life?.live) return el("span", { class: "quiet" }, "none live");
  if (life.newest_ttl_ms === null) return "no expiry";
  const [low, high] = [span(life.oldest_ttl_ms), span(life.newest_ttl_ms)];
  return low === high ? high : `${low} to ${high}`;
}
