"""`featurekit generate typescript` passes the strictest compiler, which refuses bad callers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurekit.codegen.typescript import typescript_module
from featurekit.server.context import ServerContext
from tests.codegen.repositories import PAYMENTS
from tests.generators.compiler import compile_typescript, require_typescript, run_node
from tests.generators.registries import DEFINITIONS, HOSTILE, registry, wide
from tests.promise.repos import FRAUD, applied
from tests.server.server_process import listening
from tests.servers import Server

GOOD = """
import { FeatureClient, FeatureKitError, values } from "./features.js";
import type { Features, Row, Values, WrittenRow } from "./features.js";

const client = new FeatureClient({ baseUrl: process.argv[2] ?? "" });
const event: WrittenRow<"activity"> = { user_id: "u1", tx_count_5m: 3, device: null };
const written: number = (await client.write("activity", [event], { ttlS: 60 })).written;
const row: Row<"fraud_v1"> = await client.read(
  "fraud_v1",
  { user_id: "u1" },
  { freshness: true, maxAge: { activity: "5m" } },
);
const count: number = row.features.tx_count_5m.value;
const features: Features<"fraud_v1"> = row.features;
const country = features.country;
if (country.status === "present") country.value.toUpperCase();
const plain: Values<"fraud_v1"> = values(row);
const tags: readonly string[] = plain.tags;
const found: boolean = row.found_by.user;
const ttl_s: number | null | undefined = row.features.tx_count_5m.ttl_s;
const rows = await client.readMany("both", [{ user_id: "u1", merchant_id: 7 }]);
const errors: unknown[] = [];
for (const attempt of [
  () => client.write("profile", [{ user_id: "" }]),
  () => client.read("both", { user_id: "u1", merchant_id: 9007199254740992 }),
]) {
  try {
    await attempt();
  } catch (error) {
    if (!(error instanceof FeatureKitError)) throw error;
    errors.push([error.status, error.type, error.message, error.isTransient]);
  }
}
console.log(JSON.stringify({ written, count, tags, found, ttl_s, rows: rows.length, plain, errors }));
declare const process: { argv: string[] };
"""

BAD = """
import { FeatureClient, values } from "./features.js";
const client = new FeatureClient({ baseUrl: "" });
// @ts-expect-error: an unknown service
await client.read("fraud_v2", { user_id: "u1" });
// @ts-expect-error: a join key of another type
await client.read("fraud_v1", { user_id: 1 });
// @ts-expect-error: a join key is missing
await client.read("both", { user_id: "u1" });
// @ts-expect-error: a view that the service does not read
await client.read("fraud_v1", { user_id: "u1" }, { maxAge: { shop: "2m" } });
const row = await client.read("fraud_v1", { user_id: "u1" });
// @ts-expect-error: an unknown feature
row.features.tx_count_6m;
// @ts-expect-error: null if no value is stored
export const country: string = row.features.country.value;
// @ts-expect-error: a number
export const text: string = values(row).tx_count_5m;
// @ts-expect-error: an unknown field
await client.write("activity", [{ user_id: "u1", tx_count: 3 }]);
// @ts-expect-error: a value of another type
await client.write("activity", [{ user_id: "u1", tx_count_5m: "3" }]);
// @ts-expect-error: a batch view has no TTL of single rows
await client.write("profile", [{ user_id: "u1", country: "NO" }], { ttlS: 5 });
"""


@pytest.mark.slow
def test_every_module_compiles_good_callers_run_and_bad_callers_are_refused(
    tmp_path: Path, valkey: Server
) -> None:
    require_typescript()
    modules = {name.replace(" ", "_"): text for name, text in DEFINITIONS.items()}
    for name, definitions in (modules | {"wide": wide(500)}).items():
        text = typescript_module(registry(tmp_path / name, definitions))
        (tmp_path / f"{name}.ts").write_text(text)
    with applied(tmp_path, valkey.url, FRAUD) as store:
        store.write_batch("profile", {"u1": {"country": "NO", "tags": ["a", "b"]}})
        (tmp_path / "features.ts").write_text(typescript_module(store.applied))
        (tmp_path / "good.ts").write_text(GOOD)
        (tmp_path / "bad.ts").write_text(BAD)
        assert compile_typescript(tmp_path) == ""
        with listening(ServerContext(store)) as (host, port):
            answer = json.loads(run_node(tmp_path, "good.js", f"http://{host}:{port}/"))
    assert 50 < answer.pop("ttl_s") <= 60
    assert answer == {
        "written": 1,
        "count": 3,
        "tags": ["a", "b"],
        "found": True,
        "rows": 1,
        "plain": {
            "country": "NO",
            "tx_count_7d": 0,
            "tags": ["a", "b"],
            "tx_count_5m": 3,
            "device": None,
        },
        "errors": [
            [422, "BadRowError", "profile, row 0, join key user_id: must not be empty", False],
            [
                0,
                "PrecisionError",
                "JavaScript would round 9007199254740992, which is in the response",
                False,
            ],
        ],
    }


def test_a_name_or_description_cannot_leave_its_place(tmp_path: Path) -> None:
    text = typescript_module(registry(tmp_path, HOSTILE))
    assert '      "größe": number;\n' in text
    assert "/** Ends *\\/ here" not in text
    assert "       * Ends *\\/ here\n" in text
    assert 'toString: DefaultedFeature<"a\\"b" | "\\\\" | "x\\ny" | "\\u2028">;' in text
    assert "big: OptionalFeature<number | 1>;" in text
    assert "\u202e" not in text
    assert '    groups: "class" | "origin" | "to";\n' in text
    assert '    max_age: "interface" | "a_" | "a__" | "origin" | "to";\n' in text


SENT = """
import { FeatureClient } from "./features.js";
import type { RequestData, WrittenRow } from "./features.js";
const client = new FeatureClient({ baseUrl: process.argv[2] ?? "" });
const event: WrittenRow<"payments"> = { user_id: "u1", amount: 30, id: "p1" };
await client.write("payments", [event]);
await client.write("account", [{ user_id: "u1", average: 20, country: "NO" }]);
const request: RequestData<"fraud"> = { amount: 10 };
const all: RequestData<"fraud"> = { amount: 10, terminal: "t1", object: new Date(0) };
await client.read("fraud", { user_id: "u1" }, { request: all });
const row = await client.read("fraud", { user_id: "u1" }, { request });
const ratio: number = row.features.ratio.value;
const both = [{ user_id: "u1" }, { user_id: "u1" }];
const rows = await client.readMany("fraud", both, { request: [request, { amount: 40, request: "app" }] });
const texts = rows.map((each) => each.features.text.value);
console.log(JSON.stringify({ ratio, paid: row.features.paid_10m.value, texts }));
// @ts-expect-error: the service needs request data
export const lacking = () => client.read("fraud", { user_id: "u1" });
// @ts-expect-error: a value of another type
export const wrong: RequestData<"fraud"> = { amount: "10" };
// @ts-expect-error: the declaration has no such value
export const unknown: RequestData<"fraud"> = { amount: 10, terminl: "t1" };
// @ts-expect-error: the id of the event is missing
export const anonymous: WrittenRow<"payments"> = { user_id: "u1", amount: 30 };
// @ts-expect-error: a feature is no input of an event
export const computed: WrittenRow<"payments"> = { user_id: "u1", amount: 3, id: "p2", paid_10m: 1 };
declare const process: { argv: string[] };
"""


@pytest.mark.slow
def test_request_data_and_events_of_windows_are_typed(tmp_path: Path, valkey: Server) -> None:
    require_typescript()
    with applied(tmp_path / "repo", valkey.url, PAYMENTS) as store:
        folder = tmp_path / "client"
        folder.mkdir()
        (folder / "features.ts").write_text(typescript_module(store.declared))
        (folder / "sent.ts").write_text(SENT)
        assert compile_typescript(folder) == ""
        with listening(ServerContext(store)) as (host, port):
            answer = json.loads(run_node(folder, "sent.js", f"http://{host}:{port}/"))
    assert answer == {"ratio": 0.5, "paid": 1, "texts": ["web/NO", "app/NO"]}
