// The demo: load users and pause the stream; stream fields expire one by one while batch fields stay.
// Its endpoints are those of the Redis guide's demo.

import { getJson, postForm } from "../api.js";
import { Chart } from "../chart.js";
import { el, fill, patch } from "../dom.js";
import { count, counted, span, took } from "../format.js";
import { confirmDialog, toast, toastError } from "../notices.js";
import { button, card, figure, figures, heading, labelled, message } from "../parts.js";
import { on, state, emit, views } from "../state.js";
import { poll } from "./poll.js";
import { WatchedUser } from "./watch.js";

export const endpoint = (name) => new URL(`/${name}`, location.href).pathname;

export function demo(box) {
  return new DemoPanel(box);
}

class DemoPanel {
  constructor(box) {
    this.worker = workerCard({ polls: false });
    this.figures = el("div", {});
    this.facts = el("dl", { class: "facts facts-rows" });
    this.storyText = el("p", { class: "story", role: "status" });
    this.users = el("input", { class: "input", type: "number", min: 1, max: 20000, step: 1, value: "200", inputmode: "numeric" });
    this.ttl = el("input", { class: "input", type: "number", min: 1, max: 315359999, step: 1, value: "86400", inputmode: "numeric" });
    this.chart = new Chart({
      kind: "area",
      height: 156,
      unit: count,
      series: [{ label: "with batch fields", colour: "batch" }, { label: "with live stream fields", colour: "stream" }],
    });
    this.windows = new WindowCard();
    this.watched = new WatchedUser();
    fill(
      box,
      heading("Demo", "Load users, let the stream run, then pause it: stream fields expire one by one while batch fields stay."),
      this.figures,
      el(
        "div",
        { class: "demo" },
        el(
          "div",
          { class: "stack" },
          card("Users with live fields", { note: "at most the last five minutes" }, this.storyText, this.chart.node),
          el("div", { class: "demo-tools" }, this.worker.node, this.loadCard()),
          this.windows.node,
          card("In the store", {}, this.facts),
        ),
        this.watched.node,
      ),
    );
    this.polling = poll(() => this.refresh(), 1000);
    this.polling.now();
    this.off = on("live", () => this.render());
    this.render();
  }

  /** A load with another TTL applied a new registry; the panel stays as it is. */
  onRegistryChange() {
    this.render();
  }

  loadCard() {
    const load = button("Bulk-load", () => this.load(), { tone: "main" });
    const reset = button("Reset…", () => this.reset(), { tone: "danger" });
    const may = state.session.writes;
    load.disabled = reset.disabled = !may;
    return card(
      "Batch load",
      {},
      el("div", { class: "fields" }, labelled("Users", this.users), labelled("Key TTL, seconds", this.ttl)),
      el("div", { class: "row" }, load, reset),
      may ? null : el("p", { class: "hint" }, state.session.tokens ? "This token does not allow writes." : "Writes are not allowed on this page."),
    );
  }

  async refresh() {
    try {
      this.state = await getJson(endpoint("state"));
      if (!this.begun) {
        this.begun = true;
        this.ttl.value = String(this.state.batch_ttl_seconds);
      }
      this.worker.show(this.state);
      this.windows.show(this.state);
      this.render();
    } catch {
      // The banner reports that the server or the store is unavailable.
    }
  }

  async load() {
    try {
      const done = await postForm(endpoint("bulk-load"), { count: this.users.value, ttl: this.ttl.value });
      toast("good", `Materialized ${counted(done.loaded, "user")} with a ${done.ttl_seconds}s key-level TTL in ${took(done.elapsed_ms)}.`);
      if (done.rejected) toast("bad", `${counted(done.rejected, "user")} could not be written: ${done.reasons[0]}`);
    } catch (error) {
      toastError(error, { count: "Users", ttl: "Key TTL, seconds" });
    }
    emit("changed");
  }

  async reset() {
    const users = this.state?.entity_count ?? 0;
    if (!(await confirmDialog("Drop every user from the store?", `This deletes ${counted(users, "user")} and resets the counters of this page. The stream keeps running and writes to users that are loaded later.`, "Drop every user"))) return;
    try {
      const done = await postForm(endpoint("reset"));
      toast("good", `Reset. Dropped ${counted(done.deleted, "user")}.`);
    } catch (error) {
      toastError(error);
    }
    emit("changed");
  }

  render() {
    const now = this.state;
    const lives = state.live.views ?? [];
    const [batch, stream] = ["batch", "stream"].map((kind) => views().find((one) => one.kind === kind)?.name);
    const points = state.history;
    const at = (name) => points.map((point) => point.live[name] ?? 0);
    const left = lives.find((one) => one.view === stream);
    patch(
      this.figures,
      now
        ? figures(
            figure("Users", count(now.entity_count), `key TTL ${span((now.store?.batch_ttl_seconds ?? now.batch_ttl_seconds) * 1000)}`),
            figure("With live stream fields", count(left?.live ?? 0), left?.newest_ttl_ms ? `newest has ${span(left.newest_ttl_ms)} left` : "none live", { tone: "stream" }),
            figure("Batch writes", count(now.stats.batch_writes_total), "users loaded"),
            figure("Stream writes", count(now.stats.streaming_writes_total), "fields written"),
            figure("Reads", count(now.stats.reads_total), `${counted(now.stats.read_fields_total, "value")} sent to clients`),
          )
        : el("p", { class: "loading" }, "Reading the demo's state…"),
    );
    this.chart.show([points.map((point) => point.at_ms), at(batch), at(stream)], `Users with batch fields ${at(batch).at(-1) ?? 0}, with live stream fields ${at(stream).at(-1) ?? 0}.`);
    if (now) patch(this.facts, facts(now));
    this.renderStory(left);
  }

