"""One `correlation_id` in every log line of a run, whichever logger writes it.

Lambda's own formatter (LogFormat JSON), through which the modules of ecs_ops and the durable SDK
log, and Powertools' formatter both write each attribute of a log record that `logging` does not
know. So the id is put into every record where it is made.
"""

from __future__ import annotations

import logging
from typing import Any, Final

_CORRELATION_ID: Final = "correlation_id"
# Of the process: the SDK works in threads, and a sandbox has one invocation at a time.
_current: Final[dict[str, str]] = {}
_make = logging.getLogRecordFactory()


def correlate(identity: str) -> None:
    """Put this id into every line that is logged from now on, by any logger of this process."""
    _current[_CORRELATION_ID] = identity
    logging.setLogRecordFactory(_record)


def correlation() -> dict[str, str]:
    """Return what is put into every line; empty before the first run."""
    return dict(_current)


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _make(*args, **kwargs)
    record.__dict__.update(_current)
    return record
