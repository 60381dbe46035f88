// Requests to the server, with the token of this tab.

const TOKEN = "featurekit-token";

/** A failed request; `status` is the HTTP status, or 0 if the server did not answer. */
export class ApiError extends Error {
  constructor(message, { status = 0, hint = "", where = "" } = {}) {
    super(message);
    this.status = status;
    this.hint = hint;
    this.where = where;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
};

export function headers(more = {}) {
  const held = token.get();
  return held ? { ...more, Authorization: `Bearer ${held}` } : more;
}

/** Send a request with a timeout, so that a hanging server is reported as unavailable. */
async function request(path, options, timeoutMs) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutMs);
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, signal: limit.signal });
  } catch {
    throw new ApiError("The console's server does not answer.", { hint: "Check that it is running." });
  } finally {
    clearTimeout(timer);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw failure(response, answer);
  return answer;
}

function failure(response, answer) {
  const { error } = answer;
  if (typeof error === "string") {
    const where = answer.field ?? "";
    return new ApiError(error.startsWith(`${where}: `) ? error.slice(where.length + 2) : error, { status: response.status, where });
  }
  const said = error ?? {};
  return new ApiError(said.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    hint: said.hint ?? "",
    where: said.where ?? "",
  });
}

export function getJson(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return request(text ? `${path}?${text}` : path, { headers: headers() }, 10_000);
}

export function postJson(path, body = {}, timeoutMs = 60_000) {
  return request(
    path,
    { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) },
    timeoutMs,
  );
}

/** Send a form to one of the demo's endpoints. */
export function postForm(path, fields = {}) {
  return request(path, { method: "POST", headers: headers(), body: new URLSearchParams(fields) }, 60_000);
}
