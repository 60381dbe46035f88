// Batch read: reads features of many entities repeatedly; shows latency and statuses.

import { postJson } from "../api.js";
import { Chart } from "../chart.js";
import { el, fill, patch } from "../dom.js";
import { count, counted, percentile, span, took } from "../format.js";
import { breakable, button, card, figure, figures, heading, labelled, emptyState, shareBar, table, errorMessage, viewBadge } from "../parts.js";
import { FeaturePicker } from "../pickers.js";
import { remember } from "../router.js";
import { emptyStore } from "./overview.js";
import { poll } from "./poll.js";

const AT_ONCE = 5;
const LABELS = { features: "Service", entities: "Entities", runs: "Reads" };

export function batch(box, query) {
  return new BatchPanel(box, query);
}

class BatchPanel {
  constructor(box, query) {
    this.features = new FeaturePicker(query, () => this.changed());
    this.entities = numberInput(query.get("n") ?? 100, 1, 1000);
    this.runs = numberInput(query.get("runs") ?? 50, 1, 1000);
    this.notice = el("div", {});
    this.statusNote = el("span", {}, "updated live");
    this.progress = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Reads done" });
    this.figures = el("div", {});
    this.chart = new Chart({ series: [{ label: "", colour: "accent", points: true }], time: false, height: 180, unit: (v) => took(v) });
    this.left = null;
    this.leftBox = el("div", {});
    this.statuses = el("div", {});
    this.go = button("Measure", () => this.measure(), { tone: "main", symbol: "play" });
    for (const input of [this.entities, this.runs]) input.addEventListener("change", () => this.changed());
    fill(
      box,
      heading("Batch read", "Read many entities in one round trip per server: latency of repeated reads, and the statuses of their values."),
      el(
        "div",
        { class: "split" },
        card(
          "Measure",
          {},
          this.features.node,
          el("div", { class: "fields" }, labelled("Entities", this.entities, "sampled, at most 1,000"), labelled("Reads", this.runs, "one after another")),
          el("div", { class: "row" }, this.go, this.progress),
        ),
        el("div", { class: "stack" }, this.notice, card("Latency", { note: "of each read, measured in this server" }, this.figures, this.chart.node), card("TTL left", { note: "of stored values, updated live" }, this.leftBox), card("Values by status", { note: this.statusNote }, this.statuses)),
      ),
    );
    fill(this.figures, emptyState("Not measured yet", "Choose features and a number of entities, then measure."));
    this.chart.node.hidden = true;
    this.polling = poll(() => this.look(), 2000);
    this.polling.now();
  }

  get body() {
    return { features: this.features.value, entities: whole(this.entities, 1, 1000) };
  }

  changed() {
    remember("batch", { ...this.features.query, n: whole(this.entities, 1, 1000), runs: whole(this.runs, 1, 1000) });
    this.times = null;
    this.chart.node.hidden = true;
    fill(this.figures, emptyState("Not measured yet", "The selection changed; measure again."));
    this.polling.now();
  }

  update(query) {
    this.features.set(query);
    this.entities.value = query.get("n") ?? "100";
    this.runs.value = query.get("runs") ?? "50";
    this.changed();
  }

  /** Show the current statuses without measuring. */
  async look() {
    if (!this.features.value.length) {
      patch(this.notice, emptyState("Nothing to read yet", "Select at least one feature."));
      return;
    }
    try {
      const result = await postJson("api/batch-read", { ...this.body, runs: 0 }, 8000);
      this.show(result);
    } catch (error) {
      patch(this.notice, errorMessage(error, LABELS));
    }
  }

  async measure() {
    const runs = whole(this.runs, 1, 1000);
    this.times = [];
    this.progress.hidden = false;
    try {
      while (this.times.length < runs) {
        const result = await postJson("api/batch-read", { ...this.body, runs: Math.min(AT_ONCE, runs - this.times.length) });
        this.show(result);
        if (!result.entities) break;
        this.times.push(...result.runs_ms);
        this.progress.value = this.times.length / runs;
        this.renderTimes(result.entities);
      }
    } catch (error) {
      patch(this.notice, errorMessage(error, LABELS));
    } finally {
      this.progress.hidden = true;
    }
  }

