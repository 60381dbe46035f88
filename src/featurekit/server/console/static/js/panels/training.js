// Training: what training sets of a service consist of, the last ones, and the last verification.

import { getJson } from "../api.js";
import { el, fill, patch } from "../dom.js";
import { count, counted, moment, percent } from "../format.js";
import { breakable, card, emptyState, errorMessage, figure, figures, heading, labelled, table, viewLink } from "../parts.js";
import { remember } from "../router.js";
import { services, state, view } from "../state.js";
import { poll } from "./poll.js";

/** When a row of a view counts, by `as_of`. */
const COUNTS = {
  static: "at all times: its rows have none",
  schedule: "from the load that is due after it",
  created: "once it was created",
  event_time: "from its own time",
  loads: "from the load that wrote it",
};

/** A longer source is folded to its beginning. */
const LONG = 100;
const SHOWN = 60;

/** `as_of` that leaks rows which arrived late. */
const WEAK = "event_time";

const KINDS = ["equal", "mismatch", "missing", "extra", "undecided"];

export function training(box, query) {
  if (!services().length) {
    fill(box, heading("Training"), emptyState("No feature service is declared", "A training set has the features of a feature service, as reads at the times of labels would have returned them."));
    return {};
  }
  const names = services().map((one) => one.name);
  const select = el("select", { class: "input", onchange: () => (remember("training", { service: select.value }), polling.now()) }, names.map((name) => el("option", { value: name }, name)));
  const choose = (asked) => (select.value = names.includes(asked) ? asked : names[0]);
  choose(query.get("service"));
  const notice = el("div", {});
  const list = el("div", { class: "stack" });
  fill(box, heading("Training", "The history of each feature, the last training sets, and whether the store serves what the history says.", labelled("Service", select)), notice, list);
  const polling = poll(async () => {
    const service = select.value;
    try {
      const found = await getJson(`api/training?service=${encodeURIComponent(service)}`);
      if (service !== select.value) return;
      patch(notice);
      patch(list, viewsCard(found), setsCard(service, found), verificationCard(service, found.verification));
    } catch (error) {
      patch(notice, errorMessage(error));
    }
  }, 5000);
  polling.now();
  return { update: (next) => (choose(next.get("service")), polling.now()), end: () => polling.end() };
}

const asOfBadge = (asOf) => el("span", { class: `badge ${asOf ? (asOf === WEAK ? "status-missing" : "status-present") : "status-invalid"}` }, asOf ?? "no history");

function viewsCard(found) {
  const columns = [{ name: "View" }, { name: "Features", wide: true }, { name: "History", wide: true }, { name: "As of" }, { name: "A row counts", wide: true }];
  const rows = Object.entries(found.as_of).map(([name, asOf]) => {
    const about = view(name);
    const { batch_source: declared, ...history } = about?.history ?? {};
    return {
      key: name,
      cells: [
        viewLink(name),
        el("span", { class: "words" }, found.features.filter((one) => one.view === name).map((one) => el("code", { title: one.type }, breakable(one.name)))),
        el("span", { class: "stack-tight" }, source(declared ?? about?.source ?? "–"), Object.entries(history).map(([key, text]) => el("span", { class: "why" }, `${key.replaceAll("_", " ")} ${text}`))),
        asOfBadge(asOf),
        asOf ? el("span", { class: "stack-tight" }, COUNTS[asOf], asOf === WEAK && el("span", { class: "why" }, "Rows that arrive late leak. A created_timestamp_field or a schedule says when they were known.")) : el("span", { class: "why" }, "Training sets refuse the features of this view: declare a history, and its times."),
      ],
    };
  });
  return card("Features and their histories", { note: counted(found.features.length, "feature") }, table("Views with their histories", columns, rows));
}

/** The text of a source; a longer one is folded. */
function source(text) {
  if (text.length <= LONG) return el("span", {}, breakable(text));
  return el("details", { class: "source" }, el("summary", {}, `${text.slice(0, SHOWN)}…`), el("pre", {}, text));
}

