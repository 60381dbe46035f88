// Read: the features that a model receives, with the remaining TTL of each value.

import { postJson } from "../api.js";
import { Chart } from "../chart.js";
import { el, fill, patch } from "../dom.js";
import { counted, percentile, took } from "../format.js";
import { card, copyable, figure, figures, heading, inspectLink, message, emptyState, statusBadge, table, errorMessage, typed, viewBadge } from "../parts.js";
import { anyId, FeaturePicker, IdPicker } from "../pickers.js";
import { remember } from "../router.js";
import { entities } from "../state.js";
import { valueTtl } from "../ttl.js";
import { poll } from "./poll.js";

const READS = 120;
const COLUMNS = [
  { name: "Feature", mono: true },
  { name: "Value", mono: true },
  { name: "View" },
  { name: "Status" },
  { name: "TTL left", right: true },
];

export function read(box, query) {
  return new ReadPanel(box, query);
}

class ReadPanel {
  constructor(box, query) {
    this.times = [];
    this.results = el("div", { class: "stack", "aria-live": "off" });
    this.notice = el("div", {});
    this.summary = el("p", { class: "hidden-text", role: "status" });
    this.lines = el("div", { class: "stack" });
    this.figures = el("div", {});
    this.chart = new Chart({ series: [{ label: "", colour: "accent", points: true }], time: false, height: 150, unit: (v) => took(v) });
    this.features = new FeaturePicker(query, () => this.featuresChanged());
    this.ids = el("div", { class: "stack" });
    this.results.addEventListener("expired", () => this.expired());
    fill(
      box,
      heading("Read", "The features that a model receives: one HMGET per entity, decoded, with the TTL of each value."),
      el(
        "div",
        { class: "split" },
        el("div", { class: "stack" }, card("Request", {}, this.features.node, this.ids), card("Latency", { note: "of this page's reads, measured in the server" }, this.figures, this.chart.node)),
        el("div", { class: "stack" }, this.summary, this.notice, this.results, card("The same read in code", {}, this.lines)),
      ),
    );
    this.polling = poll(() => this.refresh(), 2000);
    this.begin(query);
  }

  async begin(query) {
    this.makeIds(query);
    if (this.pickers.every((picker) => !picker.value.length)) {
      for (const picker of this.pickers) {
        const id = await anyId(picker.entity);
        if (id && !picker.value.length) picker.ids = [id];
        picker.render();
      }
    }
    this.polling.now();
  }

  makeIds(query) {
    const known = new Map((this.pickers ?? []).map((picker) => [picker.about.name, picker.ids]));
    this.pickers = this.features.entities.map(
      (about) => new IdPicker(about, { ids: known.get(about.name) ?? query.getAll(`id.${about.name}`), changed: () => this.changed() }),
    );
    fill(this.ids, this.pickers.map((picker) => picker.node));
  }

  featuresChanged() {
    this.result = null;
    this.makeIds(new URLSearchParams());
    this.begin(new URLSearchParams());
    this.changed();
  }

  changed() {
    this.remember();
    this.polling.now();
  }

  remember() {
    const ids = Object.fromEntries(this.pickers.map((picker) => [`id.${picker.about.name}`, picker.value]));
    remember("read", { ...this.features.query, ...ids });
  }

  update(query) {
    this.features.set(query);
    this.pickers = [];
    this.begin(query);
  }

