"""Find the primary and the replicas of a service by asking its sentinels.

`Sentinels` asks them, over connections that are closed after each question, because one question
a second leaves nothing worth keeping over a `fork` or for an event loop. `PrimaryTracker` decides
when to ask, and keeps the last answer:

- invalid: before the first answer, and after a connection was lost or could not be opened. The
  next call asks before it uses a connection, and waits for the answer.
- valid: one call each `LOOKUP_INTERVAL_S` asks, with a short timeout; the others use the last
  answer. A sentinel that does not answer now changes nothing.

Invariant: `generation` increases exactly when `addresses` change. A pool that sees another
generation closes its idle connections, and those in use when they come back. So a demoted primary
that still answers is left within a second. A primary that the sentinels report as down is still
tried, since they may be wrong, and the error then mentions their report.

Rejected alternatives: to subscribe to the sentinels' `+switch-master` (a connection and a thread
for each pool, and messages get lost), and to ask only after a failure (a demoted primary that is
cut off from the sentinels but reachable from here would serve old values without an end).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from featurekit.errors import StoreError, StoreUnavailableError, name_hint
from featurekit.stores.connect import connect
from featurekit.stores.connection import Connection
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import SENTINEL_PASSWORD_VARIABLE, Address, StoreUrl, format_address
from featurekit.wire import ErrorReply, Reply, text_command

LOOKUP_INTERVAL_S = 1.0
LOOKUP_TIMEOUT_S = 0.1
LOOKUP_RETRY_S = 5.0
DOWN_FLAGS = {"s_down", "o_down"}
NewDeadline = Callable[[], Deadline]
SentinelCommand = Callable[..., Reply]
Query = Callable[[SentinelCommand], list[Address]]


class PrimaryDownError(Exception):
    """The sentinels report the primary as down.

    Attributes:
        address: The primary's address.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(format_address(*address))
        self.address = address


