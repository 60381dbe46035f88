// One watched user: its values with their TTLs counting down, refreshed every 1.5 seconds.
//
// Until an id is typed, it is a user with live stream fields, as soon as there is one, and another one
// once that user is gone.

import { postJson } from "../api.js";
import { el, fill, patch } from "../dom.js";
import { took } from "../format.js";
import { breakable, card, message, emptyState, statusBadge, table } from "../parts.js";
import { IdPicker, anyId } from "../pickers.js";
import { entity, views } from "../state.js";
import { valueTtl } from "../ttl.js";
import { poll } from "./poll.js";

const COLUMNS = [{ name: "Feature", mono: true }, { name: "Value", mono: true }, { name: "Status" }, { name: "TTL left", right: true }];

const isFound = (row) => Object.values(row.found_by).every(Boolean);

export class WatchedUser {
  constructor() {
    this.about = views()[0] ? entity(views()[0].entity) : null;
    this.body = el("div", {});
    this.note = el("p", { class: "card-note" });
    this.pick = el("div", { class: "watch-pick" });
    this.body.addEventListener("expired", () => this.expired());
    this.node = card("Watched user", { id: "watched", tools: this.pick }, this.body, this.note);
    this.polling = poll(() => this.refresh(), 1500);
    this.begin();
  }

  async begin() {
    if (!this.about) return;
    this.picker = new IdPicker(this.about, { ids: [await this.liveId()], many: false, changed: () => this.chosen() });
    fill(this.pick, this.picker.node);
    this.polling.now();
  }

  chosen() {
    this.isChosen = this.picker.value.length > 0;
    this.polling.now();
  }

  /** The id of a user with live stream fields; of any user if none has. */
  async liveId() {
    const stream = views().find((one) => one.kind === "stream" && one.entity === this.about.name);
    const id = stream && (await anyId(this.about.name, stream.name));
    this.wasLive = Boolean(id);
    return id || anyId(this.about.name);
  }

  async refresh() {
    if (!this.picker) return;
    const isTyping = document.activeElement === this.picker.input;
    if (!this.isChosen && !isTyping && !this.wasLive) this.picker.input.value = await this.liveId();
    const [id] = this.picker.value;
    if (!id) {
      fill(this.body, emptyState("No user is stored", "Bulk-load some users; this card then shows one of them."));
      return;
    }
    const names = views().filter((one) => one.entity === this.about.name).map((one) => one.name);
    try {
      const result = await postJson("api/read", { features: names, ids: { [this.about.name]: [id] } }, 4000);
      this.result = { ...result, at: performance.now() };
      if (!isFound(result.rows[0])) this.wasLive = false;
      this.render();
    } catch {
      // The banner reports that the store is unavailable; the shown values keep expiring.
    }
  }

  expired() {
    const passed = performance.now() - this.result.at;
    for (const cell of this.result.rows[0].cells) {
      if (cell.ttl_ms !== null && cell.ttl_ms >= 0 && cell.ttl_ms <= passed) Object.assign(cell, { text: null, status: "missing", ttl_ms: null });
    }
    this.render();
    this.polling.now();
  }

  render() {
    const { features, rows: [row], at, elapsed_ms: elapsed } = this.result;
    this.note.textContent = `Refreshed every 1.5 s; the last read took ${took(elapsed)}. Bars show the remaining share of each TTL.`;
    const cells = row.cells.map((cell, index) => {
      const feature = features[index];
      return {
        key: feature.name,
        tone: cell.status === "present" ? "" : cell.status,
        cells: [
          el("span", {}, breakable(feature.name)),
          cell.text === null ? el("span", { class: "quiet" }, "–") : el("span", { class: "value" }, cell.text),
          statusBadge(cell.status),
          valueTtl(cell.ttl_ms, feature.ttl_ms, at, feature.kind, feature.by_key),
        ],
      };
    });
    patch(this.body, isFound(row) ? null : message("warn", "This user isn't in the store.", "Either it was never materialized or its key-level TTL expired."), table("The watched user's features", COLUMNS, cells, { compact: true }));
  }

  end() {
    this.polling.end();
  }
}
