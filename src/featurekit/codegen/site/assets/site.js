// Search, colours, copying, filters of tables, and the tracing of the diagram. All is readable without.
(() => {
  const root = document.body.dataset.root;
  const SUN = "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2";
  const MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z";
  const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
  const DONE = "M5 13l4 4L19 7";
  const MOST = 40;

  function el(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child != null));
    return node;
  }

  function icon(path) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(space, "path");
    line.setAttribute("d", path);
    svg.append(line);
    return svg;
  }

  // Colours.
  const dark = () => getComputedStyle(document.documentElement).getPropertyValue("--scheme").trim() === "dark";
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    const show = () => {
      button.replaceChildren(icon(dark() ? SUN : MOON), el("span", {}, dark() ? "Light" : "Dark"));
      button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = dark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try {
        localStorage.setItem("featurekit-theme", next);
      } catch {
        // Storage is not available; the choice holds for this page only.
      }
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show();
  }

  // Copying.
  for (const block of document.querySelectorAll(".lines")) {
    const button = el("button", { type: "button", class: "copy", "aria-label": "Copy", title: "Copy" }, icon(COPY));
    const said = el("span", { class: "copied", role: "status" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        said.textContent = "copied";
        button.replaceChildren(icon(DONE));
      } catch {
        const range = document.createRange();
        range.selectNodeContents(block.querySelector("code"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        said.textContent = "selected";
      }
      setTimeout(() => {
        said.textContent = "";
        button.replaceChildren(icon(COPY));
      }, 1600);
    });
    block.append(el("div", { class: "lines-tools" }, said, button));
  }

  // Filters of tables.
  for (const box of document.querySelectorAll("[data-filter]")) {
    const input = box.querySelector("input");
    const rows = [...box.parentElement.querySelectorAll("tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
    const none = el("p", { class: "finder-none", hidden: "" }, "Nothing here contains that.");
    box.parentElement.append(none);
    box.hidden = rows.length < 2;
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      none.hidden = shown > 0;
    };
    input.addEventListener("input", filter);
    filter(); // a browser may restore the text
  }

  // The diagram: the way through a box that is pointed at.
  for (const flow of document.querySelectorAll(".flow")) {
    for (const svg of flow.querySelectorAll("svg")) {
      const nodes = new Map([...svg.querySelectorAll(".node")].map((node) => [node.dataset.node, node]));
      const edges = [...svg.querySelectorAll(".edge")];
      const trace = (key) => {
        for (const part of svg.querySelectorAll(".is-traced")) part.classList.remove("is-traced");
        flow.classList.toggle("is-tracing", key !== null);
        if (key === null) return;
        nodes.get(key).classList.add("is-traced");
        for (const [here, there] of [["from", "to"], ["to", "from"]]) {
          const reached = new Set([key]);
          for (let grew = true; grew; ) {
            grew = false;
            for (const edge of edges) {
              if (!reached.has(edge.dataset[here])) continue;
              edge.classList.add("is-traced");
              if (reached.has(edge.dataset[there])) continue;
              reached.add(edge.dataset[there]);
              grew = true;
            }
          }
          for (const each of reached) nodes.get(each).classList.add("is-traced");
        }
      };
      if (nodes.size < 4) continue;
      for (const [key, node] of nodes) {
        const target = node.closest("a") ?? node;
        for (const event of ["pointerenter", "focus"]) target.addEventListener(event, () => trace(key));
        for (const event of ["pointerleave", "blur"]) target.addEventListener(event, () => trace(null));
      }
    }
  }

  // Search.
  const index = (window.featurekitIndex ?? []).map(([kind, name, context, more, address]) => ({
    kind, name, context, more, address,
    low: name.toLowerCase(),
    rest: `${context} ${more} ${kind}`.toLowerCase(),
  }));
  const KINDS = { service: 3, view: 2, entity: 1, feature: 0 };

  function score(entry, words) {
    let sum = 0;
    for (const word of words) {
      const at = entry.low.indexOf(word);
      if (entry.low === word) sum += 100;
      else if (at === 0) sum += 60;
      else if (at > 0) sum += /[^\p{L}\p{N}]/u.test(entry.low[at - 1]) ? 40 : 20;
      else if (entry.rest.includes(word)) sum += 8;
      else return -1;
    }
    return sum + KINDS[entry.kind] - entry.name.length / 100;
  }

  function found(text) {
    const words = text.toLowerCase().split(/[\s:]+/).filter(Boolean);
    if (!words.length) return index.filter((entry) => entry.kind !== "feature").slice(0, MOST).map((entry) => ({ entry, words }));
    return index
      .map((entry) => ({ entry, words, score: score(entry, words) }))
      .filter((hit) => hit.score >= 0)
      .sort((a, b) => b.score - a.score || (a.entry.name < b.entry.name ? -1 : 1));
  }

  function marked(text, words) {
    const low = text.toLowerCase();
    const parts = [];
    let end = 0;
    while (end < text.length && low.length === text.length) {
      const next = words
        .map((word) => [low.indexOf(word, end), word.length])
        .filter(([at]) => at >= 0)
        .sort((a, b) => a[0] - b[0] || b[1] - a[1])[0];
      if (!next) break;
      parts.push(text.slice(end, next[0]), el("mark", {}, text.slice(next[0], next[0] + next[1])));
      end = next[0] + next[1];
    }
    return [...parts, text.slice(end)];
  }

  let selected = 0;
  const list = el("div", { class: "finder-list", role: "listbox", id: "finder-list", "aria-label": "Results" });
  const input = el("input", {
    class: "finder-input", type: "search", placeholder: "Find a feature, view, entity, service or owner",
    "aria-label": "Search the registry", role: "combobox", "aria-expanded": "true", "aria-controls": "finder-list",
    autocomplete: "off", spellcheck: "false",
  });
  const close = el("button", { type: "button", class: "finder-close" }, "Close");
  const count = el("span", { role: "status" });
  const dialog = el(
    "dialog", { class: "finder", "aria-label": "Search" },
    el("div", { class: "finder-head" }, icon("M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.5 16.5 21 21"), input, close),
    list,
    el("p", { class: "finder-foot" }, count, el("span", {}, "↑ ↓ to choose"), el("span", {}, "Enter to open")),
  );
  document.body.append(dialog);

  function select(next) {
    const items = [...list.querySelectorAll(".finder-item")];
    if (!items.length) return;
    selected = (next + items.length) % items.length;
    items.forEach((item, position) => item.setAttribute("aria-selected", String(position === selected)));
    input.setAttribute("aria-activedescendant", items[selected].id);
    items[selected].scrollIntoView({ block: "nearest" });
  }

  function render() {
    const hits = found(input.value);
    list.replaceChildren(
      ...hits.slice(0, MOST).map(({ entry, words }, position) =>
        el(
          "a", { class: "finder-item", href: root + entry.address, role: "option", id: `hit-${position}`, tabindex: "-1", onpointermove: () => select(position), onclick: () => dialog.close() },
          el("span", { class: `badge kind-${entry.kind}` }, entry.kind),
          el("span", { class: "finder-name" }, ...marked(entry.name, words), entry.context ? el("span", { class: "quiet" }, ` of ${entry.context}`) : null),
          entry.more ? el("span", { class: "finder-more" }, ...marked(entry.more, words)) : null,
        ),
      ),
    );
    if (!hits.length) list.append(el("p", { class: "finder-none" }, `Nothing in this registry contains “${input.value}”.`));
    count.textContent = hits.length > MOST ? `the first ${MOST} of ${hits.length}` : `${hits.length} found`;
    input.removeAttribute("aria-activedescendant");
    select(0);
  }

  function open() {
    if (dialog.open) return;
    dialog.showModal();
    input.select();
    render();
  }

  input.addEventListener("input", render);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) select(selected + step);
    else if (event.key === "Escape") dialog.close(); // at once, also with text in the field
    else if (event.key === "Enter" && event.target === input) list.querySelectorAll(".finder-item")[selected]?.click();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
    const command = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if (!slash && !command) return;
    event.preventDefault();
    open();
  });
  for (const button of document.querySelectorAll("[data-search]")) {
    button.hidden = false;
    button.addEventListener("click", open);
  }
})();
