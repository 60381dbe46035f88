export type ServiceName = keyof Services;
export type ViewName = keyof Views;

/** The join keys that a request of a service needs. */
export type Entity<S extends ServiceName> = Services[S]["entity"];
/** The features of a service, each with its value and status. */
export type Features<S extends ServiceName> = Services[S]["features"];
/** A row that is written to a view. */
export type WrittenRow<V extends ViewName> = Views[V]["row"];

export type Json = JsonValue | null;
export type JsonValue =
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [name: string]: Json };

/** Seconds that a value has left, and its age if the view keeps event times; with `freshness: true`. */
export interface Freshness {
  ttl_s?: number | null;
  age_s?: number | null;
}

/** A feature without a default: its value is null unless it is present. */
export type OptionalFeature<T> = Freshness &
  (
    | { value: T; status: "present" }
    | { value: null; status: "missing" | "stale" | "invalid" | "unavailable" }
  );

/** A feature with a default, which is its value unless it is present. */
export type DefaultedFeature<T> = Freshness & {
  value: T;
  status: "present" | "default" | "stale" | "invalid" | "unavailable";
};

/** One row of a response, in the order of the entities of the request. */
export interface Row<S extends ServiceName> {
  entity: Entity<S>;
  /** Whether `found_by` is true for every entity and alias. */
  found: boolean;
  /** Whether any of the features is stored, by entity or alias. */
  found_by: Record<Services[S]["groups"], boolean>;
  features: Features<S>;
  /** Why the row could not be read. */
  error?: string;
}

/** The values of the features of a service. */
export type Values<S extends ServiceName> = {
  [F in keyof Features<S>]: Features<S>[F] extends { value: unknown }
    ? Features<S>[F]["value"]
    : never;
};

/** Return the values of a row, without their statuses. */
export function values<S extends ServiceName>(row: Row<S>): Values<S> {
  const cells = Object.entries(row.features as Record<string, { value: unknown }>);
  return Object.fromEntries(cells.map(([name, cell]) => [name, cell.value])) as Values<S>;
}

/** The values that derived features of a service are computed from; `never` if it needs none. */
export type RequestData<S extends ServiceName> = Services[S]["request"];
type Sent<S extends ServiceName> = RequestData<S> | readonly RequestData<S>[];

/** Options of a read. `request` is one object for all entities, or a list with one for each. */
export type ReadOptions<S extends ServiceName> = CommonReadOptions<S> &
  ([RequestData<S>] extends [never]
    ? { request?: never }
    : Record<never, never> extends RequestData<S>
      ? { request?: Sent<S> }
      : { request: Sent<S> });
type ReadArguments<S extends ServiceName> =
  Record<never, never> extends ReadOptions<S> ? [options?: ReadOptions<S>] : [options: ReadOptions<S>];

interface CommonReadOptions<S extends ServiceName> {
  /** Whether to return the remaining seconds of each value. */
  freshness?: boolean;
  /** The maximum age of values by view or alias, such as `2m`; older ones are `stale`. */
  maxAge?: Partial<Record<Services[S]["max_age"], string>>;
  /** Whether to return the other rows if a server of a cluster is unavailable. */
  partial?: boolean;
  /** Seconds until the server gives up. */
  timeoutS?: number;
  signal?: AbortSignal;
}

export interface WriteOptions<V extends ViewName> {
  /** Seconds that these values live, instead of the declared TTL. Only for stream views. */
  ttlS?: Views[V]["kind"] extends "stream" ? number : never;
  signal?: AbortSignal;
}

/** How many rows were written, and how many were not because they are older, expired or repeated. */
export interface Written {
  view: string;
  written: number;
  dropped_older: number;
  dropped_expired: number;
  repeated: number;
}

/** The server refused a request, or could not answer it. */
export class FeatureKitError extends Error {
  override readonly name = "FeatureKitError";
  /** The HTTP status; 0 if the response was received and cannot be used. */
  readonly status: number;
  /** The class of the error, such as `UnknownNameError`. */
  readonly type: string;
  readonly where: string;
  readonly hint: string;

  constructor(status: number, type: string, message: string, where = "", hint = "") {
    super(where ? `${where}: ${message}` : message);
    this.status = status;
    this.type = type;
    this.where = where;
    this.hint = hint;
  }

  /** Whether the same request may succeed later. */
  get isTransient(): boolean {
    return this.status === 503;
  }
}

export interface ClientOptions {
  /** The address of `featurekit serve`, such as `http://127.0.0.1:6566`. */
  baseUrl: string;
  /** A token of the server. */
  token?: string;
  /** Another `fetch`, for tests or proxies. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** Reads and writes features over HTTP. */
export class FeatureClient {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** Read a service for several entities: one row per entity, in order. */
  async readMany<S extends ServiceName>(
    service: S,
    entities: readonly Entity<S>[],
    ...[options]: ReadArguments<S>
  ): Promise<Row<S>[]> {
    const { request, freshness, maxAge: max_age, partial, timeoutS: timeout_s, signal } =
      (options ?? {}) as CommonReadOptions<S> & { request?: Sent<S> };
    const body = { entities, request, freshness, max_age, partial, timeout_s };
    const answer = await this.#post(`/v1/services/${service}/read`, body, signal);
    return (answer as { rows: Row<S>[] }).rows;
  }

  /** Read a service for one entity. */
  async read<S extends ServiceName>(
    service: S,
    entity: Entity<S>,
    ...options: ReadArguments<S>
  ): Promise<Row<S>> {
    const [row] = await this.readMany(service, [entity], ...options);
    if (row === undefined) throw new FeatureKitError(0, "ProtocolError", "the response has no row");
    return row;
  }

  /** Write rows to a batch view, or events to a stream view: all of them, or none. */
  async write<V extends ViewName>(
    view: V,
    rows: readonly WrittenRow<V>[],
    options: WriteOptions<V> = {},
  ): Promise<Written> {
    const body = { rows, ttl_s: options.ttlS };
    return (await this.#post(`/v1/views/${view}/write`, body, options.signal)) as Written;
  }

  async #post(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    const { baseUrl, token, fetch: send = fetch } = this.#options;
    const headers: Record<string, string> = { "Content-Type": "application/json" };
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
    const init: RequestInit = { method: "POST", headers, body: JSON.stringify(body) };
    if (signal !== undefined) init.signal = signal;
    const response = await send(baseUrl.replace(/\/+$/, "") + path, init);
    const text = await response.text();
    if (!response.ok) throw refusal(response.status, text);
    return parseExactly(text);
  }
}

function refusal(status: number, text: string): FeatureKitError {
  let error: Partial<Record<"type" | "message" | "where" | "hint", string>> = {};
  try {
    error = (JSON.parse(text) as { error?: typeof error }).error ?? {};
  } catch {
    // Not of featurekit: a proxy answered.
  }
  const { type = "HTTPError", message = `the server answered ${status}`, where, hint } = error;
  return new FeatureKitError(status, type, message, where, hint);
}

const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/g;

/** Parse JSON, and refuse integers that JavaScript would round. */
function parseExactly(text: string): unknown {
  const tokens = /[0-9]{16}/.test(text) ? text.matchAll(TOKENS) : [];
  for (const [token] of tokens) {
    if (/^-?[0-9]+$/.test(token) && !Number.isSafeInteger(Number(token))) {
      const message = `JavaScript would round ${token}, which is in the response`;
      throw new FeatureKitError(0, "PrecisionError", message);
    }
  }
  return JSON.parse(text);
}
