// The components of panels: badges, cards, tables, bars, buttons and messages.

import { el, icon } from "./dom.js";
import { percent } from "./format.js";
import { href } from "./router.js";

/** The heading of a panel: its name, a sentence and its tools. */
export function heading(title, text, ...tools) {
  return el(
    "div",
    { class: "heading" },
    el("div", { class: "heading-text" }, el("h1", {}, title), text && el("p", { class: "lead" }, text)),
    tools.length ? el("div", { class: "heading-tools" }, tools) : null,
  );
}

/** A card: a section with a heading. `wide` spans the whole grid. */
export function card(title, { note, tools, wide, id } = {}, ...children) {
  const name = id ?? `card-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return el(
    "section",
    { class: wide ? "card card-wide" : "card", "aria-labelledby": name, "data-key": name },
    el(
      "div",
      { class: "card-head" },
      el("h2", { id: name }, typeof title === "string" ? breakable(title) : title),
      note && el("p", { class: "card-note" }, note),
      tools && el("div", { class: "card-tools" }, tools),
    ),
    el("div", { class: "card-body" }, children),
  );
}

/** A figure with its name. */
export function figure(name, value, note = "", { tone = "", key } = {}) {
  return el(
    "div",
    { class: tone ? `figure figure-${tone}` : "figure", "data-key": key },
    el("dt", {}, breakable(name)),
    el("dd", {}, el("span", { class: "figure-value" }, value), note && el("span", { class: "figure-note" }, note)),
  );
}

export const figures = (...children) => el("dl", { class: "figures" }, children);

export const kindBadge = (kind) => el("span", { class: `badge badge-${kind}` }, kind);

/** A view by name, in the colour of its kind. */
export const viewBadge = (name, kind) =>
  el("span", { class: `badge badge-${kind}`, title: `a ${kind} view` }, breakable(name), el("span", { class: "hidden-text" }, ` (${kind})`));

/** A name that may break between its words, and nowhere else. */
export const breakable = (name) => name.split(/(?<=[_:./-])/).flatMap((part, index) => (index ? [el("wbr"), part] : [part]));

/** A name with its type below it. */
export const typed = (name, type) => el("span", { class: "typed" }, el("span", {}, breakable(name)), type && el("span", { class: "type" }, type));

/** Tooltips of statuses. */
const MEANING = {
  present: "stored and decodable",
  default: "not stored; readers get the declared default",
  missing: "not stored: never written, or expired",
  invalid: "the stored bytes cannot be decoded",
  stale: "older than max_age",
  unavailable: "its server did not answer",
  unknown: "stored, but not declared by any view",
  retired: "no longer declared",
  clock: "written by featurekit itself",
};

export const statusBadge = (status) =>
  el("span", { class: `badge status-${status}`, title: MEANING[status] ?? "" }, status);

/** A share as a bar and a number. */
export function shareBar(share, { tone = "plain", text } = {}) {
  return el(
    "span",
    { class: "share" },
    el("span", { class: `bar bar-${tone}`, "aria-hidden": "true" }, el("span", { class: "bar-fill", vars: { "--part": String(share ?? 0) } })),
    el("span", { class: "share-text" }, text ?? (share === null ? "–" : percent(share))),
  );
}

/**
 * A table that becomes cards on a narrow screen.
 *
 * `columns` are `{name, label, right, mono}`; `rows` are lists of cells (nodes or text) or
 * `{key, cells, tone}`. A `compact` table shows each row in two lines there, without labels. Roles are
 * explicit, because the CSS `display` removes the implicit ones.
 */
export function table(caption, columns, rows, { empty = "No rows.", hideCaption = true, compact = false } = {}) {
  const head = columns.map((column) =>
    el("th", { scope: "col", role: "columnheader", class: shapeOf(column) }, column.label ?? column.name),
  );
  const body = rows.map((row) => {
    const { cells, key, tone } = Array.isArray(row) ? { cells: row } : row;
    return el("tr", { role: "row", "data-key": key, class: tone ? `row-${tone}` : null }, cells.map((cell, index) => cellOf(columns[index], cell, index)));
  });
  if (!body.length) {
    body.push(el("tr", { role: "row" }, el("td", { role: "cell", class: "empty-cell", colspan: columns.length }, empty)));
  }
  return el(
    "div",
    { class: "table-wrap" },
    el(
      "table",
      { class: compact ? "table table-compact" : "table", role: "table" },
      el("caption", { class: hideCaption ? "hidden-text" : null }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head)),
      el("tbody", { role: "rowgroup" }, body),
    ),
  );
}

function cellOf(column, cell, index) {
  const label = column.label ?? column.name;
  const attributes = { "data-label": label, class: shapeOf(column) };
  if (index === 0) return el("th", { ...attributes, scope: "row", role: "rowheader" }, cell);
  return el("td", { ...attributes, role: "cell" }, el("span", { class: "cell" }, cell));
}

function shapeOf(column) {
  const shape = [column.right && "right", column.mono && "mono", column.wide && "wide", column.narrow && "narrow", column.labelled && "labelled"];
  return shape.filter(Boolean).join(" ") || null;
}

/** A button that is busy, and disabled, until its work is done. */
export function button(text, work, { tone = "plain", symbol, disabled, label } = {}) {
  const node = el(
    "button",
    { type: "button", class: `button button-${tone}`, disabled, "aria-label": label },
    symbol && icon(symbol),
    el("span", { class: "button-text" }, text),
  );
  node.addEventListener("click", () => busy(node, () => work(node)));
  return node;
}

/** Mark a button as busy until its work is done. */
export async function busy(node, work) {
  if (node.getAttribute("aria-busy") === "true") return;
  node.setAttribute("aria-busy", "true");
  node.disabled = true;
  try {
    await work();
  } finally {
    node.removeAttribute("aria-busy");
    node.disabled = false;
  }
}

/** A control with a label, and a hint below it. */
export function labelled(text, control, hint = "") {
  const id = control.id || `control-${(labelled.next = (labelled.next ?? 0) + 1)}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return el(
    "div",
    { class: "control" },
    el("label", { for: id }, text),
    control,
    hint && el("p", { class: "hint", id: `${id}-hint` }, hint),
  );
}

