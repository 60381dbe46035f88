"""Sentinels: where the primary and the replicas of a service are, as those who watch it tell.

They are asked over redis-py, on connections of their own that are closed after each question: it is
asked about once a second, and so there is nothing to keep over a `fork` or on an event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from featurekit.errors import StoreError, StoreUnavailableError, nearest
from featurekit.stores.link import check_files
from featurekit.stores.patience import Patience
from featurekit.stores.url import SENTINEL_PASSWORD_VARIABLE, Address, StoreUrl, shown

LOOK_S = 1.0
LOOK_WITHIN_S = 0.1
LOOK_AGAIN_S = 5.0
T = TypeVar("T")
State = dict[str, Any]


class PrimaryDownError(Exception):
    """The sentinels hold the primary for down; the text is its address."""


class Sentinels:
    """The sentinels of a URL, the one that answered last being asked first."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._hosts = list(url.hosts)

    def primary(self, timeout_s: Callable[[], float]) -> list[Address]:
        """The one address of the primary.

        Args:
            timeout_s: How long the next sentinel may take to connect, and to answer.

        Raises:
            PrimaryDownError: So they say.
            StoreUnavailableError: No sentinel answers.
            StoreError: They do not know the service, or turn this login away.
        """
        return [self._of(self._ask(timeout_s, self._up))]

    def replicas(self, timeout_s: Callable[[], float]) -> list[Address]:
        """The addresses of the replicas that are up; errors as of `primary`."""
        states: list[State] = self._ask(
            timeout_s, lambda client: client.sentinel_slaves(self._url.service)
        )
        return sorted(self._of(state) for state in states if not _is_down(state))

    def _up(self, client: redis.Redis) -> State:
        state = cast(State, client.sentinel_master(self._url.service))
        if _is_down(state):
            raise PrimaryDownError(shown(*self._of(state)))
        return state

    def _of(self, state: State) -> Address:
        return str(state["ip"]), int(state["port"])

    def _ask(self, timeout_s: Callable[[], float], question: Callable[[redis.Redis], T]) -> T:
        """The first good answer; with none, the error that tells most."""
        check_files(self._url)
        troubles: list[Exception] = []
        for host in list(self._hosts):
            with self._client(host, timeout_s()) as client:
                try:
                    answer = question(client)
                except redis.AuthenticationError as error:
                    troubles.append(self._turned_away(host, error))
                except redis.ResponseError as error:
                    troubles.append(self._unfit(client, host, error))
                except (redis.RedisError, OSError, PrimaryDownError) as error:
                    troubles.append(error)
                else:
                    self._hosts = [host, *(other for other in self._hosts if other != host)]
                    return answer
        raise self._worst(troubles) from troubles[-1]

    def _client(self, host: Address, timeout_s: float) -> redis.Redis:
        url = self._url
        return redis.Redis(
            *host,
            username=url.sentinel_username or None,
            password=url.sentinel_password or None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            ssl=url.scheme.startswith("rediss"),
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **dict(url.tls),  # type: ignore[arg-type]
        )

    def _turned_away(self, host: Address, error: Exception) -> StoreError:
        login = self._url.sentinel_username or "the default user"
        fact = (
            f"refused the login of {login}"
            if self._url.sentinel_password
            else f"wants a password: {error}"
        )
        return StoreError(
            f"the sentinel {shown(*host)} {fact}",
            hint=f"sentinels have a login of their own: set {SENTINEL_PASSWORD_VARIABLE}",
        )

    def _unfit(self, client: redis.Redis, host: Address, error: Exception) -> StoreError:
        if isinstance(error, redis.exceptions.NoPermissionError):
            return StoreError(f"the sentinel {shown(*host)} refuses to tell: {error}")
        if "no such master" not in str(error).lower():
            return StoreError(f"{shown(*host)} is no sentinel: {error}")
        try:
            known = [str(name) for name in client.sentinel_masters()]
        except (redis.RedisError, OSError):
            known = []
        return StoreError(
            f"the sentinel {shown(*host)} watches no service '{self._url.service}'",
            hint=nearest(self._url.service, known) if known else "it tells of none",
        )

    def _worst(self, troubles: list[Exception]) -> Exception:
        for trouble in troubles:
            if isinstance(trouble, (StoreError, PrimaryDownError)):
                return trouble
        hosts = ", ".join(shown(*host) for host in self._url.hosts)
        return StoreUnavailableError(
            f"no sentinel answers at {hosts}: {troubles[-1]}",
            hint="are they running, and are these their addresses? Their port is 26379 as a rule",
        )


def _is_down(state: State) -> bool:
    return bool(state.get("is_sdown") or state.get("is_odown"))


class Whereabouts:
    """Where to connect, as last told, and when to ask again.

    Attributes:
        addresses: The servers to choose among; none before the first answer.
        era: How often they have changed.
    """

    def __init__(self, url: StoreUrl, ask: Callable[[Callable[[], float]], list[Address]]) -> None:
        self.addresses: list[Address] = []
        self.era = 0
        self._url = url
        self._ask = ask
        self._due = 0.0
        self._doubted = True

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return self._doubted or now > self._due

    def doubt(self) -> None:
        """Ask before the next use: what was told did not hold."""
        self._doubted = True

    def look(self, patience: Patience) -> None:
        """Ask. With another answer than the last, another era begins.

        As long as nothing speaks against what is known, this takes a tenth of a second at most, and
        sentinels that do not answer change nothing.

        Raises:
            StoreUnavailableError: The primary is down, or nothing is known and no sentinel answers.
            StoreError: As `Sentinels.primary`.
        """
        routine, self._due = not self._doubted, monotonic() + LOOK_S
        step_s = LOOK_WITHIN_S if routine else self._url.connect_timeout_s
        try:
            told = self._ask(lambda: patience.bounded(step_s, share=0.5))
        except PrimaryDownError as error:
            if routine:
                return
            raise StoreUnavailableError(
                f"the sentinels hold {error}, the primary of '{self._url.service}', for down",
                hint="a fail-over takes some seconds: try again",
            ) from error
        except StoreError as error:
            if not routine and not (self.addresses and isinstance(error, StoreUnavailableError)):
                raise
            self._doubted, self._due = False, monotonic() + LOOK_AGAIN_S
            return
        self._doubted = False
        if told != self.addresses:
            self.addresses = told
            self.era += 1
