// Inspect: the whole hash of one entity, and why each missing field is missing.

import { getJson } from "../api.js";
import { el, fill, patch } from "../dom.js";
import { counted } from "../format.js";
import { breakable, card, figure, figures, heading, kindBadge, labelled, message, emptyState, statusBadge, table, errorMessage, typed } from "../parts.js";
import { anyId, IdPicker } from "../pickers.js";
import { remember } from "../router.js";
import { entities, entity, state, view } from "../state.js";
import { ttlCell, valueTtl } from "../ttl.js";
import { poll } from "./poll.js";
import { loadState } from "./view_state.js";

const COLUMNS = [
  { name: "Field", mono: true },
  { name: "Value", mono: true, wide: true },
  { name: "Stored bytes", mono: true, labelled: true },
  { name: "Status", narrow: true },
  { name: "TTL left", right: true, narrow: true },
];

export function inspect(box, query) {
  return new InspectPanel(box, query);
}

class InspectPanel {
  constructor(box, query) {
    this.select = el("select", { class: "input", onchange: () => this.entityChanged() }, entities().map((one) => el("option", { value: one.name }, one.name)));
    this.id = el("div", {});
    this.head = el("div", {});
    this.body = el("div", { class: "stack" });
    this.body.addEventListener("expired", () => this.expired());
    this.head.addEventListener("expired", () => this.polling.now());
    fill(
      box,
      heading("Inspect", "Everything stored for one entity, declared or not, and why fields are missing."),
      card("Entity", {}, el("div", { class: "fields" }, labelled("Entity", this.select), this.id)),
      el("div", { class: "after" }, this.head, this.body),
    );
    this.polling = poll(() => this.refresh(), 2000);
    this.update(query);
  }

  update(query) {
    const name = entity(query.get("entity")) ? query.get("entity") : entities()[0]?.name;
    if (!name) return;
    this.select.value = name;
    this.makeId(query.get("id") ?? "");
  }

  entityChanged() {
    this.makeId("");
  }

  async makeId(id) {
    const about = entity(this.select.value);
    const first = id || (await anyId(about.name));
    this.picker = new IdPicker(about, { ids: [first], many: false, changed: () => this.polling.now() });
    fill(this.id, this.picker.node);
    this.polling.now();
  }

  async refresh() {
    const [id] = this.picker?.value ?? [];
    if (!id) {
      patch(this.head);
      fill(this.body, card("Hash", {}, emptyState("No entity is selected", "Type an id. The suggestions are stored entities.")));
      return;
    }
    remember("inspect", { entity: this.select.value, id });
    try {
      const found = await getJson("api/inspect", { entity: this.select.value, id });
      this.result = { ...found, at: performance.now() };
      this.render();
    } catch (error) {
      patch(this.head, errorMessage(error));
      if (error.status && error.status !== 503) fill(this.body);
    }
  }

  expired() {
    const passed = performance.now() - this.result.at;
    for (const field of this.result.fields) {
      if (field.ttl_ms !== null && field.ttl_ms <= passed) Object.assign(field, { text: null, raw: null, ttl_ms: null, status: "missing", size_bytes: null });
    }
    this.render();
    this.polling.now();
  }

  render() {
    const { result } = this;
    patch(this.head, head(result));
    const declared = result.fields.filter((field) => field.view && field.type);
    const others = result.fields.filter((field) => !(field.view && field.type));
    const groups = new Map();
    for (const field of declared) groups.set(field.view, [...(groups.get(field.view) ?? []), field]);
    patch(
      this.body,
      [...groups].map(([name, fields]) => this.group(name, fields)),
      others.length ? card("Not declared", { id: "inspect-others", note: "in the hash, but in no view" }, fieldTable("Not declared", others, result)) : null,
      result.left_out ? message("warn", `${counted(result.left_out, "more field")} not shown.`) : null,
    );
  }

  group(name, fields) {
    const stored = fields.filter((field) => field.raw !== null).length;
    return card(
      name,
      { id: `inspect-${name}`, note: `${stored} of ${fields.length} stored`, tools: el("span", { class: "pair" }, lastWrite(name), kindBadge(fields[0].kind)) },
      fieldTable(name, fields, this.result),
    );
  }

  end() {
    this.polling.end();
  }
}

function head(result) {
  const life = result.key_ttl_ms === null ? (result.found ? el("span", { class: "ttl" }, "none; the key lives until its last field expires") : "–") : ttlCell(result.key_ttl_ms, null, result.at);
  return [
    result.found ? null : message("warn", "Nothing is stored for this entity.", "It was never written, or all its fields have expired."),
    figures(
      figure("Key", el("span", { class: "mono breakable" }, result.key), "", { tone: "long" }),
      figure("Key TTL", life),
      figure("Encoding", result.encoding || "–", "of the hash in the server"),
      figure("Fields", String(result.fields.filter((field) => field.raw !== null).length), `of ${result.fields.length} declared or stored`),
    ),
  ];
}

/** When the view was last written for any entity. */
function lastWrite(name) {
  const about = view(name);
  const { live } = state;
  if (!about || !live.views) return null;
  const life = live.views.find((one) => one.view === name);
  const run = (live.loads ?? []).find((one) => one.view === name);
  const workers = (live.workers ?? []).filter((one) => one.view === name).length;
  const idle = about.kind === "stream" && about.has_source && !workers;
  return [el("span", { class: "quiet" }, about.kind === "stream" ? "last event" : "last load"), loadState(about, run, live.at_ms, life), idle && el("span", { class: "badge status-missing" }, "no worker")];
}

/** Reasons that apply to several fields; they are shown once, above the table. */
function shared(fields) {
  const names = new Map();
  for (const field of fields) if (field.why) names.set(field.why, [...(names.get(field.why) ?? []), field.name]);
  return new Map([...names].filter(([, list]) => list.length > 1));
}

function reasons(said) {
  if (!said.size) return null;
  return el(
    "ul",
    { class: "reasons" },
    [...said].map(([why, names]) => el("li", {}, el("span", { class: "words" }, names.map((name) => el("code", {}, breakable(name)))), el("span", { class: "why" }, why))),
  );
}

function fieldTable(name, fields, result) {
  const said = shared(fields);
  const rows = fields.map((field) => {
    const stored = field.raw !== null;
    const why = field.why && !said.has(field.why) ? el("span", { class: "why" }, field.why) : null;
    const ttl = field.ttl_ms ?? (stored ? (result.key_ttl_ms ?? -1) : null);
    return {
      key: field.name,
      tone: field.status === "present" ? "" : field.status,
      cells: [
        typed(field.name, field.type),
        el("span", { class: "stack-tight" }, field.text === null ? el("span", { class: "quiet" }, "–") : el("span", { class: "value" }, field.text), why),
        stored ? el("span", { class: "typed" }, el("span", { class: "raw" }, field.raw), el("span", { class: "type" }, counted(field.size_bytes, "byte"))) : el("span", { class: "quiet" }, "none"),
        statusBadge(field.status),
        valueTtl(ttl, field.full_ttl_ms, result.at, field.kind, stored && field.ttl_ms === null),
      ],
    };
  });
  return [reasons(said), table(`Fields of ${name}`, COLUMNS, rows, { compact: true })];
}
