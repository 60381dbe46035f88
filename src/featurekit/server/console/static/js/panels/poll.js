// Polling: refreshes the data of an open panel while the store answers, so that no result outlives
// a reset, an expiry or another write.

import { isUp, on } from "../state.js";

/**
 * Send a request every `everyMs`; at most one request is pending.
 *
 * `request` returns a promise. `now()` sends one at once; `end()` stops polling.
 */
export function poll(request, everyMs = 2000) {
  let timer = 0;
  let pending = false;
  let again = false;
  let ended = false;

  const now = async () => {
    if (ended) return;
    if (pending) {
      again = true;
      return;
    }
    pending = true;
    clearTimeout(timer);
    try {
      await request();
    } finally {
      pending = false;
      if (!ended) timer = setTimeout(later, again ? 30 : everyMs);
      again = false;
    }
  };
  const later = () => {
    if (isUp() && document.visibilityState === "visible") now();
    else timer = setTimeout(later, 500);
  };
  const offs = [on("changed", now), on("link", ({ link }) => link === "live" && now())];
  return {
    now,
    end: () => {
      ended = true;
      clearTimeout(timer);
      for (const off of offs) off();
    },
  };
}
