// The state that all panels share, and its events.

export const state = {
  session: { tokens: false, scope: null, demo: false, writes: false },
  registry: { applied: null },
  /** The newest sample of the store; `{}` before the first. */
  live: {},
  /** Points for charts, oldest first. */
  history: [],
  /** `waiting`, `live`, `store-away` (the store does not answer) or `lost` (the console's server does not). */
  link: "waiting",
};

const listeners = new Map();

/** Register a listener for `live`, `link`, `registry` or `changed`; returns a function that removes it. */
export function on(name, listener) {
  if (!listeners.has(name)) listeners.set(name, new Set());
  listeners.get(name).add(listener);
  return () => listeners.get(name).delete(listener);
}

export function emit(name, detail) {
  for (const listener of listeners.get(name) ?? []) listener(detail);
}

export const views = () => state.registry.views ?? [];
export const view = (name) => views().find((found) => found.name === name);
export const entities = () => state.registry.entities ?? [];
export const entity = (name) => entities().find((found) => found.name === name);
export const services = () => state.registry.services ?? [];

/** Whether the store answered at the last sample. */
export const isUp = () => state.link === "live";
