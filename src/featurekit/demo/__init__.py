"""A live demo of the fraud example: a page that shows which features expire and which stay.

Its synthetic users are public, so that programs around the example can generate the same ones.
"""

from __future__ import annotations

from featurekit.demo.synthetic_users import SEED, activity, profile, user_id

__all__ = ["SEED", "activity", "profile", "user_id"]
