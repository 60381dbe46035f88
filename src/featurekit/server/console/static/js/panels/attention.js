// What needs attention: late and failed loads, silent streams, waiting workers, refused events.

import { el } from "../dom.js";
import { ago, counted } from "../format.js";
import { href } from "../router.js";
import { views } from "../state.js";
import { streamAge } from "./words.js";

/** A card of what is amiss, each with a link to where more of it is; nothing if all is well. */
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
  if (run.error) return [["loads", view.name, `failed in its last load: ${run.error}`]];
  if (run.last_run_ms === null) return [["loads", view.name, "was never loaded."]];
  if (run.late) return [["loads", view.name, `was loaded ${ago(run.age_ms)}, and is expected every ${view.refresh}.`]];
  return [];
}

function streamFaults(view, live) {
  const life = (live.views ?? []).find((one) => one.view === view.name);
  const feed = (live.feeds ?? []).find((one) => one.view === view.name);
  const workers = (live.workers ?? []).filter((one) => one.view === view.name);
  const found = workers.filter((one) => one.trouble).map((one) => ["stream", view.name, `has a worker that waits: ${one.trouble}`]);
  const since = streamAge(view, life);
  if (life?.sampled && !life.live) found.push(["stream", view.name, "has no live field in any entity: its stream has stopped, or never began."]);
  else if (since !== null && since > view.refresh_ms) found.push(["stream", view.name, `wrote ${ago(since)}, and is expected to every ${view.refresh}.`]);
  if (feed?.dead) found.push(["stream", view.name, `refused ${counted(feed.dead, "event")}, which are among the dead letters.`]);
  return found;
}

function serverFaults(server) {
  if (!server?.evicted_keys) return [];
  return [["overview", "The server", `removed ${counted(server.evicted_keys, "key")} for want of memory: features may be gone that had not expired.`]];
}