  renderStory(left) {
    const text = this.story(left);
    if (this.storyText.textContent !== text) this.storyText.textContent = text;
  }

  story(left) {
    const now = this.state;
    if (!now) return "";
    if (!now.entity_count) return "The store is empty. Bulk-load some users: their batch fields expire with the key.";
    if (!now.worker.paused) return "The stream is running: each event renews the TTL of the fields it writes. Pause it and watch.";
    if (left?.live) return `The stream is paused. Each stream field expires when its own TTL of ${span(now.streaming_ttl_seconds * 1000)} ends.`;
    return "All stream fields have expired, and all batch fields are still there. Resume the stream to bring them back.";
  }

  end() {
    this.off();
    this.polling.end();
    this.chart.end();
    this.worker.end();
    this.windows.end();
    this.watched.end();
  }
}

/** A window that slides: the transactions of one user in the last 20 seconds. */
class WindowCard {
  constructor() {
    this.points = [];
    this.values = el("div", {});
    this.text = el("p", { class: "story", role: "status" });
    this.chart = new Chart({ kind: "steps", height: 96, unit: count, series: [{ label: "transactions in the last 20 seconds", colour: "stream" }] });
    this.node = card("A sliding window", { note: "counted in tiles of 2 s" }, this.text, this.values, this.chart.node);
  }

  show({ windows, worker }) {
    if (!windows) return; // the store is unavailable
    const { tx_count_20s: total, tx_amount_20s: amount } = windows.values;
    const status = windows.statuses.tx_count_20s;
    this.points = [...this.points, [Date.now(), total]].slice(-120);
    this.chart.show([this.points.map(([at]) => at), this.points.map(([, value]) => value)], `Transactions in the last 20 seconds: ${total ?? "not known"}.`);
    patch(
      this.values,
      figures(
        figure("Transactions", total === null ? "–" : count(total), `of user ${windows.user}`, { tone: "stream" }),
        figure("Amount", status === "present" ? amount.toFixed(2) : "–", "in the last 20 seconds"),
        figure("Status", status, status === "present" ? "all events are applied" : "nothing says that all events are applied"),
      ),
    );
    const text = this.story(status, worker.paused);
    if (this.text.textContent !== text) this.text.textContent = text;
  }

  story(status, isPaused) {
    if (status === "stale") return "The mark is too old, or missing: a count would fall to 0 and look true, so the windows are stale instead.";
    if (isPaused) return "The stream is paused. The count falls as the window slides, although nothing is written.";
    return "A worker adds each transaction to a tile of 2 s, once. A read adds up the tiles of the last 20 seconds.";
  }

  end() {
    this.chart.end();
  }
}

/** What the demo stores, and the commands that do it. */
function facts({ key_prefix: prefix, commands, streaming_ttl_seconds: ttl }) {
  const rows = [
    ["A user", [el("code", {}, `${prefix}u0001`), ": one hash with all features, under the prefix ", el("code", {}, prefix)]],
    ["A load", [el("code", {}, commands.load), ": the batch fields, which expire together, by the key"]],
    ["An event", [el("code", {}, commands.event), `: the fields that it writes, each with its own TTL of ${span(ttl * 1000)}`]],
    ["A read", [el("code", {}, commands.read), ": all features of a user in one command"]],
  ];
  return rows.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)));
}

/** The demo's worker: its state, its counters and a button to pause it. */
export function workerCard({ polls = true } = {}) {
  const figuresOf = el("div", {});
  const said = el("span", { class: "badge" }, "…");
  const toggle = button("Pause", async () => {
    try {
      const done = await postForm(endpoint("worker/toggle"));
      toast("good", done.paused ? "Streaming worker paused." : "Streaming worker resumed.");
      show({ worker: { ...last?.worker, ...done } });
    } catch (error) {
      toastError(error);
    }
    emit("changed");
  }, { tone: "main" });
  toggle.disabled = !state.session.writes;
  let last = null;
  const show = (now) => {
    last = { ...last, ...now };
    const { worker } = last;
    const paused = worker.paused || !worker.running;
    said.textContent = worker.running ? (worker.paused ? "paused" : "running") : "stopped";
    said.className = `badge status-${paused ? "missing" : "present"}`;
    toggle.querySelector(".button-text").textContent = paused ? "Resume stream" : "Pause stream";
    patch(
      figuresOf,
      figures(
        figure("Ticks", count(worker.tick_count ?? 0)),
        figure("Fields written", count(worker.writes_count ?? 0)),
        last.streaming_ttl_seconds ? figure("Field TTL", span(last.streaming_ttl_seconds * 1000)) : null,
      ),
      worker.error ? message("bad", "The last tick failed.", worker.error) : null,
    );
  };
  const node = card("Worker", { tools: said }, figuresOf, el("div", { class: "row" }, toggle));
  if (!polls) return { node, show, end: () => {} };
  const asking = poll(async () => {
    try {
      show(await getJson(endpoint("state")));
    } catch {
      // The banner reports that the server or the store is unavailable.
    }
  }, 2000);
  asking.now();
  return { node, show, end: () => asking.end() };
}
