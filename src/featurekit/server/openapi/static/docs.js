// The API page: loads the OpenAPI document and shows it. Text is set as text, never as markup.

const METHODS = ["get", "post", "put", "delete"];
const DEPTH = 6;
let api = {};
let token = "";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolve(thing) {
  let found = thing;
  while (found && found.$ref) {
    found = found.$ref.slice(2).split("/").reduce((place, key) => place[key], api);
  }
  return found || {};
}

function typeText(given) {
  const schema = resolve(given);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(typeText).join(" | ");
  if (schema.type === "array") return `[${typeText(schema.items || {})}]`;
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any";
  return schema.format ? `${type} (${schema.format})` : type;
}

function rules(schema) {
  const texts = [];
  const names = {
    minimum: "at least", exclusiveMinimum: "above", maximum: "at most", exclusiveMaximum: "below",
    maxLength: "characters at most", maxItems: "items at most", pattern: "matches",
  };
  const options = [schema, ...(schema.anyOf || [])];
  for (const [name, words] of Object.entries(names)) {
    const found = options.find((option) => name in option);
    if (found && Math.abs(Number(found[name])) !== 2 ** 63) texts.push(`${words} ${found[name]}`);
  }
  if ("default" in schema) texts.push(`default ${JSON.stringify(schema.default)}`);
  return texts.join(", ");
}

function rows(given, prefix = "", depth = 0) {
  const schema = resolve(given);
  if (depth > DEPTH) return [];
  if (schema.type === "array") return rows(schema.items || {}, `${prefix}[]`, depth + 1);
  return Object.entries(schema.properties || {}).flatMap(([name, own]) => {
    const member = resolve(own);
    const path = prefix ? `${prefix}.${name}` : name;
    const must = (schema.required || []).includes(name) ? "required" : "";
    const text = [must, rules(member), member.description].filter(Boolean).join("; ");
    const row = element("tr", {},
      element("td", { textContent: path }),
      element("td", { textContent: typeText(member) }),
      element("td", { textContent: text }));
    return [row, ...rows(member, path, depth + 1)];
  });
}

function example(given, depth = 0) {
  const schema = resolve(given);
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.examples) return schema.examples[0];
  if (schema.anyOf) return example(schema.anyOf[0], depth);
  if (depth > DEPTH) return null;
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object") {
    const wanted = Object.keys(schema.properties || {}).filter(
      (name) => (schema.required || []).includes(name) || depth > 1);
    return Object.fromEntries(wanted.map((name) => [name, example(schema.properties[name], depth + 1)]));
  }
  if (type === "array") {
    return Array.from({ length: Math.max(1, schema.minItems || 1) }, () => example(schema.items || {}, depth + 1));
  }
  if (schema.format === "date") return "2026-11-22";
  if (schema.format === "date-time") return "2026-11-22T08:30:00Z";
  if (schema.contentEncoding) return "AA==";
  if (type === "integer" || type === "number") return Math.max(1, schema.minimum || 1);
  if (type === "boolean") return true;
  return type === "string" ? "u0001" : null;
}

function schemaOf(content) {
  return content && content["application/json"] ? content["application/json"].schema : null;
}

function schemaSection(title, schema) {
  const made = schema ? rows(schema) : [];
  if (!schema) return null;
  const inside = made.length
    ? element("table", {}, element("tbody", {}, ...made))
    : element("p", { className: "note", textContent: typeText(schema) });
  return element("section", {}, element("h3", { textContent: title }), inside);
}

function parametersOf(item, operation) {
  return [...(item.parameters || []), ...(operation.parameters || [])].map(resolve);
}

function tryForm(method, path, item, operation) {
  const schema = schemaOf(resolve(operation.requestBody).content);
  const fields = parametersOf(item, operation).map((parameter) => {
    const id = `${operation.operationId}-${parameter.name}`;
    const field = element("input", { id, value: parameter.in === "path" ? example(parameter.schema) : "" });
    return { parameter, field, label: element("label", { htmlFor: id, textContent: parameter.name }) };
  });
  const body = schema ? element("textarea", {
    value: JSON.stringify(example(schema), null, 2), spellcheck: false, ariaLabel: "Body",
  }) : null;
  const output = element("pre", { hidden: true, role: "status" });
  const send = element("button", { type: "submit", textContent: "Send" });
  const form = element("form", {}, element("h3", { textContent: "Try it" }),
    ...fields.map(({ label, field }) => element("p", {}, label, field)), body, send, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    output.hidden = false;
    output.textContent = "…";
    try {
      output.textContent = await ask(method, address(path, fields), body ? body.value : null);
    } catch (error) {
      output.textContent = `no answer: ${error.message}`;
    }
    send.disabled = false;
  });
  return form;
}

