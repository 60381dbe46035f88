// Stream: the workers of stream views, their lag and their dead letters.

import { getJson } from "../api.js";
import { Chart } from "../chart.js";
import { el, fill, patch } from "../dom.js";
import { ago, count, counted, moment, percent, span } from "../format.js";
import { card, figure, figures, heading, message, emptyState, table, errorMessage, typed } from "../parts.js";
import { on, state, views } from "../state.js";
import { workerCard } from "./demo.js";
import { poll } from "./poll.js";
import { COLOURS, coloured, stateBadge } from "./view_state.js";

const WORKERS = [
  { name: "Worker", mono: true },
  { name: "Events per second", right: true },
  { name: "Written", right: true },
  { name: "Dropped", right: true },
  { name: "Dead letters", right: true },
  { name: "Lag", right: true },
  { name: "State", wide: true },
];
const LETTERS = [{ name: "When" }, { name: "Reason", wide: true }, { name: "Event", mono: true, wide: true }];

export function stream(box) {
  const streams = views().filter((one) => one.kind === "stream");
  if (!streams.length) {
    fill(box, heading("Stream"), emptyState("No stream view is declared", "A view with `stream:` is written event by event; each of its fields has its own TTL."));
    return {};
  }
  const worker = state.session.demo ? workerCard() : null;
  const notice = el("div", {});
  const list = el("div", { class: "stack" });
  const uncounted = el("div", {});
  const shown = streams.slice(0, COLOURS.length);
  const chart = new Chart({ series: coloured(shown), unit: (v) => `${Math.round(v * 10) / 10}` });
  fill(
    box,
    heading("Stream", "The events written to the store: workers, lag and dead letters."),
    notice,
    el("div", { class: "stack" }, worker?.node, card("Events per second", { note: "read by the workers of each view" }, uncounted, chart.node), list),
  );
  let letters = {};
  const render = () => {
    patch(list, streams.map((one) => feedCard(one, letters[one.name] ?? [])));
    const rates = shown.map((one) => ratesOf(one.name));
    chart.node.hidden = rates.every((rate) => rate.every((value) => value === null));
    patch(uncounted, chart.node.hidden ? el("p", { class: "quiet" }, "No worker reports events, and no consumer group has read a stream of this project.") : null);
    chart.show([state.history.map((point) => point.at_ms), ...rates], `Events per second now: ${shown.map((one, index) => `${one.name} ${(rates[index].at(-1) ?? 0).toFixed(1)}`).join(", ")}.`);
  };
  const polling = poll(async () => {
    try {
      ({ letters } = await getJson("api/letters"));
      patch(notice);
      render();
    } catch (error) {
      patch(notice, errorMessage(error));
    }
  }, 3000);
  polling.now();
  const off = on("live", render);
  return { update: () => {}, end: () => (off(), polling.end(), chart.end(), worker?.end()) };
}

/** Events per second, as workers report them; otherwise from the reads of a consumer group; otherwise `null`. */
function ratesOf(name) {
  return state.history.map((point, index) => {
    if (point.rates[name] !== undefined) return point.rates[name];
    const before = state.history[Math.max(0, index - 5)];
    const [now, then] = [point.events[name], before.events[name]];
    const seconds = (point.at_ms - before.at_ms) / 1000;
    if (now === null || now === undefined || then === null || then === undefined || seconds <= 0) return null;
    return Math.max(0, (now - then) / seconds);
  });
}

function feedCard(about, letters) {
  const { name } = about;
  const feed = (state.live.feeds ?? []).find((one) => one.view === name) ?? { source: about.has_source ? about.source : "", dead: null };
  const run = (state.live.loads ?? []).find((one) => one.view === name);
  const life = (state.live.views ?? []).find((one) => one.view === name);
  const workers = (state.live.workers ?? []).filter((one) => one.view === name);
  const rate = ratesOf(name).at(-1);
  const share = life?.sampled ? life.live / life.sampled : 0;
  const dropped = workers.reduce((sum, one) => sum + one.dropped_older + one.dropped_expired, 0);
  const repeated = workers.reduce((sum, one) => sum + (one.repeated ?? 0), 0);
  const lag = run?.stream?.lag ?? null;
  const mark = run?.stream?.mark_age_ms ?? null;
  const warming = run?.stream?.warming_until_ms ?? null;
  // The dead letters of a Kafka topic are not counted, but what the workers rejected is.
  const dead = feed.dead ?? (workers.length ? workers.reduce((sum, one) => sum + one.rejected, 0) : null);
  return card(
    name,
    { id: `feed-${name}`, note: `each field expires ${about.ttl} after its last write`, tools: run && stateBadge(run) },
    run?.reason && message("warn", `${run.state[0].toUpperCase()}${run.state.slice(1)}: ${run.reason}.`),
    figures(
      figure("Source", feed.source || "none", feed.source ? "" : "a program pushes its events"),
      figure("Events per second", rate === null || rate === undefined ? "–" : rate.toFixed(1)),
      figure("Lag", lag === null ? "–" : count(lag), lag === null ? "unknown" : "unread events", { tone: lag > 1000 ? "warn" : "" }),
      figure("Dropped", count(dropped), repeated ? `older or expired events; ${count(repeated)} repeated ones` : "older or expired events"),
      figure("Dead letters", dead === null ? "–" : count(dead), dead === null ? "unknown" : feed.dead === null ? "of the running workers" : "rejected events", { tone: dead ? "warn" : "" }),
      ...(mark === null && warming === null ? [] : [figure("Events applied", mark === null ? "–" : `up to ${ago(mark)}`, warming === null ? "windows are complete" : `windows fill up until ${moment(warming)}`)]),
      figure("Live share", percent(share), life?.newest_ttl_ms ? `newest has ${span(life.newest_ttl_ms)} left, oldest ${span(life.oldest_ttl_ms)}` : "none live"),
    ),
    feed.source || workers.length ? [el("h3", {}, "Workers"), workerTable(name, workers)] : null,
    letters.length ? [el("h3", {}, `Newest of ${counted(feed.dead ?? letters.length, "dead letter")}`), letterTable(name, letters)] : null,
  );
}

function workerTable(name, workers) {
  if (!workers.length) return emptyState("This view has no worker", "To start one, run in the repository's folder:", `featurekit stream run ${name}`);
  const rows = workers.map((one) => ({
    key: one.name,
    cells: [
      typed(one.name, `${one.host}, since ${moment(one.started_ms)}`),
      one.events_per_second.toFixed(1),
      count(one.written),
      count(one.dropped_older + one.dropped_expired),
      count(one.rejected),
      one.lag === null ? "–" : count(one.lag),
      one.trouble
        ? el("span", { class: "stack-tight" }, el("span", { class: "badge status-missing" }, "waiting"), el("span", { class: "why" }, one.trouble))
        : el("span", { class: "stack-tight" }, el("span", { class: "badge status-present" }, "working"), one.error && el("span", { class: "why" }, `Last error: ${one.error}`)),
    ],
  }));
  return table(`Workers of ${name}`, WORKERS, rows);
}

function letterTable(name, letters) {
  const rows = letters.map((one) => ({
    key: one.id,
    cells: [moment(one.at_ms), one.reason || "no reason recorded", el("span", { class: "words" }, Object.entries(one.fields).map(([field, text]) => el("code", {}, `${field}=${text}`)))],
  }));
  return table(`Dead letters of ${name}`, LETTERS, rows);
}
