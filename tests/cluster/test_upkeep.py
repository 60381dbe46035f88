"""Everything else that is done with a store, on clusters: keys, workers, registry, upkeep, processes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureStore, StreamOptions
from featurekit.bench import run_bench
from featurekit.errors import LockedError, StoreError, StoreUnfitError
from featurekit.ports import OnlineStore
from featurekit.repo.store_handle import now_ms
from featurekit.runtime.lock import ViewLock
from featurekit.stores import open_store
from featurekit.stores.cluster.topology import slot_of
from tests.cluster.conftest import opened
from tests.cluster.test_moves import moving
from tests.cluster.test_reads import KEYS, REQUESTS, VALUES, fill
from tests.clusters import Cluster, Node, free_port, wait_for
from tests.promise.repos import applied
from tests.repo.test_deletion import write_users
from tests.servers import Server, patient
from tests.stores.test_processes import in_child
from tests.stores.test_rights import documented_rights, parse_rights, write_stream, write_timed
from tests.streams.repositories import repository

TAGGED = """
entities:
  - {name: shop, join_keys: {region: string, number: int64}, hash_tag: {join_key: region}}
  - {name: vip, join_keys: {user_id: string}, hash_tag: {literal: vip}}
feature_views:
  - {name: sales, entity: shop, batch: {refresh: 1h}, fields: {n: int64}}
  - {name: scores, entity: vip, batch: {refresh: 1h}, fields: {n: int64}}
"""


def keys_of(node: Node) -> set[bytes]:
    return set(node.ask("KEYS", "fs:*"))


def test_a_hash_tag_puts_entities_on_one_shard(cluster: Cluster, tmp_path: Path) -> None:
    with applied(tmp_path, cluster.url, TAGGED) as store:
        shops = {(region, n): {"n": n} for region in ("no", "se", "dk", "}{") for n in range(20)}
        store.write_batch("sales", shops)
        store.write_batch("scores", {f"u{n}": {"n": n} for n in range(20)})
        holders = {
            tag: [node for node in cluster.primaries if any(tag in k for k in keys_of(node))]
            for tag in (b"{no}", b"{se}", b"{dk}", b"{%7D%7B}", b"{vip}")
        }
        assert {tag: len(nodes) for tag, nodes in holders.items()} == dict.fromkeys(holders, 1)
        rows = store.online_reader(["sales"]).read_many(list(shops))
        assert [row.n for row in rows] == [n for _, n in shops]


@pytest.mark.parametrize(
    ("key", "same"),
    [(b"{a}b", b"a"), (b"x{a}{b}", b"a"), (b"{}a", b"{}a"), (b"a}{b", b"a}{b"), (b"{{a}}", b"{a")],
)
def test_slots_are_those_of_the_servers(cluster: Cluster, key: bytes, same: bytes) -> None:
    assert slot_of(key) == cluster.nodes[0].ask("CLUSTER", "KEYSLOT", key)
    assert slot_of(key) == slot_of(b"{%b}" % same) or b"{" in same


def test_maintenance_covers_all_shards(shop: FeatureStore, cluster: Cluster) -> None:
    shop.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(300)})
    for n in range(30):
        shop.stream_writer("activity").write(f"u{n}", {"tx_count_5m": n})
    assert shop.inspect("user", "u7").fields[0].value == 7
    states = {state.view: state for state in shop.status()}
    assert states["profile"].rows == 300
    activity = states["activity"]
    assert (activity.sampled, activity.live_share, activity.state) == (300, 0.1, "on time")
    assert {finding.level for finding in shop.doctor()} == {"ok", "warn"}
    messages = {finding.subject: finding.message for finding in shop.doctor()}
    assert "a cluster of 3 primaries" in messages["server"]
    assert shop.reset("user") == 300
    assert not any(map(keys_of, cluster.primaries))


def test_a_registry_and_a_worker_live_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    with applied(tmp_path / "a", cluster.url, registry="online") as store:
        assert store.plan().changes == ()
        with FeatureStore.from_registry(patient(cluster.url), "shop") as other:
            assert other.compiled == store.compiled
    cluster.flush()
    with repository(tmp_path / "b", cluster.url) as store, cluster.client() as client:
        for n in range(50):
            client.xadd("activity-events", {"user_id": f"u{n}", "count": str(n), "kind": "x"})
        client.xadd("activity-events", {"user_id": "u1", "count": "one"})
        [report] = store.streams.run(["activity"], StreamOptions(once=True))
        assert (report.written, report.rejected) == (50, 1)
        rows = store.online_reader(["activity"]).read_many([f"u{n}" for n in range(50)])
        assert [row.count for row in rows] == list(range(50))
        assert client.xlen("activity-events:dead") == 1


def test_a_lock_holds_on_a_cluster(shop: FeatureStore) -> None:
    store: Any = shop.handle.store
    with ViewLock(store, "fs", "profile", now_ms) as lock:
        lock.check()
        with pytest.raises(LockedError), ViewLock(store, "fs", "profile", now_ms):
            pass
    with ViewLock(store, "fs", "profile", now_ms) as lock:
        lock.check()


def test_a_bench_compares_with_other_clients_of_the_cluster(
    shop: FeatureStore, cluster: Cluster
) -> None:
    report = run_bench(shop, entities=1000, seconds=0.1)
    assert [read.entities for read in report.reads] == [1, 100, 1000]
    assert report.load.rows == 1000
    assert not any(map(keys_of, cluster.primaries))


def test_a_store_survives_fork_and_pickles(valkeys: Cluster) -> None:
    store = opened(valkeys.url)
    fill(store)
    assert in_child(lambda: store.read(KEYS, REQUESTS) == VALUES) == "True"
    assert store.read(KEYS, REQUESTS) == VALUES
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read(KEYS, REQUESTS) == VALUES
    copy.close()
    store.close()


def allow(cluster: Cluster, *rules: str) -> str:
    """A user with some rights on all servers; returns a store URL of theirs."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "u", "reset", "on", ">p", "~fs:*", "~featurekit:*", *rules)
    return cluster.url.replace("://", "://u:p@")