function address(path, fields) {
  const query = new URLSearchParams();
  let place = path;
  for (const { parameter, field } of fields) {
    if (parameter.in === "path") place = place.replace(`{${parameter.name}}`, encodeURIComponent(field.value));
    else if (field.value) query.set(parameter.name, field.value);
  }
  const text = query.toString();
  return text ? `${place}?${text}` : place;
}

async function ask(method, path, body) {
  const began = performance.now();
  const answer = await fetch(`.${path}`, { method: method.toUpperCase(), headers: headers(body), body });
  const text = await answer.text();
  const took = (performance.now() - began).toFixed(1);
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch { /* not JSON: shown unformatted */ }
  return `${answer.status} ${answer.statusText} in ${took} ms\n${shown}`;
}

function headers(body) {
  const result = {};
  if (token) result.Authorization = `Bearer ${token}`;
  if (body !== null) result["Content-Type"] = "application/json";
  return result;
}

function curl(method, path, operation) {
  const parts = ["curl"];
  if (api.security) parts.push("-H 'Authorization: Bearer TOKEN'");
  const schema = schemaOf(resolve(operation.requestBody).content);
  const place = new URL(`.${path}`, document.baseURI).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
  if (schema) {
    const body = JSON.stringify(example(schema)).replaceAll("'", "'\\''");
    parts.push("-H 'Content-Type: application/json'", `-d '${body}'`);
  }
  parts.push(place);
  return element("pre", { textContent: parts.join(" \\\n  ") });
}

function show(path, method, item) {
  const operation = item[method];
  const answers = Object.entries(operation.responses || {}).map(([status, given]) => {
    const response = resolve(given);
    return status < "300" ? schemaSection(`${status}: ${response.description}`, schemaOf(response.content))
      || element("h3", { textContent: `${status}: ${response.description}` }) : null;
  });
  const errors = Object.entries(operation.responses || {}).filter(([status]) => status >= "300")
    .map(([status, given]) => `${status} ${resolve(given).description}`).join("  ");
  const inside = element("div", { className: "inside" },
    operation.description ? element("p", { textContent: operation.description }) : null,
    schemaSection("Body", schemaOf(resolve(operation.requestBody).content)),
    ...answers,
    errors ? element("p", { className: "note", textContent: errors }) : null,
    element("h3", { textContent: "curl" }), curl(method, path, operation),
    tryForm(method, path, item, operation));
  return inside;
}

function entry(path, method, item) {
  const operation = item[method];
  const summary = element("summary", {},
    element("b", { className: `method ${method}`, textContent: method.toUpperCase() }),
    element("code", { textContent: path }),
    element("span", { textContent: operation.summary || "" }));
  const made = element("details", { className: operation.deprecated ? "deprecated" : "" }, summary);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(show(path, method, item));
  });
  return made;
}

function draw() {
  document.title = api.info.title;
  document.getElementById("title").textContent = api.info.title;
  document.getElementById("about").textContent = api.info.description;
  const sections = (api.tags || []).map(({ name }) => {
    const entries = Object.entries(api.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method] && (item[method].tags || []).includes(name))
        .map((method) => entry(path, method, item)));
    return element("section", {}, element("h2", { textContent: name }), ...entries);
  });
  document.getElementById("operations").replaceChildren(...sections);
}

async function load() {
  const notice = document.getElementById("notice");
  const access = document.getElementById("access");
  try {
    const answer = await fetch("openapi.json", { headers: headers(null) });
    access.hidden = access.hidden && answer.status !== 401;
    if (!answer.ok) {
      const { error } = await answer.json();
      notice.textContent = error.message;
      return;
    }
    api = await answer.json();
    notice.textContent = "";
    draw();
  } catch (error) {
    notice.textContent = `The server does not answer: ${error.message}`;
  }
}

document.getElementById("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value;
  load();
});
load();
