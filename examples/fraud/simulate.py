"""Play the users: each second some of them do something, which becomes an event in a Redis stream.

Every user has its turn before anyone has a second one. SIGUSR1 pauses and resumes: let it rest
for five minutes and watch the stream's fields go, one by one, while the batch fields stay.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Iterator

import redis

from featurekit.demo.synthetic_users import SEED, activity, user_id
from featurekit.repo.server import embedded_server

STREAM = "user-activity"


def turns(users: int, rng: random.Random) -> Iterator[str]:
    """All users in a random order, again and again."""
    numbers = list(range(1, users + 1))
    while True:
        rng.shuffle(numbers)
        for number in numbers:
            yield user_id(number)


def event(user: str, now_ms: int, rng: random.Random) -> dict[str, str | int]:
    """What one user does: an entry of the stream, its fields named as those of the view."""
    return {"user_id": user, **activity(now_ms, rng)}


class Switch:
    """Whether the users rest; each SIGUSR1 changes it."""

    def __init__(self) -> None:
        self.resting = False
        signal.signal(signal.SIGUSR1, self.turn)

    def turn(self, _number: int, _frame: object) -> None:
        self.resting = not self.resting
        print("paused" if self.resting else "resumed", flush=True)


def connect(url: str | None) -> redis.Redis:
    """The example's online store: the one of the URL, or the embedded server."""
    if url is not None and not url.startswith("embedded:"):
        return redis.Redis.from_url(url)
    return redis.Redis(unix_socket_path=str(embedded_server().ensure()))


def main() -> None:
    """Parse the command line and emit events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000, help="how many users there are")
    parser.add_argument("--per-tick", type=int, default=5, help="how many act in each tick")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between ticks")
    parser.add_argument("--ticks", type=int, default=0, help="how many ticks; 0 for no end")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--keep", type=int, default=100_000, help="entries the stream keeps")
    args = parser.parse_args()
    rng, switch = random.Random(args.seed), Switch()
    users = turns(args.users, rng)
    done = 0
    with connect(os.environ.get("FEATUREKIT_ONLINE_URL")) as client:
        try:
            while not args.ticks or done < args.ticks:
                if not switch.resting:
                    now_ms = time.time_ns() // 1_000_000
                    with client.pipeline(transaction=False) as pipe:
                        for _ in range(args.per_tick):
                            entry = event(next(users), now_ms, rng)
                            pipe.xadd(STREAM, entry, maxlen=args.keep)
                        pipe.execute()
                    done += 1
                if done != args.ticks or switch.resting:
                    time.sleep(args.interval)
        except KeyboardInterrupt:
            pass
    print(f"{done:,} ticks, {done * args.per_tick:,} events in {STREAM}")


if __name__ == "__main__":
    main()
