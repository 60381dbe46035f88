// The application: access, the applied registry and the open panel.

import { getJson, token } from "./api.js";
import { redraw } from "./chart.js";
import { el, fill, icon } from "./dom.js";
import * as live from "./live.js";
import { askToken, banner, toast } from "./notices.js";
import { emptyState, errorMessage } from "./parts.js";
import { href, route } from "./router.js";
import { on, state, emit } from "./state.js";
import { batch } from "./panels/batch.js";
import { demo } from "./panels/demo.js";
import { inspect } from "./panels/inspect.js";
import { loads } from "./panels/loads.js";
import { overview } from "./panels/overview.js";
import { read } from "./panels/read.js";
import { registry } from "./panels/registry.js";
import { stream } from "./panels/stream.js";
import { training } from "./panels/training.js";

const PANELS = [
  ["demo", "Demo", demo],
  ["overview", "Overview", overview],
  ["registry", "Registry", registry],
  ["read", "Read", read],
  ["batch", "Batch read", batch],
  ["inspect", "Inspect", inspect],
  ["stream", "Stream", stream],
  ["loads", "Loads", loads],
  ["training", "Training", training],
];

const LINKS = {
  waiting: "Connecting…",
  live: "Live",
  "store-away": "Store unavailable",
  lost: "Server unavailable",
};

/** The banner for a store that the registry was not applied to. */
const FOREIGN = {
  replaced: ["The store was flushed or replaced, or another registry was applied to it.", "Reads go on; loads, streams and resets are refused. Run featurekit apply, then load the views again."],
  lost: ["The store has lost the project's id, by eviction or a flush.", "Reads go on; loads, streams and resets are refused until featurekit apply renews it. Set maxmemory-policy noeviction."],
};

const byId = (id) => document.getElementById(id);

let open = null;
let openName = "";
let shownStore;

const shown = () => PANELS.filter(([name]) => name !== "demo" || state.session.demo);

function renderTabs() {
  const now = route().panel || shown()[0][0];
  fill(
    byId("tabs"),
    shown().map(([name, title]) =>
      el("li", {}, el("a", { href: href(name), class: "tab", "aria-current": name === now ? "page" : null }, icon(name), el("span", {}, title))),
    ),
  );
}

function renderTools() {
  const dark = () => getComputedStyle(document.documentElement).getPropertyValue("--scheme").trim() === "dark";
  const theme = el("button", {
    type: "button",
    class: "tool",
    onclick: () => {
      const next = dark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try {
        localStorage.setItem("featurekit-theme", next);
      } catch {
        // Storage is not available; the choice holds for this page only.
      }
      renderTools();
      redraw();
      byId("tools").querySelector("button").focus();
    },
  }, icon(dark() ? "sun" : "moon"), dark() ? "Light" : "Dark");
  const leave = state.session.tokens && token.get()
    ? el("button", { type: "button", class: "tool", onclick: () => { token.set(""); location.reload(); } }, icon("key"), "Forget token")
    : null;
  fill(byId("tools"), theme, leave);
}

function renderLink() {
  const node = byId("link-state");
  node.dataset.link = state.link;
  fill(node, el("span", { class: "dot", "aria-hidden": "true" }), LINKS[state.link]);
  document.body.dataset.link = state.link;
  if (state.link === "store-away") {
    const { message = "", hint = "", refused = false } = state.live.store ?? {};
    banner(refused ? "The store refuses a command of the console." : "The store does not answer.", `${sentence(message)}${sentence(hint)}The page shows the last known data and keeps trying.`);
  } else if (state.link === "lost") {
    banner("The console's server does not answer.", "The page shows the last known data and keeps trying; you do not need to reload it.");
  } else banner(...(FOREIGN[state.live.store?.state] ?? [""]));
  shownStore = state.live.store?.state;
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."} ` : "");

function openPanel() {
  const { panel, query } = route();
  const found = shown().find(([name]) => name === panel) ?? shown()[0];
  const [name, title, make] = found;
  renderTabs();
  document.title = `${title} · ${state.registry.project ?? "featurekit"}`;
  if (openName === name && open?.update) {
    open.update(query);
    return;
  }
  open?.end?.();
  const box = fill(byId("panel"));
  openName = name;
  open = null;
  if (!state.registry.applied && name !== "demo") {
    fill(box, emptyState("Nothing is applied yet", "The console shows the applied registry. In the folder of featurerepo.yaml, run:", "featurekit plan\nfeaturekit apply"));
    return;
  }
  open = make(box, query) ?? null;
  scrollTo(0, 0);
}

async function loadRegistry() {
  state.registry = await getJson("api/registry");
  byId("project").textContent = state.registry.project ?? "";
  emit("registry");
}

let reloading = false;

/** Reload the registry after a change and reopen the panel. */
async function reloadRegistry() {
  if (reloading || state.registry.applied === null) return;
  reloading = true;
  try {
    const before = state.registry.fingerprint;
    await loadRegistry();
    if (before === state.registry.fingerprint) return;
    if (open?.onRegistryChange) {
      open.onRegistryChange();
      return;
    }
    if (before) toast("plain", "A new registry was applied; the console now shows it.");
    openName = "";
    openPanel();
  } catch {
    // The live stream reports that the server is unavailable and retries.
  } finally {
    reloading = false;
  }
}

async function enter() {
  let refused = false;
  for (;;) {
    state.session = await getJson("api/session");
    if (state.session.scope) return;
    if (refused || token.get()) refused = true;
    token.set("");
    const given = await askToken(refused);
    token.set(given ?? "");
    refused = Boolean(given);
  }
}

async function begin() {
  try {
    await enter();
    renderTools();
    live.start();
    await loadRegistry();
    openPanel();
  } catch (error) {
    fill(byId("panel"), errorMessage(error) ?? emptyState("Waiting for the server", "The console starts as soon as the server answers."));
    if (state.link === "waiting") state.link = "lost";
    renderLink();
    setTimeout(begin, 1000);
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
addEventListener("hashchange", openPanel);
on("link", renderLink);
on("live", () => {
  if (state.link === "store-away" || shownStore !== state.live.store?.state) renderLink();
});
on("outdated", reloadRegistry);
on("refused", () => {
  token.set("");
  begin();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renderTools);
renderTools();
renderLink();
begin();