function setsCard(service, { sets }) {
  if (!sets.length) {
    return card("Training sets", {}, emptyState("No training set is recorded", "Those that are written in this repository are listed here:", `featurekit training-set ${service} --labels labels.parquet --output train/`));
  }
  const columns = [{ name: "Written" }, { name: "Labels", right: true }, { name: "Missing", right: true }, { name: "As of" }, { name: "Registry" }, { name: "Folder", wide: true, mono: true }];
  const rows = sets.map((one) => {
    const kinds = [...new Set(Object.values(one.as_of))];
    const current = one.registry === state.registry.fingerprint;
    return {
      key: one.path,
      cells: [
        moment(Date.parse(one.created_at)),
        count(one.rows),
        missingShare(one),
        el("span", { class: "words" }, kinds.map(asOfBadge)),
        current ? "as applied" : el("span", { class: "stack-tight" }, el("span", { class: "badge status-missing" }, "another"), el("span", { class: "why" }, one.registry.slice(0, 16))),
        breakable(one.path),
      ],
    };
  });
  return card("Training sets", { note: "newest first; missing: share of values, all features together" }, table("The last training sets", columns, rows));
}

function missingShare(one) {
  const missing = Object.values(one.missing);
  const values = one.rows * missing.length;
  return values ? percent(missing.reduce((sum, each) => sum + each, 0) / values) : "–";
}

function verificationCard(service, report) {
  const command = `featurekit verify ${service} --sample 1000`;
  if (!report) {
    return card("Last verification", {}, emptyState("Not verified yet", "A verification reads a sample of keys, and computes from the history what these reads should have returned:", command));
  }
  const open = report.not_compared ?? [];
  const verdict = open.length ? `not compared: ${open.join(", ")}` : report.differences ? "" : "the store serves what the history says";
  const sum = (kind) => report.features.reduce((total, one) => total + one[kind], 0);
  const old = report.registry !== state.registry.fingerprint;
  const kinds = KINDS.filter((kind) => kind === "equal" || sum(kind));
  const columns = [{ name: "Feature", mono: true }, ...kinds.map((kind) => ({ name: kind[0].toUpperCase() + kind.slice(1), right: true }))];
  const rows = report.features.map((one) => ({
    key: one.name,
    tone: one.mismatch + one.missing + one.extra ? "invalid" : "",
    cells: [breakable(one.name), ...kinds.map((kind) => (one[kind] && kind !== "equal" ? el("span", { class: kind === "undecided" ? "status-text-missing" : "status-text-invalid" }, count(one[kind])) : count(one[kind])))],
  }));
  return card(
    "Last verification",
    { note: `${moment(report.ended_ms)}${old ? ", with another registry than the applied one" : ""}` },
    figures(
      figure("Values compared", count(report.values - sum("undecided")), "", { key: "values" }),
      figure("Differ", count(report.differences), verdict, { tone: report.differences || open.length ? "bad" : "good", key: "differ" }),
      figure("Undecided", count(sum("undecided")), sum("undecided") ? "a load was running" : "", { key: "undecided" }),
    ),
    table("Values of each feature", columns, rows),
    report.examples.length ? examples(report.examples) : null,
  );
}

function examples(shown) {
  const columns = [{ name: "Key", mono: true }, { name: "Feature", mono: true }, { name: "Kind" }, { name: "Online", mono: true }, { name: "History", mono: true }, { name: "Why it may be", wide: true }];
  const rows = shown.map((one) => ({
    key: `${one.key}-${one.feature}`,
    cells: [breakable(one.key), breakable(one.feature), one.kind, one.online ?? "none", one.recomputed ?? "none", el("span", { class: "why" }, one.reason)],
  }));
  return el("div", { class: "after" }, table("Examples of differences", columns, rows, { hideCaption: false }));
}
