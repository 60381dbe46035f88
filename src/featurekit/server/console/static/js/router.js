// The route: which panel is open and with what, kept in the address so that a link shares it.

/** `#/read?service=fraud_v1` as `{panel: "read", query: URLSearchParams}`. */
export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { panel: path, query: new URLSearchParams(query) };
}

/** The address of a panel; `query` is an object, lists in it being repeated. */
export function href(panel, query = {}) {
  const text = params(query).toString();
  return `#/${panel}${text ? `?${text}` : ""}`;
}

/** Remember what a panel shows, without another step back. */
export function remember(panel, query) {
  const wanted = href(panel, query);
  if (location.hash !== wanted) history.replaceState(null, "", wanted);
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
