// Charts: uPlot in the page's colours, redrawn when the colour scheme or the width changes.

import { el } from "./dom.js";
import { clock, count, span } from "./format.js";
import { state } from "./state.js";

const drawn = new Set();

const GAP_MS = 3500;
/** Intervals between two labels of a time axis, in milliseconds. */
const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120].map((seconds) => seconds * 1000);

/**
 * A chart that fills its box.
 *
 * `series` are `{label, colour}`; colours are names of the page (`stream`, `batch`, `accent`).
 * `kind` is `line`, `area`, `steps` or `bars`; `time` says whether x is milliseconds since the epoch.
 * A chart of times says which time it shows, and leaves a gap where no sample was taken.
 * `caption` describes the data for screen readers.
 */
export class Chart {
  constructor({ series, height = 180, kind = "line", time = true, unit = (v) => String(v), names }) {
    this.options = { series, height, kind, time, unit, names };
    this.box = el("div", { class: "chart-box" });
    this.caption = el("figcaption", { class: "hidden-text" });
    this.values = series.map(() => el("span", { class: "legend-value" }));
    this.at = el("li", { class: "legend-at" });
    const items = series.map((one, index) => el("li", {}, el("span", { class: `swatch swatch-${one.colour}`, "aria-hidden": "true" }), one.label, this.values[index]));
    this.legend = el("ul", { class: "legend", "aria-hidden": names ? null : "true" }, items, this.at);
    this.node = el("figure", { class: "chart" }, this.legend, this.box, this.caption);
    this.data = [[], ...series.map(() => [])];
    this.sized = new ResizeObserver(() => this.size());
    this.sized.observe(this.box);
    drawn.add(this);
  }

  /** Show new data: x, then the values of each series. */
  show(data, caption = "") {
    this.data = this.options.time ? withGaps(data, state.live.at_ms) : data;
    if (this.caption.textContent !== caption) this.caption.textContent = caption;
    if (!this.plot) this.draw();
    else this.plot.setData(this.data);
    this.read(null);
  }

  /** Show the values at the pointer in the legend, or the newest values. */
  read(index) {
    const { unit, names, time } = this.options;
    if (names) return;
    const [xs, ...series] = this.data;
    const place = index ?? xs.length - 1;
    series.forEach((values, one) => {
      const value = values[place];
      this.values[one].textContent = value === null || value === undefined ? "" : unit(value);
    });
    if (index === null || xs[place] === undefined) this.at.textContent = time ? period(xs) : "";
    else this.at.textContent = time ? clock(xs[place]) : `no. ${xs[place]}`;
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width || !window.uPlot) return;
    this.plot?.destroy();
    this.plot = new window.uPlot(this.config(width), this.data, this.box);
  }

  size() {
    const width = this.box.clientWidth;
    if (!this.plot) this.draw();
    else if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.options.height });
  }

  end() {
    this.sized.disconnect();
    this.plot?.destroy();
    drawn.delete(this);
  }

  config(width) {
    const { series, height, kind, time, unit, names } = this.options;
    const ink = colour("muted");
    const grid = { stroke: colour("line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const x = { stroke: ink, font, grid: { show: false }, ticks: { show: false }, space: 70, size: 28 };
    if (names) x.values = (_, splits) => splits.map((split) => names[split] ?? "");
    if (names) x.splits = () => names.map((_, index) => index).filter((index) => names.length < 9 || width > 560 || index % 2 === 0);
    if (!names && !time) x.values = (_, splits) => splits.map((split) => (Number.isInteger(split) ? split : ""));
    if (!names && time) Object.assign(x, { values: (_, splits) => splits.map(clock), incrs: STEPS_MS });
    return {
      width,
      height,
      ms: 1,
      hooks: { setCursor: [(plot) => this.read(plot.cursor.idx ?? null)] },
      padding: [10, 26, 0, 0],
      legend: { show: false },
      cursor: { show: !names, points: { size: 7 }, drag: { x: false, y: false } },
      scales: {
        x: { time: time && !names, range: names ? (u, low, high) => [-0.5, names.length - 0.5] : undefined },
        y: { range: (u, low, high) => [0, Math.max(unit === count ? 4 : 0, high > 0 ? high * 1.08 : 1)] },
      },
      axes: [x, { stroke: ink, font, grid, ticks: { show: false }, size: 58, values: (_, splits) => splits.map(unit) }],
      series: [{}, ...series.map((one) => this.line(one, kind))],
    };
  }

  line(one, kind) {
    const stroke = colour(one.colour);
    const paths = { bars: () => window.uPlot.paths.bars({ size: [0.7, 60] }), steps: () => window.uPlot.paths.stepped({ align: 1 }) }[kind];
    return {
      label: one.label,
      stroke,
      width: kind === "bars" ? 0 : 2,
      fill: kind === "line" || kind === "steps" ? undefined : kind === "bars" ? stroke : `${stroke}22`,
      points: { show: kind === "line" && one.points === true, size: 5 },
      paths: paths?.(),
    };
  }
}

/** The data with empty points where no sample was taken, also between the newest one and `now`. */
function withGaps([times, ...series], now) {
  const found = [[], ...series.map(() => [])];
  const add = (time, values) => [time, ...values].forEach((value, index) => found[index].push(value));
  const nothing = series.map(() => null);
  times.forEach((time, index) => {
    if (index && time - times[index - 1] > GAP_MS) add(times[index - 1] + 1, nothing);
    add(time, series.map((values) => values[index]));
  });
  if (times.length && now - times.at(-1) > GAP_MS) add(now, nothing);
  return found;
}

/** The time that points cover: `10:02:11 to 10:05:40, 3m 29s`. */
const period = (times) => (times.length > 1 ? `${clock(times[0])} to ${clock(times.at(-1))}, ${span(times.at(-1) - times[0])}` : "");

/** A colour of the page as `#rrggbb`, for the canvas. */
function colour(name) {
  const probe = el("span", { class: `probe probe-${name}` });
  document.body.append(probe);
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return `#${[red, green, blue].map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

/** Redraw all charts after a change of the colour scheme. */
export function redraw() {
  for (const chart of drawn) chart.draw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
