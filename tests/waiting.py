"""Wait for what another process will do: look again until it is there, fail with what was seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NeverHappened(AssertionError):
    """What was waited for did not happen in time."""


def eventually[T](probe: Callable[[], T | None], what: str, *, within: float = 20) -> T:
    """Call `probe` until it returns something true, and return that.

    Args:
        probe: looks; its last answer is named when the time is up.
        what: what is waited for, for the message.
        within: seconds.

    Raises:
        NeverHappened: it did not happen in time.
    """
    deadline = time.monotonic() + within
    while True:
        seen = probe()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise NeverHappened(f"{what}: not within {within} s; last seen: {seen!r}")
        time.sleep(0.05)
