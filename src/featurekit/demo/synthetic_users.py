"""Generate the users of the fraud example and their events; the same seed gives the same users.

Each user has its own random generator, so the first 5 users of 5 are the first 5 users of 50.
"""

from __future__ import annotations

import random
from typing import TypeVar

T = TypeVar("T")

SEED = 42

COUNTRIES = ("US", "GB", "DE", "FR", "ES", "BR", "IN", "JP", "NO", "AU")
DEVICES = ("ios-1a4c", "ios-9f02", "and-7b21", "and-2d18", "web-chr-1", "web-saf-1", "web-ff-2")
SEGMENTS: dict[str, int] = {"low": 70, "medium": 22, "high": 8}
CHARGEBACKS: dict[int, int] = {0: 88, 1: 8, 2: 3, 3: 1}
FAILED_LOGINS: dict[int, int] = {0: 70, 1: 20, 2: 8, 5: 2}
"""Values and their weights, in percent."""


def user_id(number: int) -> str:
    """Return the id of a user; numbers start at 1."""
    return f"u{number:04}"


def profile(number: int, seed: int = SEED) -> dict[str, object]:
    """Return the batch features of a user; numbers start at 1."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - reproducible on purpose
    return {
        "country_iso": rng.choice(COUNTRIES),
        "risk_segment": _weighted_choice(rng, SEGMENTS),
        "account_age_days": rng.randint(7, 2400),
        "tx_count_7d": rng.randint(0, 80),
        "avg_amount_30d": round(rng.uniform(5, 350), 2),
        "chargeback_count_180d": _weighted_choice(rng, CHARGEBACKS),
    }


def activity(now_ms: int, rng: random.Random) -> dict[str, str | int]:
    """Return the stream features of a user who acts now."""
    return {
        "last_login_ts": now_ms,
        "last_device_id": rng.choice(DEVICES),
        "tx_count_5m": rng.randint(0, 12),
        "failed_logins_15m": _weighted_choice(rng, FAILED_LOGINS),
        "session_country": rng.choice(COUNTRIES),
    }


def _weighted_choice(rng: random.Random, weights: dict[T, int]) -> T:
    return rng.choices(list(weights), list(weights.values()))[0]
