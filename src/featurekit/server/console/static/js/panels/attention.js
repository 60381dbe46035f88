// Problems: late and failed loads, silent streams, waiting workers, rejected events.

import { el } from "../dom.js";
import { ago, counted } from "../format.js";
import { href } from "../router.js";
import { views } from "../state.js";
import { streamAge } from "./view_state.js";

/** A card that lists all problems, each with a link to its panel; `null` if there is none. */
export function attention(live) {
  const found = [...views().flatMap((one) => (one.kind === "batch" ? batchFaults(one, live) : streamFaults(one, live))), ...serverFaults(live.server)];
  if (!found.length) return null;
  return el(
    "section",
    { class: "attention", "aria-labelledby": "attention", "data-key": "attention" },
    el("h2", { id: "attention" }, "Needs attention"),
    el("ul", {}, found.map(([panel, name, text]) => el("li", { "data-key": `${name} ${text}` }, el("a", { class: "name-link", href: href(panel) }, name), " ", text))),
  );
}

function batchFaults(view, live) {
  const run = (live.loads ?? []).find((one) => one.view === view.name);
  if (!run) return [];
  if (run.error) return [["loads", view.name, `failed to load: ${run.error}`]];
  if (run.last_run_ms === null) return [["loads", view.name, "was never loaded."]];
  if (run.late) return [["loads", view.name, `was loaded ${ago(run.age_ms)}; a load is expected every ${view.refresh}.`]];
  return [];
}

function streamFaults(view, live) {
  const life = (live.views ?? []).find((one) => one.view === view.name);
  const feed = (live.feeds ?? []).find((one) => one.view === view.name);
  const workers = (live.workers ?? []).filter((one) => one.view === view.name);
  const found = workers.filter((one) => one.trouble).map((one) => ["stream", view.name, `has a waiting worker: ${one.trouble}`]);
  const since = streamAge(view, life);
  if (life?.sampled && !life.live) found.push(["stream", view.name, "has no live field in any entity; its stream has stopped or never started."]);
  else if (since !== null && since > view.refresh_ms) found.push(["stream", view.name, `was last written ${ago(since)}; a write is expected every ${view.refresh}.`]);
  if (feed?.dead) found.push(["stream", view.name, `has ${counted(feed.dead, "dead letter")}.`]);
  return found;
}

function serverFaults(server) {
  if (!server?.evicted_keys) return [];
  return [["overview", "The server", `evicted ${counted(server.evicted_keys, "key")} because it ran out of memory; unexpired features may be lost.`]];
}
