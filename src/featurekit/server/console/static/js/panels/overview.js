// Overview: the server, the stored entities and views, and what is late.

import { getJson, postJson } from "../api.js";
import { Chart } from "../chart.js";
import { el, fill, patch } from "../dom.js";
import { count, counted, percent, size, span, took } from "../format.js";
import { confirmDialog, toast, toastError } from "../notices.js";
import { breakable, button, card, figure, figures, heading, kindBadge, labelled, emptyState, shareBar, table, errorMessage, viewLink } from "../parts.js";
import { entities, on, state, emit, views } from "../state.js";
import { attention } from "./attention.js";
import { COLOURS, coloured, leftWords, loadState, storedWords } from "./view_state.js";

const VIEW_COLUMNS = [
  { name: "View" },
  { name: "Entity" },
  { name: "Owner" },
  { name: "TTL" },
  { name: "Last write" },
  { name: "Live", label: "Live share" },
  { name: "Hits", label: "Hit rate", right: true },
  { name: "Left", label: "TTL left", right: true },
];

export function overview(box) {
  const top = el("div", {});
  const views_ = el("div", {});
  const coverage = el("div", { class: "coverage" });
  const found = el("div", {});
  const reads_ = el("div", { class: "stack" });
  const shown = views().slice(0, COLOURS.length);
  const chart = new Chart({
    series: coloured(shown),
    unit: count,
  });
  const check = button("Run the checks", async () => {
    try {
      const { findings } = await getJson("api/doctor");
      fill(found, findingList(findings));
    } catch (error) {
      fill(found, errorMessage(error));
    }
  });
  fill(
    box,
    heading("Overview", "What is stored, how fresh it is, and what is late."),
    top,
    el(
      "div",
      { class: "grid" },
      card("Views", { wide: true, note: "based on sampled entities" }, views_),
      card("Entities with a live field", { note: "at most the last five minutes", wide: true }, chart.node),
      card("Feature coverage", { note: "share of sampled entities that hold each feature", wide: true }, coverage),
      card("Reads", { note: "through this server since it started, without the console's own", wide: true }, reads_),
      card("Checks", { note: "the findings of featurekit doctor", wide: true, tools: check }, found),
      state.session.writes ? removal() : null,
    ),
  );
  fill(found, el("p", { class: "quiet" }, "Checks the server, the registry, each view and a sample of hashes. It writes one probe key, which expires."));
  const render = () => {
    patch(top, topOf(state.live));
    patch(views_, viewTable(state.live));
    patch(coverage, views().map((one) => coverageOf(one, state.live)));
    patch(reads_, served(state.live));
    chart.show(series(shown), chartWords(shown));
  };
  render();
  const off = on("live", render);
  return { update: () => {}, end: () => (off(), chart.end()) };
}

function topOf(live) {
  if (!live.server) return el("p", { class: "loading" }, "Reading the store…");
  const { server } = live;
  const empty = live.entities.every((one) => one.present === 0 && one.whole);
  const memory = server.memory_limit_bytes ? `of ${size(server.memory_limit_bytes)}` : "no limit";
  const shown = [
    ...live.entities.map((one) => figure(one.entity, storedWords(one), storedNote(one), { key: one.entity })),
    figure(server.servers > 1 ? `${server.servers} servers` : "Server", server.name || "–", `up ${span(server.uptime_s * 1000)}`, { key: "@server" }),
    figure("Memory", size(server.memory_bytes), memory, { key: "@memory" }),
    figure("Commands", `${count(server.commands_per_second)}/s`, counted(server.clients, "client"), { key: "@commands" }),
    server.expired_fields ? figure("Expired", count(server.expired_fields), "fields since the server started", { key: "@expired" }) : null,
    server.evicted_keys ? figure("Evicted", count(server.evicted_keys), "keys, because memory ran out", { tone: "bad", key: "@evicted" }) : null,
    reads(live.reads),
  ];
  return [
    empty ? el("div", { class: "card", "data-key": "empty" }, emptyStore()) : attention(live),
    figures(shown),
  ];
}

function storedNote(one) {
  if (one.whole) return "stored";
  return one.sampled ? "sampled; more exist" : "none in the scanned keys";
}

/** The hit rate of this server's reads, without the console's own. */
function reads(byView) {
  const [present, total] = hits(Object.values(byView ?? {}));
  if (!total) return null;
  return figure("Hit rate", percent(present / total), `of ${counted(total, "value")} read by this server`, { key: "@reads" });
}

function hits(counts) {
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  return [sum(counts.map((one) => one.present ?? 0)), sum(counts.map((one) => sum(Object.values(one))))];
}

function hitWords(counts) {
  const [present, total] = hits(counts ? [counts] : []);
  if (!total) return el("span", { class: "quiet" }, "not read");
  return percent(present / total);
}

const STATUSES = ["present", "default", "missing", "invalid", "stale", "unavailable"];