  async refresh() {
    const ids = Object.fromEntries(this.pickers.map((picker) => [picker.about.name, picker.value]));
    if (!this.features.value.length || Object.values(ids).some((list) => !list.length)) {
      this.nothingRead();
      patch(this.notice);
      fill(this.results, card("Values", {}, emptyState("Nothing to read yet", entities().length ? "Select features and give an id for each entity." : "No entity is applied.")));
      return;
    }
    try {
      const result = await postJson("api/read", { features: this.features.value, ids }, 5000);
      this.remember();
      this.result = { ...result, at: performance.now() };
      patch(this.notice);
      this.times.push(result.elapsed_ms);
      if (this.times.length > READS) this.times.shift();
      this.render();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    patch(this.notice, errorMessage(error, { features: "Service", ids: "Ids" }));
    if (error.status && error.status !== 503) {
      this.nothingRead();
      fill(this.results);
    }
  }

  nothingRead() {
    this.result = this.linesKey = null;
    fill(this.lines, el("p", { class: "quiet" }, "After a read, the same read appears here in Python, curl and shell."));
  }

  /** A value expired: show it as missing at once, before the next read. */
  expired() {
    const passed = performance.now() - this.result.at;
    for (const row of this.result.rows) {
      for (const cell of row.cells) {
        if (cell.ttl_ms !== null && cell.ttl_ms >= 0 && cell.ttl_ms <= passed) {
          Object.assign(cell, { text: null, status: "missing", ttl_ms: null });
        }
      }
    }
    this.render();
    this.polling.now();
  }

  render() {
    const { features, rows, at } = this.result;
    patch(this.results, rows.map((row, index) => this.row(row, index, features, at)));
    const missing = rows.flatMap((row) => row.cells).filter((cell) => cell.status !== "present").length;
    const said = `${counted(rows.length, "entity", "entities")}, ${counted(features.length, "feature")} each; ${missing ? `${missing} values not present` : "all present"}.`;
    if (this.summary.textContent !== said) this.summary.textContent = said;
    this.renderTimes();
    this.renderLines();
  }

  row(row, index, features, at) {
    const name = Object.entries(row.keys).map(([key, value]) => `${key} ${value}`).join(", ") || "All requests";
    const cells = row.cells.map((cell, place) => {
      const feature = features[place];
      return {
        key: `${feature.view}:${feature.name}`,
        tone: cell.status === "present" ? "" : cell.status,
        cells: [
          typed(feature.name, feature.type),
          cell.text === null ? el("span", { class: "quiet" }, "–") : el("span", { class: "value" }, cell.text),
          viewBadge(feature.view, feature.kind),
          statusBadge(cell.status),
          valueTtl(cell.ttl_ms, feature.ttl_ms, at, feature.kind, feature.by_key),
        ],
      };
    });
    const present = row.cells.filter((cell) => cell.status === "present").length;
    const absent = Object.keys(row.found_by).filter((entity) => !row.found_by[entity]);
    const links = this.pickers.map((picker) => {
      const id = picker.value[Math.min(index, picker.value.length - 1)];
      return id && el("span", {}, inspectLink(picker.entity, id));
    });
    return card(
      name,
      { id: `row-${index}`, note: `${present} of ${row.cells.length} present`, tools: el("span", { class: "inspect-links" }, el("span", { class: "quiet" }, "inspect"), links) },
      row.error && message("bad", row.error),
      !absent.length || row.error ? null : message("warn", `Nothing is stored for this ${absent.join(" and ")}.`, "It was never written, or its TTL expired. Inspect shows the details."),
      table(`Features of ${name}`, COLUMNS, cells, { compact: true }),
    );
  }

  renderTimes() {
    const sorted = [...this.times].sort((a, b) => a - b);
    const last = this.times.at(-1);
    patch(this.figures, figures(figure("Last read", took(last), "with TTLs"), figure("Median", took(percentile(sorted, 0.5)), `of ${counted(sorted.length, "read")}`), figure("Slowest", took(sorted.at(-1)))));
    this.chart.show([this.times.map((_, index) => index + 1), this.times], `The last read took ${took(last)}; the median of ${sorted.length} is ${took(percentile(sorted, 0.5))}.`);
  }

  renderLines() {
    const { python, curl, shell } = this.result.lines;
    const key = python + curl;
    if (this.linesKey === key) return;
    this.linesKey = key;
    fill(this.lines, copyable(python, "Python"), curl && copyable(curl, "curl"), copyable(shell, "shell"));
  }

  end() {
    this.polling.end();
    this.chart.end();
  }
}