BESIDES = ("+cluster|slots", "+command|info", "+info", "+hello", "+ping")


def test_a_missing_permission_is_reported_before_anything_is_written(
    valkeys: Cluster, tmp_path: Path
) -> None:
    granted = documented_rights()["writing one with `ordering: event_time`"] - {
        "+pexpire",
        "+multi",
    }
    url = allow(valkeys, *granted, *BESIDES)
    with applied(tmp_path, valkeys.url):
        pass
    with (
        FeatureStore(tmp_path, url=url) as store,
        pytest.raises(StoreUnfitError, match="may not run PEXPIRE"),
    ):
        store.stream_writer("activity").write("u1", {"tx_count_5m": 1})
    assert not any(map(keys_of, valkeys.primaries))


def test_the_documented_permissions_suffice_on_a_cluster(valkeys: Cluster, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
    own = parse_rights(page.partition("- On a cluster, all users")[2].partition(", and do not")[0])
    listed = documented_rights()
    writing = listed["writing a batch view"] | listed["writing one with `ordering: event_time`"]
    url = allow(valkeys, "+mget", *(writing - {"+multi", "+exec"}), *own)
    with repository(tmp_path, valkeys.url):
        pass
    with FeatureStore(tmp_path, url=url) as store, moving(valkeys):
        store.write_batch("profile", {f"u{n}": {"country": "NO"} for n in range(50)})
        write_stream(store)
        write_timed(store)
    url = allow(valkeys, "+hmget", "+mget", *own)
    with FeatureStore(tmp_path, url=f"{url}?read_from=replica") as store:
        users = [{"user_id": f"u{n}"} for n in range(50)]
        wait_for(lambda: _found(store, users) == {True}, "the replicas to be in sync")


def _found(store: FeatureStore, users: list[dict[str, str]]) -> set[bool]:
    response = store.get_online_features(["profile:country"], users)
    return {status == "present" for status in response.statuses["country"]}


def test_the_topology_needs_its_own_permission(valkeys: Cluster) -> None:
    store = opened(allow(valkeys, "+hmget"))
    with pytest.raises(StoreError, match=r"may not ask .* for the cluster's topology"):
        store.read(KEYS[:1], REQUESTS[:1])
    store = opened(f"{allow(valkeys, '+hmget', '+cluster|slots')}?read_from=replica")
    with pytest.raises(StoreError, match=r"may not read from .* as a replica"):
        store.read(KEYS[:1], REQUESTS[:1])


def test_a_rejected_login_is_reported(valkeys: Cluster) -> None:
    wrong = valkeys.url.replace("://", "://unknown:pw@")
    with pytest.raises(StoreError, match="refused the login of user 'unknown'") as caught:
        opened(wrong).call("PING")
    assert "pw" not in str(caught.value)


def test_a_single_server_is_not_a_cluster(valkey: Server) -> None:
    port = free_port()
    with valkey.client() as client:
        client.config_set("port", port)
        with pytest.raises(StoreError, match="is not a cluster"):
            opened(f"redis+cluster://127.0.0.1:{port}").call("PING")
        client.config_set("port", 0)


def prove_often(store: OnlineStore) -> None:
    for number in range(9):  # a probe key in the server's own slot would prove nothing
        store.check_writable(f"fs{number}")


def test_a_cluster_node_is_not_a_single_server(valkeys: Cluster) -> None:
    store = open_store(f"redis://127.0.0.1:{valkeys.nodes[0].port}", Path())
    with pytest.raises(StoreUnfitError, match=r"write redis\+cluster://"):
        prove_often(store)
    store.close()


def test_pruning_and_deletion_cover_all_shards(shop: FeatureStore, cluster: Cluster) -> None:
    users = [f"u{n}" for n in range(200)]
    write_users(shop, *users)
    shop.materialize(["profile"])
    write_users(shop, *users[:50])
    [report] = shop.materialize(["profile"], prune=True)
    assert report.entities_pruned == 150
    assert (
        len(
            set().union(*map(keys_of, cluster.primaries))
            & {f"fs:user:{user}".encode() for user in users}
        )
        == 50
    )
    assert shop.delete("user", users[:60]).entities == 50
