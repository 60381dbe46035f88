// Registry: the applied entities, views and services, with their descriptions.

import { el, fill } from "../dom.js";
import { counted, moment } from "../format.js";
import { breakable, card, heading, kindBadge, emptyState, table } from "../parts.js";
import { href, remember } from "../router.js";
import { entities, services, state, views } from "../state.js";

const FIELD_COLUMNS = [
  { name: "Field", mono: true },
  { name: "Type", mono: true },
  { name: "Default", mono: true },
  { name: "TTL" },
  { name: "Rules" },
  { name: "About", wide: true },
];

/** A longer source is folded below the other facts. */
const LONG = 80;

export function registry(box, query) {
  const list = el("div", { class: "stack" });
  const search = el("input", {
    class: "input",
    type: "search",
    "aria-label": "Find an entity, view, field, service, owner or tag",
    placeholder: "Find a field, owner, tag…",
    value: query.get("q") ?? "",
    oninput: () => {
      remember("registry", { q: search.value });
      render();
    },
  });
  const render = () => fill(list, found(search.value.trim().toLowerCase()));
  fill(
    box,
    heading("Registry", `${counted(entities().length, "entity", "entities")}, ${counted(views().length, "view")}, ${counted(services().length, "service")}; fingerprint ${state.registry.fingerprint.slice(0, 16)}.`, search),
    list,
  );
  render();
  return {
    update: (next) => {
      search.value = next.get("q") ?? "";
      render();
    },
  };
}

function found(text) {
  const has = (...parts) => !text || parts.flat().some((part) => String(part).toLowerCase().includes(text));
  const inView = (one) => has(one.name, one.entity, one.owner, one.description, tagTexts(one));
  const cards = [];
  const entityCards = entities().filter((one) => has(one.name, one.owner, one.description, one.join_keys.map((part) => part.name), tagTexts(one)));
  if (entityCards.length) cards.push(entityCard(entityCards));
  for (const one of views()) {
    const fields = one.fields.filter((field) => inView(one) || has(field.name, field.type, field.owner, field.description, tagTexts(field), field.services));
    if (inView(one) || fields.length) cards.push(viewCard(one, fields));
  }
  const asked = services().filter((one) => has(one.name, one.owner, one.description, one.features, tagTexts(one)));
  if (asked.length) cards.push(serviceCard(asked));
  if (!text) cards.push(historyCard());
  if (!cards.length) return emptyState("Nothing found", `No applied definition contains “${text}”.`);
  return cards;
}

const tagTexts = (one) => Object.entries(one.tags ?? {}).map(([name, text]) => `${name}=${text}`);

function tags(one) {
  return tagTexts(one).map((text) => el("span", { class: "tag" }, text));
}

function retiring(one) {
  if (!one.deprecated) return null;
  return el("span", { class: "badge status-missing" }, one.deprecated === "yes" ? "deprecated" : `deprecated: ${one.deprecated}`);
}

function entityCard(shown) {
  const columns = [{ name: "Entity" }, { name: "Join keys", mono: true }, { name: "Key in the store", mono: true }, { name: "Views" }, { name: "About", wide: true }];
  const rows = shown.map((one) => [
    breakable(one.name),
    breakable(one.join_keys.map((part) => `${part.name}: ${part.type}`).join(", ")),
    breakable(one.key),
    el("span", { class: "words" }, one.views.length ? one.views.map((name) => el("span", {}, breakable(name))) : "none"),
    el(
      "span",
      { class: "about" },
      one.description,
      retiring(one),
      one.retired.length ? el("span", { class: "quiet" }, `Retired fields, deleted by the next load: ${one.retired.join(", ")}.`) : null,
      one.owner && el("span", { class: "quiet" }, one.owner),
      tags(one),
    ),
  ]);
  return card("Entities", {}, filled("Entities", columns, rows));
}

function viewCard(one, fields) {
  const facts = [
    ["Entity", one.entity],
    ["Written", one.kind === "batch" ? `in batches, expected every ${one.refresh}` : `by a stream, expected every ${one.refresh}`],
    ["Expires", one.expires],
    ["Source", one.source.length > LONG ? `${one.source.split(" ")[0]}, see below` : one.source],
    ["Ordering", one.ordering],
    ["Owner", one.owner],
  ].filter(([, text]) => text);
  const rows = fields.map((field) => [
    breakable(field.name),
    field.type,
    field.has_default ? field.default || "“”" : el("span", { class: "quiet" }, "–"),
    field.ttl,
    field.rules || el("span", { class: "quiet" }, "–"),
    el("span", { class: "about" }, field.description, retiring(field), field.owner && el("span", { class: "quiet" }, field.owner), tags(field)),
  ]);
  return card(
    one.name,
    { id: `view-${one.name}`, tools: el("span", { class: "pair" }, kindBadge(one.kind), retiring(one)) },
    one.description && el("p", { class: "lead" }, one.description),
    el("dl", { class: "facts" }, facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, breakable(text))))),
    one.source.length > LONG ? el("details", { class: "source" }, el("summary", {}, "Full source"), el("pre", {}, one.source)) : null,
    tags(one).length ? el("p", { class: "tags" }, tags(one)) : null,
    filled(`Fields of ${one.name}`, FIELD_COLUMNS, rows),
  );
}

/** A table without its empty columns. */
function filled(caption, columns, rows) {
  const says = (cell) => (cell instanceof Node ? !["", "–"].includes(cell.textContent) : Boolean(cell?.length ?? cell));
  const kept = columns.map((_, index) => index === 0 || rows.some((row) => says(row[index])));
  return table(caption, columns.filter((_, index) => kept[index]), rows.map((row) => row.filter((_, index) => kept[index])));
}

function serviceCard(shown) {
  const columns = [{ name: "Service" }, { name: "Entities" }, { name: "Features", wide: true }, { name: "About", wide: true }];
  const rows = shown.map((one) => [
    el("a", { class: "name-link", href: href("read", { service: one.name }) }, breakable(one.name)),
    one.entities.join(", "),
    el("span", { class: "words" }, one.features.map((name) => el("code", {}, breakable(name)))),
    el("span", { class: "about" }, one.description, retiring(one), one.owner && el("span", { class: "quiet" }, one.owner), tags(one)),
  ]);
  return card("Services", {}, table("Services", columns, rows));
}

function historyCard() {
  const applies = state.registry.history ?? [];
  const columns = [{ name: "When" }, { name: "Registry", mono: true }, { name: "By" }, { name: "Changes", wide: true }];
  const rows = applies.map((one) => [
    moment(one.at_ms),
    one.after.slice(0, 16),
    one.who || "–",
    one.changes.length ? el("ul", { class: "changes" }, one.changes.map((change) => el("li", {}, el("span", { class: `badge change-${change.kind}` }, change.kind), " ", change.subject, change.detail && `: ${change.detail}`))) : el("span", { class: "quiet" }, "descriptions only"),
  ]);
  if (!rows.length) {
    rows.push(["now", state.registry.fingerprint.slice(0, 16), "–", "Applied; no history is recorded."]);
  }
  return card("Change history", { note: "newest first" }, table("Change history", columns, rows));
}
