// Pickers: for a service or single features, and for ids, with suggestions of stored ids.

import { getJson } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { breakable, kindBadge, labelled } from "./parts.js";
import { entity, services, view, views } from "./state.js";

const PICK = ":pick";

/** Selects features: `value` is the name of a service, or a list of `view:field`. */
export class FeaturePicker {
  constructor(query, changed) {
    this.changed = changed;
    this.select = el("select", { class: "input", onchange: () => this.chosen() });
    for (const service of services()) {
      this.select.append(el("option", { value: service.name }, service.name));
    }
    this.select.append(el("option", { value: PICK }, "Select features…"));
    this.boxes = el("div", { class: "pick" });
    this.node = el("div", { class: "stack" }, labelled("Service", this.select), this.boxes);
    this.set(query);
  }

  /** Read the selection from an address. */
  set(query) {
    const picked = query.getAll("feature");
    const service = query.get("service");
    const known = services().some((one) => one.name === service);
    const first = services()[0]?.name ?? PICK;
    this.select.value = picked.length ? PICK : known ? service : first;
    this.picked = new Set(picked.length ? picked : views()[0]?.fields.map((field) => `${views()[0].name}:${field.name}`));
    this.render();
  }

  get value() {
    return this.select.value === PICK ? [...this.picked] : this.select.value;
  }

  /** The selection as part of an address. */
  get query() {
    return this.select.value === PICK ? { feature: [...this.picked] } : { service: this.select.value };
  }

  /** The entities, or aliases of a service, whose ids identify a row; they contain the join keys of all others. */
  get entities() {
    const value = this.value;
    if (typeof value === "string") return services().find((one) => one.name === value)?.groups ?? [];
    const names = [...new Set(value.map((name) => view(name.split(":")[0])?.entity).filter((name) => name && name !== "_global"))];
    const wide = names.map(entity).filter(Boolean).sort((a, b) => b.join_keys.length - a.join_keys.length);
    const needed = [];
    for (const one of wide) {
      const known = new Set(needed.flatMap((other) => other.join_keys.map((part) => part.name)));
      if (!one.join_keys.every((part) => known.has(part.name))) needed.push(one);
    }
    return needed;
  }

  chosen() {
    this.render();
    this.changed();
  }

  render() {
    if (this.select.value !== PICK) {
      fill(this.boxes);
      return;
    }
    fill(this.boxes, views().map((one) => this.group(one)));
  }

  group(one) {
    const boxes = one.fields.map((field) => {
      const name = `${one.name}:${field.name}`;
      const box = el("input", {
        type: "checkbox",
        checked: this.picked.has(name),
        onchange: () => {
          if (box.checked) this.picked.add(name);
          else this.picked.delete(name);
          this.changed();
        },
      });
      return el("label", { class: "check" }, box, el("span", {}, breakable(field.name)));
    });
    return el("fieldset", { class: "pick-group" }, el("legend", {}, one.name, " ", kindBadge(one.kind)), boxes);
  }
}

/** Accepts ids of one entity: several as chips, or just one. */
export class IdPicker {
  constructor(about, { ids = [], many = true, changed }) {
    this.about = about;
    this.ids = ids;
    this.many = many;
    this.changed = changed;
    this.options = el("datalist", { id: `ids-${about.name}` });
    this.input = el("input", {
      class: "input mono",
      type: "text",
      list: `ids-${about.name}`,
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "off",
      placeholder: about.join_keys.map((part) => part.name).join(":"),
      oninput: (event) => this.typed(event),
      onchange: () => (this.many ? this.add(this.input.value) : this.changed()),
      onkeydown: (event) => this.key(event),
      onfocus: () => this.suggest(),
      onpaste: (event) => this.pasted(event),
    });
    if (!many) this.input.value = ids[0] ?? "";
    this.chips = el("ul", { class: "chips", "aria-label": `Selected ids of ${about.name}` });
    const parts = about.join_keys.map((part) => `${part.name} (${part.type})`).join(", ");
    const hint = many ? `${parts}. Press Enter to add an id; paste several ids as lines.` : `${parts}.`;
    this.node = el("div", { class: "stack-tight" }, labelled(many ? `Ids of ${about.name}` : `Id of ${about.name}`, this.input, hint), many && this.chips, this.options);
    this.render();
  }

  /** The entity that the ids are of; `about` may be an alias. */
  get entity() {
    return this.about.entity ?? this.about.name;
  }

  get value() {
    const typed = this.input.value.trim();
    if (this.many) return this.ids;
    return typed ? [typed] : [];
  }

  add(id) {
    const text = id.trim();
    this.input.value = "";
    if (!text) return;
    if (!this.ids.includes(text)) this.ids = [...this.ids, text];
    this.render();
    this.changed();
  }

  remove(id) {
    this.ids = this.ids.filter((one) => one !== id);
    this.render();
    this.changed();
    this.input.focus();
  }

  typed(event) {
    // Some browsers send a chosen suggestion without an input type.
    const chosen = !event.inputType || event.inputType === "insertReplacementText";
    if (chosen && this.input.value) {
      if (this.many) this.add(this.input.value);
      else this.changed();
    } else this.suggest();
  }

  key(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      if (this.many) this.add(this.input.value);
      else this.changed();
    } else if (event.key === "Backspace" && this.many && !this.input.value && this.ids.length) {
      this.remove(this.ids.at(-1));
    }
  }

  pasted(event) {
    const lines = event.clipboardData.getData("text").split(/[\r\n]+/).filter((line) => line.trim());
    if (!this.many || lines.length < 2) return;
    event.preventDefault();
    for (const line of lines) this.add(line);
  }

  suggest() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        const found = await getJson("api/ids", { entity: this.entity, q: this.input.value.trim() });
        fill(this.options, found.ids.map((id) => el("option", { value: id })));
      } catch {
        fill(this.options); // no suggestions
      }
    }, 120);
  }

  render() {
    fill(
      this.chips,
      this.ids.map((id) =>
        el("li", { class: "chip" }, el("span", { class: "mono" }, id), el("button", { type: "button", "aria-label": `Remove ${id}`, onclick: () => this.remove(id) }, icon("close"))),
      ),
    );
  }
}

/** The first stored id, with a value of a view if one is named; empty if there is none or the server does not answer. */
export async function anyId(entityName, view = "") {
  try {
    return (await getJson("api/ids", { entity: entityName, view })).ids[0] ?? "";
  } catch {
    return "";
  }
}