/** The reads of this server: statuses by view, and durations by service. */
function served(live) {
  const byView = Object.entries(live.reads ?? {});
  const byService = Object.entries(live.services ?? {});
  if (!byView.length && !byService.length) return el("p", { class: "quiet" }, "No feature was read through this server yet.");
  const used = STATUSES.filter((status) => byView.some(([, counts]) => counts[status]));
  const columns = [{ name: "View" }, ...used.map((status) => ({ name: status, right: true })), { name: "Hit rate", right: true }];
  const rows = byView.map(([name, counts]) => ({
    key: name,
    cells: [viewLink(name), ...used.map((status) => (counts[status] ? el("span", { class: `status-text-${status}` }, count(counts[status])) : el("span", { class: "quiet" }, "0"))), hitWords(counts)],
  }));
  const timed = byService.map(([name, one]) => ({
    key: name,
    cells: [name === "features" ? el("span", {}, "features ", el("span", { class: "quiet" }, "lists of features")) : name, count(one.calls), one.failures ? el("span", { class: "status-text-invalid" }, count(one.failures)) : "0", count(one.entities), within(one.p50_ms), within(one.p99_ms)],
  }));
  return [table("Values read by view and status", columns, rows), table("Reads by service", SERVICE_COLUMNS, timed)];
}

const SERVICE_COLUMNS = [{ name: "Service" }, { name: "Reads", right: true }, { name: "Failed", right: true }, { name: "Entities", right: true }, { name: "p50", right: true }, { name: "p99", right: true }];

const within = (ms) => (ms === null ? "–" : `within ${took(ms)}`);

export function emptyStore() {
  const batch = views().find((one) => one.kind === "batch" && one.has_source);
  const other = views().find((one) => one.kind === "batch");
  const stream = views().find((one) => one.kind === "stream");
  const commands = [];
  if (batch) commands.push("featurekit materialize");
  else if (other) commands.push(`featurekit write ${other.name} < rows.jsonl`);
  if (stream?.has_source) commands.push("featurekit stream run");
  else if (stream) commands.push(`featurekit stream push ${stream.name} < events.jsonl`);
  return emptyState("The store is empty", "No entity has a live field. To fill the store, run in the repository's folder:", ...commands);
}

function viewTable(live) {
  const lives = Object.fromEntries((live.views ?? []).map((one) => [one.view, one]));
  const runs = Object.fromEntries((live.loads ?? []).map((one) => [one.view, one]));
  const rows = views().map((one) => {
    const life = lives[one.name];
    const share = life?.sampled ? life.live / life.sampled : 0;
    return {
      key: one.name,
      cells: [
        el("span", { class: "pair" }, viewLink(one.name), kindBadge(one.kind)),
        breakable(one.entity),
        one.owner || el("span", { class: "quiet" }, "none"),
        el("span", {}, one.ttl, el("span", { class: "quiet" }, ` every ${one.refresh}`)),
        loadState(one, runs[one.name], live.at_ms, life),
        life ? shareBar(share, { tone: one.kind, text: `${percent(share)} of ${count(life.sampled)}` }) : "–",
        hitWords(live.reads?.[one.name]),
        leftWords(life),
      ],
    };
  });
  return table("Views", VIEW_COLUMNS, rows, { empty: "No view is declared." });
}

/** With more views than this, their features are folded. */
const UNFOLDED = 12;

function coverageOf(one, live) {
  const life = (live.views ?? []).find((found) => found.view === one.name);
  const sampled = life?.sampled ?? 0;
  return el(
    "details",
    { class: "coverage-view", "data-key": one.name, open: views().length <= UNFOLDED },
    el("summary", {}, el("h3", {}, breakable(one.name)), kindBadge(one.kind)),
    el(
      "ul",
      {},
      one.fields.map((field) => {
        const part = sampled ? (life.fields[field.name] ?? 0) / sampled : 0;
        return el("li", { "data-key": field.name }, el("span", { class: "coverage-name" }, breakable(field.name)), shareBar(part, { tone: one.kind }));
      }),
    ),
  );
}

function series(shown) {
  const points = state.history;
  return [points.map((point) => point.at_ms), ...shown.map((one) => points.map((point) => point.live[one.name] ?? null))];
}

function chartWords(shown) {
  const last = state.history.at(-1);
  if (!last) return "No data yet.";
  return `Entities with a live field now: ${shown.map((one) => `${one.name} ${last.live[one.name] ?? 0}`).join(", ")}.`;
}

/** A form that deletes the stored data of an entity. */
function removal() {
  const select = el("select", { class: "input" }, entities().map((one) => el("option", { value: one.name }, one.name)));
  const act = button("Delete its hashes…", async () => {
    const entity = select.value;
    const known = (state.live.entities ?? []).find((one) => one.entity === entity);
    const many = known ? `${storedWords(known)} are stored now. ` : "";
    if (!(await confirmDialog(`Delete every ${entity}?`, `${many}This deletes all hashes of ${entity}, with the fields of every view. Loads and streams write them again.`, `Delete every ${entity}`))) return;
    try {
      const { deleted } = await postJson("api/reset", { entity });
      toast("good", `Deleted ${counted(deleted, "hash", "hashes")} of ${entity}.`);
    } catch (error) {
      toastError(error);
    }
    emit("changed");
  }, { tone: "danger" });
  return card("Delete", { note: "stored data; definitions stay", wide: true }, el("div", { class: "row row-end" }, labelled("Entity", select), act));
}

const LEVELS = { ok: "present", warn: "missing", fail: "invalid" };

function findingList(findings) {
  return el(
    "ul",
    { class: "findings" },
    findings.map((one) =>
      el(
        "li",
        {},
        el("span", { class: `badge status-${LEVELS[one.level]}` }, one.level),
        el("div", {}, el("p", {}, el("strong", {}, one.subject), " ", one.message), one.hint && el("p", { class: "quiet" }, one.hint)),
      ),
    ),
  );
}
