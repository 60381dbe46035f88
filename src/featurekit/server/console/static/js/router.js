// The route: the open panel and its parameters, kept in the address so that links can share them.

/** `#/read?service=fraud_v1` as `{panel: "read", query: URLSearchParams}`. */
export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { panel: path, query: new URLSearchParams(query) };
}

/** The address of a panel; lists in `query` become repeated parameters. */
export function href(panel, query = {}) {
  const text = params(query).toString();
  return `#/${panel}${text ? `?${text}` : ""}`;
}

/** Update the address of the open panel without adding to the browser's history; a panel that was left has no say. */
export function remember(panel, query) {
  const wanted = href(panel, query);
  if (route().panel === panel && location.hash !== wanted) history.replaceState(null, "", wanted);
}

function params(query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") found.append(name, one);
    }
  }
  return found;
}
