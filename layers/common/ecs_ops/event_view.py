"""What is asked of the event log, and how its records are shown: rows, and lives of tasks.

A record here holds the attributes of an `EventRecord`, but only those that were read: an index
has few of them. Records come in any order, and some are missing: expired, or from before the time
that was asked for. So nothing here depends on the order, or on a first event being there.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import utc_moment, utc_text
from ecs_ops.verdict import STOPPING_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ecs_ops.verdict import TaskState

type Record = Mapping[str, Any]

CLAIM_PREFIX: Final = "alert#"
"""Begins the `resourceArn` of items that are no events: which task was alerted about."""

STARTING, RUNNING, STOPPING, STOPPED, FAILED = "░", "█", "▒", "┤", "✘"
LEGEND: Final = (
    f"{STARTING} starting  {RUNNING} running  {STOPPING} stopping  {STOPPED} stopped"
    f"  {FAILED} failed"
)

_AGO = re.compile(r"(?P<count>\d{1,5})(?P<unit>[mhd])", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_TASK_TIMES: Final = ("createdAt", "startedAt", "stoppedAt")
_TASK_TEXTS: Final = ("taskDefinitionArn", "startedBy", "stopCode", "stoppedReason")
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
# Distances between two marks of a time axis that a person can count in, in seconds.
_STEPS: Final = (
    *(1, 5, 15, 30),
    *(60 * minutes for minutes in (1, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 3, 6, 12)),
    *(86400 * days for days in (1, 2, 7, 30, 90, 365)),
)


@dataclass(frozen=True, slots=True)
class Question:
    """Which events are asked for; '' asks for all."""

    since: datetime
    task: str = ""
    """ARN."""
    task_definition: str = ""
    """ARN."""
    cluster: str = ""
    """Name or ARN."""
    service: str = ""
    """Name or ARN."""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Lifetime:
    """One task from its creation to its end. A moment that is not known is None."""

    arn: str
    name: str
    """`family:revision`."""
    created: datetime
    started: datetime | None
    stopping: datetime | None
    stopped: datetime | None
    failed: bool
    note: str
    """Exit codes or stop code of a task that stopped; else its latest state."""


def moment_of(text: str, now: datetime) -> datetime:
    """Read `90m`, `6h`, `2d` (before `now`), or a time in ISO 8601, in UTC if it names no zone.

    Raises:
        InvalidRequest: neither, or later than now.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago["unit"]]: int(ago["count"])})
    moment = utc_moment(text)
    if moment is None:
        raise InvalidRequest(
            "--since", "must be like 90m, 6h or 2d, or a time like 2030-01-31T12:00:00Z"
        )
    if moment > now:
        raise InvalidRequest("--since", "must not lie in the future")
    return moment


def first_key(since: datetime) -> str:
    """Return what every `eventKey` of that second or a later one is not less than."""
    return since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def matches(record: Record, question: Question, now: datetime) -> bool:
    """Tell whether this item of the table is an event that was asked for and has not expired."""
    return (
        not record["resourceArn"].startswith(CLAIM_PREFIX)
        and record["ttl"] > now.timestamp()
        and record["eventKey"] >= first_key(question.since)
        and question.task in {"", record["resourceArn"]}
        and question.task_definition in {"", record.get("taskDefinitionArn")}
        and (not question.cluster or _names(question.cluster, record.get("clusterArn", "")))
        and (not question.service or _last(question.service) == record.get("serviceName"))
        and (not question.failed or record.get("outcome") == "failed")
    )


def by_resource(records: Iterable[Record]) -> list[list[Record]]:
    """Group records by what they are about: oldest first, and so the groups, by their last one."""
    groups: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=_event_key):
        groups[record["resourceArn"]].append(record)
    return sorted(groups.values(), key=lambda group: _event_key(group[-1]))


def time_of(record: Record) -> datetime:
    """Return when the event happened. Every index has its `eventKey`, none its `time`."""
    return datetime.fromisoformat(record["eventKey"].partition("#")[0])


def short_name(arn: str) -> str:
    """Return the first eight characters of a task's id; of anything else its kind and name."""
    kind, _, path = arn.rpartition(":")[2].partition("/")
    name = _last(path)
    return name[:8] if kind == "task" else f"{kind} {name}".strip()