class Sentinels:
    """The sentinels of a URL. The one that answered last is asked first."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._hosts = list(url.hosts)

    def primary(self, new_deadline: NewDeadline) -> list[Address]:
        """Return the address of the primary, as a list of one.

        Args:
            new_deadline: Returns the limits for asking one sentinel.

        Raises:
            PrimaryDownError: The sentinels report the primary as down.
            StoreUnavailableError: No sentinel answers.
            StoreError: The sentinels do not know the service, or refuse the login.
        """

        def query(sentinel: SentinelCommand) -> list[Address]:
            state = _as_dict(sentinel("MASTER", self._url.service))
            if _is_down(state):
                raise PrimaryDownError(_address_of(state))
            return [_address_of(state)]

        return self._ask_each(new_deadline, query)

    def replicas(self, new_deadline: NewDeadline) -> list[Address]:
        """Return the addresses of the replicas that are up. Errors are those of `primary`."""

        def query(sentinel: SentinelCommand) -> list[Address]:
            states = map(_as_dict, _as_list(sentinel("SLAVES", self._url.service)))
            return sorted(_address_of(state) for state in states if not _is_down(state))

        return self._ask_each(new_deadline, query)

    def _ask_each(self, new_deadline: NewDeadline, query: Query) -> list[Address]:
        """Return the first answer. Without one, raise the most specific error."""
        errors: list[StoreError | PrimaryDownError] = []
        for host in list(self._hosts):
            try:
                answer = self._ask(host, new_deadline(), query)
            except (StoreError, PrimaryDownError) as error:
                errors.append(error)
            else:
                self._hosts = [host, *(other for other in self._hosts if other != host)]
                return answer
        for failure in errors:
            if not isinstance(failure, StoreUnavailableError):
                raise failure
        hosts = ", ".join(format_address(*host) for host in self._url.hosts)
        raise StoreUnavailableError(
            f"no sentinel answers at {hosts}: {errors[-1].args[0]}",
            hint="are they running, and are these their addresses? Their usual port is 26379",
        ) from errors[-1]

    def _ask(self, host: Address, deadline: Deadline, query: Query) -> list[Address]:
        url = replace(
            self._url.for_server(*host),
            username=self._url.sentinel_username,
            password=self._url.sentinel_password,
            db=0,
        )
        connection = _connect_sentinel(host, url, deadline)

        def command(*args: str) -> Reply:
            reply: Reply
            [reply] = connection.exchange(
                text_command("SENTINEL", *args), 1, deadline.remaining_s()
            )
            if isinstance(reply, ErrorReply):
                raise self._refusal(host, reply, connection, deadline)
            return reply

        try:
            return query(command)
        except OSError as error:
            raise unavailable_error(url, "asking a sentinel", deadline, error) from error
        except (KeyError, ValueError) as error:
            raise StoreError(
                f"the server at {format_address(*host)} sent an invalid reply to SENTINEL",
                hint="is it a sentinel?",
            ) from error
        finally:
            connection.close()

    def _refusal(
        self, host: Address, reply: ErrorReply, connection: Connection, deadline: Deadline
    ) -> StoreError:
        """Return the error for an error reply of a sentinel."""
        address, service = format_address(*host), self._url.service
        if reply.code == "NOPERM":
            return StoreError(f"the sentinel {address} refuses the command: {reply}")
        if "no such master" not in str(reply).lower():
            return StoreError(f"the server at {address} is not a sentinel: {reply}")
        request = text_command("SENTINEL", "MASTERS")
        [services] = connection.exchange(request, 1, deadline.remaining_s())
        known = [_as_dict(each)["name"] for each in _as_list(services)]
        return StoreError(
            f"the sentinel {address} does not watch the service '{service}'",
            hint=name_hint(service, known) if known else "it does not watch any service",
        )


def _connect_sentinel(host: Address, url: StoreUrl, deadline: Deadline) -> Connection:
    try:
        return connect(url, deadline)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise StoreError(
            error.message.replace(str(url), f"the sentinel {format_address(*host)}"),
            hint=f"sentinels have their own login: set {SENTINEL_PASSWORD_VARIABLE}",
        ) from error


def _as_list(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _as_dict(reply: Reply) -> dict[str, str]:
    """Return a sentinel's description of a server, which lists names and values in turn."""
    texts = [part.decode() for part in _as_list(reply) if isinstance(part, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _address_of(state: dict[str, str]) -> Address:
    return state["ip"], int(state["port"])


def _is_down(state: dict[str, str]) -> bool:
    return not DOWN_FLAGS.isdisjoint(state["flags"].split(","))


class PrimaryTracker:
    """The servers to connect to, as the sentinels last reported them.

    Args:
        url: The URL of the service.
        lookup: Asks the sentinels: `Sentinels.primary` or `replicas`.

    Attributes:
        addresses: The servers to choose from; empty before the first answer.
        generation: How often `addresses` have changed.
    """

    def __init__(self, url: StoreUrl, lookup: Callable[[NewDeadline], list[Address]]) -> None:
        self.addresses: list[Address] = []
        self.generation = 0
        self._url = url
        self._lookup = lookup
        self._due_at = 0.0
        self._is_valid = False
        self._is_reported_down = False

    def is_due(self, now: float) -> bool:
        """Return whether it is time to ask the sentinels."""
        return not self._is_valid or now > self._due_at

    def claim_lookup(self, now: float) -> bool:
        """Return whether the caller must ask now; if the last answer is valid, one caller does."""
        if not self._is_valid:
            return True
        is_due = now > self._due_at
        if is_due:
            self._due_at = now + LOOKUP_INTERVAL_S
        return is_due

    def invalidate(self) -> None:
        """Have the next call ask: a server that the sentinels reported did not work."""
        self._is_valid = False

    def handle_connect_failure(self, error: StoreUnavailableError) -> None:
        """Have the next call ask, because a server could not be reached.

        Raises:
            StoreUnavailableError: The error, with the sentinels' report if they report the
                server as down.
        """
        self.invalidate()
        if self._is_reported_down:
            raise StoreUnavailableError(
                f"{error.message}, and the sentinels report it as down",
                hint="a failover takes some seconds: try again",
            ) from error

    def refresh(self, deadline: Deadline) -> None:
        """Ask the sentinels, and increase `generation` if their answer is new.

        Raises:
            StoreUnavailableError: There is no earlier answer, and no sentinel answers.
            StoreError: The sentinels do not know the service, or refuse the login.
        """
        was_valid = self._is_valid
        limit_s = LOOKUP_TIMEOUT_S if was_valid else self._url.connect_timeout_s
        try:
            addresses = self._lookup(lambda: Deadline.for_call(deadline.cap(limit_s, 0.5), 0))
        except PrimaryDownError as error:
            if was_valid:
                return
            addresses, self._is_reported_down = [error.address], True
        except StoreError as error:
            is_usable = self.addresses and isinstance(error, StoreUnavailableError)
            if not was_valid and not is_usable:
                raise
            self._is_valid, self._due_at = True, monotonic() + LOOKUP_RETRY_S
            return
        else:
            self._is_reported_down = False
        self._is_valid, self._due_at = True, monotonic() + LOOKUP_INTERVAL_S
        if addresses != self.addresses:
            self.addresses = addresses
            self.generation += 1

    async def refresh_async(self, deadline: Deadline) -> None:
        """Run `refresh` on another thread, which is cheap because it is rare and short."""
        try:
            async with asyncio.timeout(deadline.cap(self._url.load_timeout_s)):
                await asyncio.to_thread(self.refresh, deadline)
        except TimeoutError as error:
            raise unavailable_error(self._url, "asking the sentinels", deadline, error) from error
