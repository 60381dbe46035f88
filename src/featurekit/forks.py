"""Renew what a forked child must not share with its parent.

Python calls the hook in the child before any other thread can start there. Rejected alternative: only
to compare process ids at each use, which lets threads of the child race for what they must not use.
Programs that fork without Python's knowledge still need that comparison as well.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object with state that belongs to one process."""

    def renew_in_child(self) -> None:
        """Drop what belongs to the parent, without sending a byte."""


_instances: WeakSet[Forkable] = WeakSet()


def renew_after_fork(instance: Forkable) -> None:
    """Call `instance.renew_in_child()` in each child that is forked while the instance exists."""
    _instances.add(instance)


def _renew_all() -> None:
    for instance in list(_instances):
        instance.renew_in_child()


os.register_at_fork(after_in_child=_renew_all)
