"""How a load collects the replies to a chunk from several servers, without a server."""

from __future__ import annotations

from featurekit.ports import Chunk
from featurekit.stores.cluster.pipelined_load import RoutedChunk
from featurekit.wire import ErrorReply

CHUNK = Chunk(b"abcdef", 3, 3, 3)


def pending() -> RoutedChunk:
    chunk = RoutedChunk(CHUNK, keys=[b"a", b"b", b"c"], spans=[(0, 2), (2, 4), (4, 6)])
    chunk.open_parts = 2
    return chunk


def test_replies_without_an_error_are_not_returned() -> None:
    chunk = pending()
    assert chunk.data([0, 2]) == b"abef"
    chunk.add_part([0, 2], b":1\r\n:1\r\n")
    assert chunk.open_parts == 1
    chunk.add_part([1], b":1\r\n")
    assert chunk.is_complete
    assert chunk.result() == (CHUNK, None)


def test_an_error_reply_is_returned_in_its_place() -> None:
    chunk = pending()
    chunk.add_part([0, 2], b":1\r\n-OOM full\r\n")
    chunk.add_part([1], b":0\r\n")
    _, replies = chunk.result()
    assert replies is not None
    assert [str(reply) for reply in replies] == ["1", "0", "OOM full"]


def test_a_row_whose_slot_has_moved_is_sent_again() -> None:
    chunk = pending()
    chunk.add_part([0, 2], b":1\r\n-MOVED 7 a:1\r\n")
    chunk.add_part([1], b":1\r\n")
    assert chunk.resend == {2}
    chunk.add_reply(2, 1)
    assert chunk.is_complete
    assert chunk.result() == (CHUNK, None)


def test_an_error_reply_to_a_row_that_is_sent_again_is_returned() -> None:
    chunk = pending()
    chunk.add_part([0, 2], b":1\r\n:1\r\n")
    chunk.open_parts -= 1  # the other connection broke
    chunk.resend = {1}
    error = ErrorReply("OOM full")
    chunk.add_reply(1, error)
    assert chunk.is_complete
    assert chunk.result() == (CHUNK, [1, error, 1])
