// Following: what a panel shows is asked for again and again while it is open and the store answers,
// so that no result outlives a reset, an expiry or another write.

import { isUp, on } from "../state.js";

/**
 * Ask now, and then every `everyMs`; at most one request is under way.
 *
 * `ask` returns a promise. `now()` asks at once; `end()` stops it.
 */
export function follow(ask, everyMs = 2000) {
  let timer = 0;
  let asking = false;
  let again = false;
  let ended = false;

  const now = async () => {
    if (ended) return;
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    clearTimeout(timer);
    try {
      await ask();
    } finally {
      asking = false;
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