/** A permanent message: `bad`, `warn`, `good` or `plain`. */
export function message(tone, title, text = "", ...more) {
  return el(
    "div",
    { class: `message message-${tone}`, role: tone === "bad" ? "alert" : "status" },
    el("p", { class: "message-title" }, tone === "bad" || tone === "warn" ? icon("warn") : null, title),
    text && el("p", {}, text),
    more,
  );
}

/**
 * An error of the server; `null` if the banner already reports it.
 *
 * `labels` maps names of the request to labels on the screen.
 */
export function errorMessage(error, labels = {}) {
  if (error.status === 0 || error.status === 503) return null;
  const where = error.where ? `${labels[error.where] ?? error.where}: ` : "";
  return message("bad", `${where}${error.message}`, error.hint);
}

/** An empty state, with the commands that fill it. */
export function emptyState(title, text, ...commands) {
  return el(
    "div",
    { class: "nothing" },
    el("p", { class: "nothing-title" }, title),
    text && el("p", {}, text),
    commands.map((line) => copyable(line)),
  );
}

/** Text with a button that copies it. */
export function copyable(text, label = "") {
  const copied = el("span", { class: "copied", role: "status" });
  const copy = el(
    "button",
    {
      type: "button",
      class: "copy",
      "aria-label": label ? `Copy the ${label} lines` : "Copy the command",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          copied.textContent = "Copied";
        } catch {
          copied.textContent = "Select the text and copy it";
        }
        setTimeout(() => (copied.textContent = ""), 2000);
      },
    },
    icon("copy"),
  );
  return el(
    "div",
    { class: "lines" },
    label && el("p", { class: "lines-label" }, label),
    el("pre", { tabindex: "0", role: "region", "aria-label": label || "command" }, el("code", {}, text)),
    el("div", { class: "lines-tools" }, copied, copy),
  );
}

export const viewLink = (name) => el("a", { class: "name-link", href: href("registry", { q: name }) }, breakable(name));

export const inspectLink = (entity, id) =>
  el("a", { class: "name-link mono", href: href("inspect", { entity, id }) }, id);
