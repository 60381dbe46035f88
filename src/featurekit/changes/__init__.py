"""The differences between two compiled repositories, as data.

Each change has a kind:

- `add`, `remove`: a definition was added or removed.
- `ttl`: values written from now on have another TTL, or are expected at another interval.
- `compatible`: stored bytes keep their meaning.
- `breaking`: stored bytes would get another meaning, could not be found, or would keep an expiry
  that is no longer declared.
"""

from __future__ import annotations

from featurekit.changes.change import Change, Changes, Kind
from featurekit.changes.repository import diff

__all__ = ["Change", "Changes", "Kind", "diff"]