  show(result) {
    if (!result.entities) {
      this.times = null;
      this.chart.node.hidden = true;
      patch(this.notice, el("div", { class: "card" }, emptyStore()));
      fill(this.figures, emptyState("Nothing to measure", "No entity is stored."));
      fill(this.statuses, el("p", { class: "quiet" }, "No value is stored."));
      this.left?.end();
      this.left = null;
      fill(this.leftBox, el("p", { class: "quiet" }, "No value is stored."));
      return;
    }
    patch(this.notice);
    patch(this.statusNote, `of ${counted(result.entities, "entity", "entities")}, updated live`);
    patch(this.statuses, statusTable(result));
    this.renderLeft(result);
  }

  renderTimes(entities) {
    const sorted = [...this.times].sort((a, b) => a - b);
    const at = (share) => percentile(sorted, share);
    patch(
      this.figures,
      figures(
        figure("p50", took(at(0.5)), `${took((at(0.5) / entities))} per entity`),
        figure("p90", took(at(0.9))),
        figure("p99", took(at(0.99))),
        figure("Slowest", took(sorted.at(-1))),
        figure("Reads", count(sorted.length), `of ${counted(entities, "entity", "entities")}`),
      ),
    );
    this.chart.node.hidden = false;
    this.chart.show([this.times.map((_, index) => index + 1), this.times], `${sorted.length} reads of ${entities} entities: median ${took(at(0.5))}, 99th percentile ${took(at(0.99))}.`);
  }

  renderLeft(result) {
    const kinds = Object.keys(result.left);
    const names = [...result.edges_ms.map((edge) => `<${span(edge)}`), "more", "no expiry"];
    const used = names.map((_, index) => index).filter((index) => kinds.some((kind) => result.left[kind][index]));
    if (!used.length) {
      this.left?.end();
      this.left = null;
      fill(this.leftBox, el("p", { class: "quiet" }, "No value is stored."));
      return;
    }
    const first = Math.max(0, used[0] - 1);
    const places = names.map((_, index) => index).slice(first, used.at(-1) + 2);
    const key = `${places.join()}|${kinds.join()}`;
    if (this.leftKey !== key || !this.left) {
      this.left?.end();
      this.leftKey = key;
      this.left = new Chart({ series: kinds.map((kind) => ({ label: `${kind} values`, colour: kind })), kind: "bars", time: false, names: places.map((index) => names[index]), unit: count });
      fill(this.leftBox, this.left.node);
    }
    const data = kinds.map((kind) => places.map((index) => result.left[kind][index]));
    const said = places.map((place, index) => `${names[place]}: ${data.reduce((sum, counts) => sum + counts[index], 0)}`).join(", ");
    this.left.show([places.map((_, index) => index), ...stacked(data)], `Values by TTL left: ${said}.`);
  }

  end() {
    this.polling.end();
    this.chart.end();
    this.left?.end();
  }
}

/** Stack series of bars: each one contains the sum of those after it. */
function stacked(data) {
  return data.map((_, index) => data.slice(index).reduce((sum, counts) => counts.map((one, place) => one + (sum[place] ?? 0)), []));
}

function statusTable(result) {
  const order = ["present", "default", "missing", "invalid", "stale", "unavailable"];
  const used = order.filter((status) => result.statuses.some((counts) => counts[status]));
  const columns = [{ name: "Feature", mono: true }, { name: "View" }, ...used.map((status) => ({ name: status, right: true })), { name: "Share present" }];
  const rows = result.features.map((feature, index) => {
    const counts = result.statuses[index];
    const share = (counts.present ?? 0) / result.entities;
    return {
      key: `${feature.view}:${feature.name}`,
      cells: [
        el("span", {}, breakable(feature.name)),
        viewBadge(feature.view, feature.kind),
        ...used.map((status) => (counts[status] ? el("span", { class: `count status-text-${status}` }, count(counts[status])) : el("span", { class: "quiet" }, "0"))),
        shareBar(share, { tone: feature.kind }),
      ],
    };
  });
  return table(`Values by status, of ${counted(result.entities, "entity", "entities")}`, columns, rows, {});
}

function numberInput(value, min, max) {
  return el("input", { class: "input", type: "number", inputmode: "numeric", min, max, step: 1, value: String(value) });
}

/** The integer in a control, clamped to its bounds. */
function whole(input, min, max) {
  const value = Math.min(max, Math.max(min, Math.round(Number(input.value) || min)));
  if (String(value) !== input.value) input.value = String(value);
  return value;
}
