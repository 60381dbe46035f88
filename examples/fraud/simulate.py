"""Simulate user activity and transactions: append events of a few users to Redis streams every second.

Users take turns in random order. SIGUSR1 pauses and resumes the simulation: pause it for five
minutes, and the stream fields expire one by one while the batch fields remain.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Iterator

import redis

from featurekit import embedded_server
from featurekit.demo import SEED, activity, user_id

STREAM = "user-activity"
TRANSACTIONS = "user-transactions"


def turns(users: int, rng: random.Random) -> Iterator[str]:
    """Yield all users in random order, repeatedly."""
    numbers = list(range(1, users + 1))
    while True:
        rng.shuffle(numbers)
        for number in numbers:
            yield user_id(number)


def event(user: str, now_ms: int, rng: random.Random) -> dict[str, str | int]:
    """Return one stream entry; its fields have the names of the view."""
    return {"user_id": user, **activity(now_ms, rng)}


def transaction(user: str, number: int, rng: random.Random) -> dict[str, str | float]:
    """Return one raw transaction, which workers add to the windows of its user."""
    amount = round(rng.lognormvariate(3.5, 1), 2)
    return {"user_id": user, "transaction_id": f"t{number}", "amount": amount}


class PauseSwitch:
    """A pause flag that SIGUSR1 toggles."""

    def __init__(self) -> None:
        self.paused = False
        signal.signal(signal.SIGUSR1, self.toggle)

    def toggle(self, _number: int, _frame: object) -> None:
        self.paused = not self.paused
        print("paused" if self.paused else "resumed", flush=True)


def connect(url: str | None) -> redis.Redis:
    """Connect to the store of the URL, or to the embedded server."""
    if url is not None and not url.startswith("embedded:"):
        return redis.Redis.from_url(url)
    return redis.Redis(unix_socket_path=str(embedded_server().ensure_running()))


def main() -> None:
    """Parse the command line and emit events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000, help="number of users")
    parser.add_argument("--per-tick", type=int, default=5, help="events per tick")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between ticks")
    parser.add_argument(
        "--ticks", type=int, default=0, help="number of ticks; 0 runs until interrupted"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--keep", type=int, default=100_000, help="maximum length of the stream")
    args = parser.parse_args()
    rng, switch = random.Random(args.seed), PauseSwitch()
    users = turns(args.users, rng)
    done = 0
    with connect(os.environ.get("FEATUREKIT_ONLINE_URL")) as client:
        try:
            while not args.ticks or done < args.ticks:
                if not switch.paused:
                    now_ms = time.time_ns() // 1_000_000
                    with client.pipeline(transaction=False) as pipe:
                        for number in range(args.per_tick):
                            user = next(users)
                            pipe.xadd(STREAM, event(user, now_ms, rng), maxlen=args.keep)
                            paid = transaction(user, now_ms * args.per_tick + number, rng)
                            pipe.xadd(TRANSACTIONS, paid, maxlen=args.keep)
                        pipe.execute()
                    done += 1
                if done != args.ticks or switch.paused:
                    time.sleep(args.interval)
        except KeyboardInterrupt:
            pass
    print(
        f"{done:,} ticks, {done * args.per_tick:,} events in each of {STREAM} and {TRANSACTIONS}"
    )


if __name__ == "__main__":
    main()
