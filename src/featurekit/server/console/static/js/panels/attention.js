// Problems: late and failed loads, silent streams, waiting workers, rejected events.

import { el } from "../dom.js";
import { counted } from "../format.js";
import { href } from "../router.js";
import { views } from "../state.js";

/** More problems are folded, so that the figures below stay in view. */
const UNFOLDED = 8;

/** A card that lists all problems, each with a link to its panel; `null` if there is none. */
export function attention(live) {
  const found = [...views().flatMap((one) => faults(one, live)), ...serverFaults(live.server)];
  if (!found.length) return null;
  return el(
    "section",
    { class: "attention", "aria-labelledby": "attention", "data-key": "attention" },
    el("h2", { id: "attention" }, "Needs attention"),
    lines(found.slice(0, UNFOLDED)),
    found.length > UNFOLDED ? el("details", {}, el("summary", {}, `${found.length - UNFOLDED} more`), lines(found.slice(UNFOLDED))) : null,
  );
}

const lines = (found) =>
  el("ul", {}, found.map(([panel, name, text]) => el("li", { "data-key": `${name} ${text}` }, el("a", { class: "name-link", href: href(panel) }, name), " ", text)));

function faults(view, live) {
  const panel = view.kind === "stream" ? "stream" : "loads";
  const run = (live.loads ?? []).find((one) => one.view === view.name);
  const feed = (live.feeds ?? []).find((one) => one.view === view.name);
  const workers = (live.workers ?? []).filter((one) => one.view === view.name);
  const found = workers.filter((one) => one.trouble).map((one) => [panel, view.name, `has a waiting worker: ${one.trouble}`]);
  if (run?.reason) found.push([panel, view.name, `is ${run.state === "never" ? "never written" : run.state}: ${run.reason}.`]);
  if (feed?.dead) found.push([panel, view.name, `has ${counted(feed.dead, "dead letter")}.`]);
  return found;
}

function serverFaults(server) {
  if (!server?.evicted_keys) return [];
  return [["overview", "The server", `evicted ${counted(server.evicted_keys, "key")} because it ran out of memory; unexpired features may be lost.`]];
}
