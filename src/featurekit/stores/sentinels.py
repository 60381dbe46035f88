"""Sentinels: where the primary and the replicas of a service are, as those who watch it tell.

They are asked on connections that are closed after each question: it is asked about once a second,
and so there is nothing to keep over a `fork` or on an event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from featurekit.errors import StoreError, StoreUnavailableError, name_hint
from featurekit.stores.connection import Connection, connect
from featurekit.stores.deadline import Deadline
from featurekit.stores.error_mapping import unavailable_error
from featurekit.stores.url import SENTINEL_PASSWORD_VARIABLE, Address, StoreUrl, format_address
from featurekit.wire import ErrorReply, Reply, text_command

LOOK_S = 1.0
LOOK_WITHIN_S = 0.1
LOOK_AGAIN_S = 5.0
DOWN = {"s_down", "o_down"}
Lookup = Callable[[Callable[[], Deadline]], list[Address]]


class PrimaryDownError(Exception):
    """The sentinels hold the primary for down, which they may be wrong about.

    Attributes:
        address: Its address.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(format_address(*address))
        self.address = address


class Sentinels:
    """The sentinels of a URL, the one that answered last being asked first."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._hosts = list(url.hosts)

    def primary(self, deadline: Callable[[], Deadline]) -> list[Address]:
        """The one address of the primary.

        Args:
            deadline: Gives that for the next sentinel.

        Raises:
            PrimaryDownError: So they say.
            StoreUnavailableError: No sentinel answers.
            StoreError: They do not know the service, or turn this login away.
        """
        return self._ask(deadline, self._primary)

    def replicas(self, deadline: Callable[[], Deadline]) -> list[Address]:
        """The addresses of the replicas that are up; errors as of `primary`."""
        return self._ask(deadline, self._replicas)

    def _primary(self, told: Callable[..., Reply]) -> list[Address]:
        state = _state(told("MASTER", self._url.service))
        if _is_down(state):
            raise PrimaryDownError(_address(state))
        return [_address(state)]

    def _replicas(self, told: Callable[..., Reply]) -> list[Address]:
        states = map(_state, _listed(told("SLAVES", self._url.service)))
        return sorted(_address(state) for state in states if not _is_down(state))

    def _ask(
        self,
        deadline: Callable[[], Deadline],
        question: Callable[[Callable[..., Reply]], list[Address]],
    ) -> list[Address]:
        """The first good answer; with none, the error that tells most."""
        troubles: list[StoreError | PrimaryDownError] = []
        for host in list(self._hosts):
            try:
                answer = self._answer(host, deadline(), question)
            except (StoreError, PrimaryDownError) as error:
                troubles.append(error)
            else:
                self._hosts = [host, *(other for other in self._hosts if other != host)]
                return answer
        for trouble in troubles:
            if not isinstance(trouble, StoreUnavailableError):
                raise trouble
        hosts = ", ".join(format_address(*host) for host in self._url.hosts)
        raise StoreUnavailableError(
            f"no sentinel answers at {hosts}: {troubles[-1].args[0]}",
            hint="are they running, and are these their addresses? Their port is 26379 as a rule",
        ) from troubles[-1]

    def _answer(
        self,
        host: Address,
        deadline: Deadline,
        question: Callable[[Callable[..., Reply]], list[Address]],
    ) -> list[Address]:
        url = self._url
        login = {"username": url.sentinel_username, "password": url.sentinel_password, "db": 0}
        place = replace(url.for_server(*host), **login)  # type: ignore[arg-type]
        link = self._connected(host, place, deadline)

        def told(*args: str) -> Reply:
            reply: Reply
            [reply] = link.exchange(text_command("SENTINEL", *args), 1, deadline.remaining_s())
            if isinstance(reply, ErrorReply):
                raise self._refusal(host, reply, link, deadline)
            return reply

        try:
            return question(told)
        except OSError as error:
            raise unavailable_error(place, "asking a sentinel", deadline, error) from error
        finally:
            link.close()

    def _connected(self, host: Address, place: StoreUrl, deadline: Deadline) -> Connection:
        try:
            return connect(place, deadline)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            raise StoreError(
                error.message.replace(str(place), f"the sentinel {format_address(*host)}"),
                hint=f"sentinels have a login of their own: set {SENTINEL_PASSWORD_VARIABLE}",
            ) from error

    def _refusal(
        self, host: Address, reply: ErrorReply, link: Connection, deadline: Deadline
    ) -> StoreError:
        if reply.code == "NOPERM":
            return StoreError(f"the sentinel {format_address(*host)} refuses to tell: {reply}")
        if "no such master" not in str(reply).lower():
            return StoreError(f"{format_address(*host)} is no sentinel: {reply}")
        [services] = link.exchange(text_command("SENTINEL", "MASTERS"), 1, deadline.remaining_s())
        known = [_state(service)["name"] for service in _listed(services)]
        return StoreError(
            f"the sentinel {format_address(*host)} watches no service '{self._url.service}'",
            hint=name_hint(self._url.service, known) if known else "it tells of none",
        )


def _listed(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _state(reply: Reply) -> dict[str, str]:
    """What a sentinel tells of one server: names and values in turn."""
    texts = [part.decode() for part in _listed(reply) if isinstance(part, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _address(state: dict[str, str]) -> Address:
    return state["ip"], int(state["port"])


def _is_down(state: dict[str, str]) -> bool:
    return not DOWN.isdisjoint(state["flags"].split(","))


class PrimaryTracker:
    """Where to connect, as last told, and when to ask again.

    Attributes:
        addresses: The servers to choose among; none before the first answer.
        era: How often they have changed.
    """

    def __init__(self, url: StoreUrl, ask: Lookup) -> None:
        self.addresses: list[Address] = []
        self.generation = 0
        self._url = url
        self._ask = ask
        self._due = 0.0
        self._doubted = True
        self._held_down = False

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return self._doubted or now > self._due

    def claim(self, now: float) -> bool:
        """Whether the caller is the one to ask now; if nothing is in doubt, one is enough."""
        if self._doubted:
            return True
        is_due = now > self._due
        if is_due:
            self._due = now + LOOK_S
        return is_due

    def invalidate(self) -> None:
        """Ask before the next use: what was told did not hold."""
        self._doubted = True

    def handle_connect_failure(self, error: StoreUnavailableError) -> None:
        """As `invalidate`, for a server that could not be reached.

        Raises:
            StoreUnavailableError: The same, if the sentinels hold it for down: so a reader knows.
        """
        self.invalidate()
        if self._held_down:
            raise StoreUnavailableError(
                f"{error.message}, and the sentinels hold it for down",
                hint="a fail-over takes some seconds: try again",
            ) from error

    def look(self, deadline: Deadline) -> None:
        """Ask. With another answer than the last, another era begins.

        As long as nothing speaks against what is known, a sentinel has a tenth of a second at most,
        and those that do not answer change nothing.

        Raises:
            StoreUnavailableError: Nothing is known and no sentinel answers.
            StoreError: As `Sentinels.primary`.
        """
        routine = not self._doubted
        step_s = LOOK_WITHIN_S if routine else self._url.connect_timeout_s
        try:
            told = self._ask(lambda: Deadline.for_call(deadline.cap(step_s, share=0.5), 0))
        except PrimaryDownError as error:
            if routine:
                return
            told, self._held_down = [error.address], True
        except StoreError as error:
            if not routine and not (self.addresses and isinstance(error, StoreUnavailableError)):
                raise
            self._doubted, self._due = False, monotonic() + LOOK_AGAIN_S
            return
        else:
            self._held_down = False
        self._doubted, self._due = False, monotonic() + LOOK_S
        if told != self.addresses:
            self.addresses = told
            self.generation += 1
