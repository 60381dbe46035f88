// Loads: when each batch view was loaded, with which result.

import { getJson } from "../api.js";
import { el, fill, patch } from "../dom.js";
import { ago, count, moment, size, span, took } from "../format.js";
import { breakable, card, heading, emptyState, table, errorMessage, viewLink } from "../parts.js";
import { on, state, views } from "../state.js";
import { poll } from "./poll.js";
import { leftWords, stateBadge } from "./view_state.js";

const LAST = [
  { name: "View" },
  { name: "Last successful load" },
  { name: "Expected" },
  { name: "TTL" },
  { name: "TTL left", right: true },
  { name: "Rows", right: true },
  { name: "Duration", right: true },
  { name: "State", wide: true },
];

const HISTORY = [
  { name: "Ended" },
  { name: "View" },
  { name: "Rows written", right: true },
  { name: "Rejected", right: true },
  { name: "Sent", right: true },
  { name: "Duration", right: true },
  { name: "Values expire", right: true },
  { name: "Result", wide: true },
];

export function loads(box) {
  const batches = views().filter((one) => one.kind === "batch");
  if (!batches.length) {
    fill(box, heading("Loads"), emptyState("No batch view is declared", "A view with `batch:` is loaded as a whole; its values expire with the entity's key."));
    return {};
  }
  const notice = el("div", {});
  const list = el("div", { class: "stack" });
  fill(box, heading("Loads", "The loads of each batch view: rows, rejected rows, duration and errors."), notice, list);
  let history = [];
  const render = () => patch(list, card("Batch views", {}, lastTable(state.live.loads ?? [])), card("History", { note: "newest first, up to 50 per view" }, historyTable(history)));
  const polling = poll(async () => {
    try {
      ({ history } = await getJson("api/loads"));
      patch(notice);
      render();
    } catch (error) {
      patch(notice, errorMessage(error));
    }
  }, 3000);
  polling.now();
  const off = on("live", render);
  return { update: () => {}, end: () => (off(), polling.end()) };
}

function lastTable(states) {
  const rows = states
    .filter((one) => one.kind === "batch")
    .map((one) => ({
      key: one.view,
      cells: [viewLink(one.view), ago(one.age_ms), ...expected(one.view), one.last_run_ms === null ? "–" : count(one.rows), one.last_run_ms === null ? "–" : took(one.seconds * 1000), stateOf(one)],
    }));
  return table("The last load of each batch view", LAST, rows);
}

/** How often a view is loaded, its TTL, and what is left of it. */
function expected(name) {
  const about = views().find((found) => found.name === name);
  const [ttl, how] = about?.expires.split(", ") ?? ["–"];
  const life = (state.live.views ?? []).find((found) => found.view === name);
  return [`every ${about?.refresh ?? "–"}`, el("span", { class: "typed" }, ttl, how && el("span", { class: "type" }, how)), leftWords(life)];
}

/** When the last value expires that this load or an earlier one wrote. */
function expiry(one, now) {
  if (!one.expires_ms) return "–";
  return one.expires_ms > now ? `in ${span(one.expires_ms - now)}` : `${ago(now - one.expires_ms)}`;
}

function stateOf(one) {
  const about = views().find((found) => found.name === one.view);
  const command = about?.has_source ? `featurekit materialize ${one.view}` : `featurekit write ${one.view} < rows.jsonl`;
  if (one.state === "on time") return stateBadge(one);
  return el("span", { class: "stack-tight" }, stateBadge(one), el("span", { class: "why" }, one.reason), el("code", {}, breakable(command)));
}

function historyTable(history) {
  const rows = history.map((one) => ({
    key: `${one.view}-${one.ended_ms}`,
    tone: one.error ? "invalid" : "",
    cells: [
      moment(one.ended_ms),
      viewLink(one.view),
      one.rows_read === one.rows_written ? count(one.rows_written) : `${count(one.rows_written)} of ${count(one.rows_read)} read`,
      one.rows_rejected ? el("span", { class: "status-text-invalid" }, count(one.rows_rejected)) : "0",
      one.size_bytes ? size(one.size_bytes) : "–",
      took(one.seconds * 1000),
      expiry(one, state.live.at_ms ?? one.ended_ms),
      one.error ? el("span", { class: "stack-tight" }, el("span", { class: "badge status-invalid" }, "failed"), el("span", { class: "why" }, one.error)) : el("span", { class: "stack-tight" }, el("span", { class: "badge status-present" }, "done"), one.rejects_path && el("span", { class: "why" }, `Rejected rows: ${one.rejects_path}`)),
    ],
  }));
  return table("History of loads", HISTORY, rows, { empty: "No load is recorded yet. Run `featurekit materialize`." });
}
