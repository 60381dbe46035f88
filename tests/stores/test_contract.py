"""What every online store promises, held against each of them."""

from __future__ import annotations

from featurekit.stores.redis import RedisStore
from featurekit.stores.url import StoreUrl
from featurekit.wire import command
from tests.servers import Server


def test_replies_come_in_the_order_of_the_requests(server: Server) -> None:
    store = RedisStore(StoreUrl.parse(server.url))
    assert store.run(
        [b"k"], [command(b"HSET", b"k", b"f", b"1"), command(b"HGET", b"k", b"f")]
    ) == [1, b"1"]
    store.close()
