// What all panels share, and word of its changes.

export const state = {
  session: { tokens: false, scope: null, demo: false, writes: false },
  registry: { applied: null },
  /** The newest look at the store; `{}` before the first. */
  live: {},
  /** Points for plots, the oldest first. */
  history: [],
  /** `waiting`, `live`, `store-away` (the store does not answer) or `lost` (our own server). */
  link: "waiting",
};

const listeners = new Map();

/** Call a function at each event of a name: `live`, `link`, `registry`, `changed`. */
export function on(name, listener) {
  if (!listeners.has(name)) listeners.set(name, new Set());
  listeners.get(name).add(listener);
  return () => listeners.get(name).delete(listener);
}

export function tell(name, detail) {
  for (const listener of listeners.get(name) ?? []) listener(detail);
}

export const views = () => state.registry.views ?? [];
export const view = (name) => views().find((found) => found.name === name);
export const entities = () => state.registry.entities ?? [];
export const entity = (name) => entities().find((found) => found.name === name);
export const services = () => state.registry.services ?? [];

/** Whether the store answers, as far as we know. */
export const isUp = () => state.link === "live";
