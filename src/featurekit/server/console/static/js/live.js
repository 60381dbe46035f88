// The live stream: one look at the store a second, by server-sent events over fetch, since
// EventSource cannot send a token. It begins again by itself, and silence counts as loss.

import { headers } from "./api.js";
import { state, tell } from "./state.js";

const SILENCE_MS = 2600;
const AGAIN_MS = [300, 600, 1000];
const POINTS = 300;

let tries = 0;
let running = null;

/** Follow the stream until `stop`. */
export function start() {
  if (running) return;
  running = new AbortController();
  follow(running.signal);
}

export function stop() {
  running?.abort();
  running = null;
}

async function follow(signal) {
  while (!signal.aborted) {
    const refused = await once(signal);
    if (signal.aborted) return;
    setLink("lost");
    if (refused) {
      running = null;
      tell("refused");
      return;
    }
    await pause(AGAIN_MS[Math.min(tries++, AGAIN_MS.length - 1)]);
  }
}

/** Reads one connection to its end; true if the server refuses us. */
async function once(signal) {
  const attempt = new AbortController();
  const give = () => attempt.abort();
  signal.addEventListener("abort", give);
  let timer = setTimeout(give, SILENCE_MS);
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
      timer = setTimeout(give, SILENCE_MS);
      const events = (buffer + value).split("\n\n");
      buffer = events.pop();
      for (const event of events) take(JSON.parse(event.slice("data: ".length)));
    }
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", give);
  }
}

function take(document) {
  tries = 0;
  if (document.history) {
    state.history = document.history;
    return;
  }
  const before = state.live;
  state.live = document.store.up ? document : { ...before, ...document };
  if (document.views) {
    state.history.push(point(document));
    if (state.history.length > POINTS) state.history.shift();
  }
  setLink(document.store.up ? "live" : "store-away");
  if (document.fingerprint && document.fingerprint !== state.registry.fingerprint) tell("outdated");
  tell("live", document);
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
  tell("link", { link, before });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
