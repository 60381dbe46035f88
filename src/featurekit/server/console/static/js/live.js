// The live stream: one sample of the store per second, by server-sent events over fetch, because
// EventSource cannot send a token. It reconnects by itself, and treats silence as a lost connection.

import { headers } from "./api.js";
import { state, emit } from "./state.js";

const SILENCE_MS = 2600;
const RETRY_MS = [300, 600, 1000];
const HISTORY_MS = 300_000;

let attempts = 0;
let running = null;

/** Receive the stream until `stop`. */
export function start() {
  if (running) return;
  running = new AbortController();
  receive(running.signal);
}

export function stop() {
  running?.abort();
  running = null;
}

async function receive(signal) {
  while (!signal.aborted) {
    const refused = await connect(signal);
    if (signal.aborted) return;
    setLink("lost");
    if (refused) {
      running = null;
      emit("refused");
      return;
    }
    await pause(RETRY_MS[Math.min(attempts++, RETRY_MS.length - 1)]);
  }
}

/** Read one connection to its end; true if the server refuses access. */
async function connect(signal) {
  const attempt = new AbortController();
  const abort = () => attempt.abort();
  signal.addEventListener("abort", abort);
  let timer = setTimeout(abort, SILENCE_MS);
  try {
    const response = await fetch("api/live", { headers: headers(), cache: "no-store", signal: attempt.signal });
    if (response.status === 401 || response.status === 403) return true;
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
      const events = (buffer + value).split("\n\n");
      buffer = events.pop();
      for (const event of events) take(JSON.parse(event.slice("data: ".length)));
    }
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

function take(document) {
  attempts = 0;
  if (document.history) {
    state.history = document.history;
    return;
  }
  const before = state.live;
  state.live = document.store.up ? document : { ...before, ...document };
  if (document.views) {
    state.history.push(point(document));
    while (state.history[0].at_ms < document.at_ms - HISTORY_MS) state.history.shift();
  }
  setLink(document.store.up ? "live" : "store-away");
  if (document.fingerprint && document.fingerprint !== state.registry.fingerprint) emit("outdated");
  emit("live", document);
}

function point(document) {
  return {
    at_ms: document.at_ms,
    live: Object.fromEntries(document.views.map((view) => [view.view, view.live])),
    present: Object.fromEntries(document.entities.map((entity) => [entity.entity, entity.present])),
    commands: document.server.commands_per_second,
    events: Object.fromEntries(document.feeds.map((feed) => [feed.view, feed.events])),
    rates: rates(document.workers),
  };
}

function rates(workers) {
  const found = {};
  for (const one of workers) found[one.view] = (found[one.view] ?? 0) + one.events_per_second;
  return found;
}

function setLink(link) {
  if (state.link === link) return;
  const before = state.link;
  state.link = link;
  emit("link", { link, before });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