def printable(text: str) -> str:
    """Replace control characters: a stop reason may hold some, and a terminal obeys them."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def unpacked(record: Record) -> dict[str, Any]:
    """Return the record with the whole event in it, where it was read, as the object it is."""
    packed = record.get("event")
    return (
        {**record} if packed is None else {**record, "event": json.loads(gzip.decompress(packed))}
    )


def newest(records: Iterable[Record]) -> Record:
    """Return the last state of one task: by its version, for events may come with equal times.

    Args:
        records: of one task, at least one.
    """
    return max(records, key=lambda record: (record.get("version", 0), record["eventKey"]))


def task_state(record: Record) -> TaskState:
    """Return the task as a record shows it. Of its containers, those that have an exit code."""
    state: TaskState = {
        "taskArn": record["resourceArn"],
        "clusterArn": record.get("clusterArn", ""),
        "lastStatus": record.get("lastStatus", ""),
        "containers": [
            {"name": name, "exitCode": code} for name, code in record.get("exitCodes", {}).items()
        ],
    }
    for name in _TASK_TEXTS:
        if text := record.get(name):
            state[name] = text
    for moment in _TASK_TIMES:
        if text := utc_text(record.get(moment, "")):
            state[moment] = text
    return state


# ---------------------------------------------------------------- lives of tasks
def lifetimes(records: Iterable[Record]) -> list[Lifetime]:
    """Return the life of every task among the records, the oldest task first."""
    lives = [
        _lifetime(group) for group in by_resource(records) if ":task/" in group[0]["resourceArn"]
    ]
    return sorted(lives, key=lambda life: (life.created, life.arn))


def axis(lives: Sequence[Lifetime], since: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return the ends of the time axis: from the first creation, but not before `since`, to now."""
    begin = max(min((life.created for life in lives), default=since), since)
    latest = max((life.stopped or life.created for life in lives), default=now)
    return begin, max(now, latest, begin + _SECOND)


def bar(life: Lifetime, *, begin: datetime, end: datetime, width: int) -> str:
    """Draw a life over the time from `begin` to `end`, `width` columns wide.

    Every part of it that is known has a column, however short, unless the next one needs it; the
    end has one always. What lies outside is drawn at the edge.
    """

    def column(moment: datetime) -> int:
        return min(max(int((moment - begin) / (end - begin) * width), 0), width - 1)

    cells = [" "] * width
    last = column(life.stopped or end)
    for moment, glyph in (
        (life.created, STARTING),
        (life.started, RUNNING),
        (life.stopping, STOPPING),
    ):
        if moment is not None:
            first = column(moment)
            cells[first : last + 1] = glyph * (last + 1 - first)
    if life.stopped is not None:
        cells[last] = FAILED if life.failed else STOPPED
    return "".join(cells)


def scale(*, begin: datetime, end: datetime, width: int) -> str:
    """Write round times (UTC) where they are on the axis; '' where none has room."""
    span = end - begin
    form = "%H:%M:%S" if span < timedelta(minutes=10) else "%H:%M"
    if span > _DAY:
        form = "%m-%d %H:%M"
    room = len(begin.strftime(form)) + 2
    step = next((step for step in _STEPS if step * width >= room * span.total_seconds()), None)
    if step is None:
        return ""
    line = ""
    tick = -(-int(begin.timestamp()) // step) * step
    while (place := int((tick - begin.timestamp()) / span.total_seconds() * width)) < width:
        label = datetime.fromtimestamp(tick, UTC).strftime(form)
        if place >= 0 and place + len(label) <= width:
            line = f"{line:<{place}}{label}"
        tick += step
    return line


def _lifetime(events: Sequence[Record]) -> Lifetime:
    """Make one life of a task's events, oldest first; at least one.

    Each moment is the task's own (`startedAt`) where an event has it, else the time of the first
    event that shows it. Clocks may disagree: no moment is before the one it follows.
    """
    latest = events[-1]
    known = {name: _first(events, name) for name in _TASK_TIMES}
    seen: dict[str, datetime] = {}
    for event in events:
        state = event.get("lastStatus", "")
        seen.setdefault("STOPPING" if state in STOPPING_STATES else state, time_of(event))
    created = min(known["createdAt"] or time_of(events[0]), time_of(events[0]))
    started = _not_before(created, known["startedAt"] or seen.get("RUNNING"))
    stopping = _not_before(started or created, seen.get("STOPPING"))
    stopped = _not_before(stopping or started or created, known["stoppedAt"] or seen.get("STOPPED"))
    return Lifetime(
        arn=latest["resourceArn"],
        name=_last(latest.get("taskDefinitionArn", "")),
        created=created,
        started=started,
        stopping=stopping,
        stopped=stopped,
        failed=any(event.get("outcome") == "failed" for event in events),
        note=_note(latest),
    )


def _note(latest: Record) -> str:
    codes = [str(code) for code in latest.get("exitCodes", {}).values()]
    if codes:
        return f"exit {', '.join(codes)}"
    return str(latest.get("stopCode") or latest.get("lastStatus", "").lower())


def _first(events: Iterable[Record], name: str) -> datetime | None:
    return next((moment for event in events if (moment := utc_moment(event.get(name, "")))), None)


def _not_before(bound: datetime, moment: datetime | None) -> datetime | None:
    return None if moment is None else max(bound, moment)


def _event_key(record: Record) -> tuple[str, str]:
    """Time first, then version: the order in which one task changed."""
    return record["eventKey"], record["resourceArn"]


def _names(asked: str, arn: str) -> bool:
    return asked in {arn, _last(arn)}


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]
