// The server's answers: JSON, with the token of this tab, and errors in its own words.

const TOKEN = "featurekit-token";

/** What went wrong: `status` is that of HTTP, 0 if no answer came. */
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

/** Asks with a deadline, so that a server that hangs is told of as one that is away. */
async function ask(path, options, patienceMs) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), patienceMs);
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, signal: limit.signal });
  } catch {
    throw new ApiError("The console's server does not answer.", { hint: "Is it still running?" });
  } finally {
    clearTimeout(timer);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw failure(response, answer);
  return answer;
}

function failure(response, answer) {
  const { error } = answer;
  if (typeof error === "string") return new ApiError(error, { status: response.status, where: answer.field ?? "" });
  const said = error ?? {};
  return new ApiError(said.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    hint: said.hint ?? "",
    where: said.where ?? "",
  });
}

export function getJson(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return ask(text ? `${path}?${text}` : path, { headers: headers() }, 10_000);
}

export function postJson(path, body = {}, patienceMs = 60_000) {
  return ask(
    path,
    { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) },
    patienceMs,
  );
}

/** The demo's endpoints, which take forms as the original's do. */
export function postForm(path, fields = {}) {
  return ask(path, { method: "POST", headers: headers(), body: new URLSearchParams(fields) }, 60_000);
}
