// Create and update elements. Text is always set as text: nothing here parses HTML.

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open", "indeterminate"]);
const SVG = "http://www.w3.org/2000/svg";

/** Create an element with attributes, listeners (`onclick`) and children (nodes, text, lists, `null`). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  return append(node, children);
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** Replace all children of a node. */
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/**
 * Make the children of a node equal to new ones, but keep existing nodes of the same kind, so that
 * focus, selection and scroll position survive. The listeners of a new node are lost if an old one is
 * kept, so content updated this way must not have listeners.
 */
export function patch(node, ...children) {
  const wanted = append(document.createDocumentFragment(), children);
  align(node, wanted);
  return node;
}

function align(node, wanted) {
  const olds = [...node.childNodes];
  const news = [...wanted.childNodes];
  news.forEach((fresh, index) => {
    const old = olds[index];
    if (!old) node.append(fresh);
    else if (alike(old, fresh)) adopt(old, fresh);
    else old.replaceWith(fresh);
  });
  for (const old of olds.slice(news.length)) old.remove();
}

function alike(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return false;
  return old.nodeType !== Node.ELEMENT_NODE || old.dataset?.key === fresh.dataset?.key;
}

function adopt(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (name === "open") continue; // the user opens and closes details
    if (name === "style") old.style.cssText = fresh.style.cssText;
    else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  align(old, fresh);
}

const PATHS = {
  overview: "M3 12h4l2-6 4 12 2-6h6",
  registry: "M5 4h14v16H5zM9 8h6M9 12h6M9 16h4",
  read: "M4 6h10M4 12h16M4 18h7M18 15v6M15 18h6",
  batch: "M5 20V10M12 20V4M19 20v-7",
  inspect: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.5 16.5 21 21",
  stream: "M3 8c3-4 6 4 9 0s6 4 9 0M3 16c3-4 6 4 9 0s6 4 9 0",
  loads: "M12 3v12M7 10l5 5 5-5M4 20h16",
  training: "M2 9l10-5 10 5-10 5zM6 11v5c3 3 9 3 12 0v-5",
  demo: "M7 4v16l13-8z",
  pause: "M8 5v14M16 5v14",
  play: "M7 4v16l13-8z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  key: "M15 4a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM11.5 12.5 4 20M7 17l2 2",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  close: "M6 6l12 12M18 6 6 18",
  warn: "M12 4 2.5 20h19zM12 10v4M12 17v.5",
};

/** A decorative icon; its meaning is in the text next to it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"], ["focusable", "false"]]) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}
