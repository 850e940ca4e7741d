"""A run, which is a task that launch_task started: whose it is, how it stands, how runs are listed.

The task's `startedBy` is `<launcher>/<profile>/<caller>`; nothing else is kept about a run.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, get_args

from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import launch_key
from ecs_ops.verdict import STOPPING_STATES, exit_code_meaning, judge, task_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ecs_ops.verdict import TaskState

Status = Literal["PENDING", "RUNNING", "STOPPING", "SUCCEEDED", "FAILED", "STOPPED"]
STATUSES: tuple[Status, ...] = get_args(Status)

_WHOLE = re.compile(r"[0-9]{1,6}")
# The old format is a UUID. ECS takes no other length.
_ID = "[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
RUN_ID = re.compile(_ID)
_CURSOR = re.compile(f"[0-9TZ:.-]{{20,30}}_({_ID})")

_PENDING = frozenset({"PROVISIONING", "PENDING", "ACTIVATING", ""})


class Run(TypedDict):
    """A run on the wire: see the schema `Run` of openapi.json."""

    id: str
    taskArn: str
    profile: str
    caller: str
    cluster: str
    taskDefinition: str
    status: Status
    lastStatus: str
    exitCode: int | None
    exitCodeMeaning: str | None
    reason: str | None
    createdAt: str | None
    startedAt: str | None
    stoppedAt: str | None


class Origin(NamedTuple):
    """Who launched a run, and by which profile."""

    profile: str
    caller: str


def origin_of(task: TaskState, launcher: str) -> Origin | None:
    """Return who launched the task; None when it was not this launcher."""
    name, _, rest = task.get("startedBy", "").partition("/")
    profile, _, caller = rest.partition("/")
    return Origin(profile, caller) if name == launcher and profile and caller else None


def run_of(task: TaskState, origin: Origin, containers: Sequence[str]) -> Run:
    """Return the run.

    Args:
        task: as it is.
        origin: see `origin_of`.
        containers: names of those whose exit codes decide; looked at only when it has stopped.
    """
    run: Run = {
        "id": task_id(task["taskArn"]),
        "taskArn": task["taskArn"],
        "profile": origin.profile,
        "caller": origin.caller,
        "cluster": task["clusterArn"],
        "taskDefinition": task.get("taskDefinitionArn", ""),
        "status": "STOPPING" if is_stopping(task) else _status(task["lastStatus"]),
        "lastStatus": task["lastStatus"],
        "exitCode": None,
        "exitCodeMeaning": None,
        "reason": None,
        "createdAt": task.get("createdAt"),
        "startedAt": task.get("startedAt"),
        "stoppedAt": task.get("stoppedAt"),
    }
    if task["lastStatus"] == "STOPPED":
        verdict = judge(task, containers)
        run["status"] = _end(task, succeeded=verdict.succeeded)
        run["exitCode"] = verdict.exit_code
        run["reason"] = verdict.sentence
        if verdict.exit_code is not None:
            run["exitCodeMeaning"] = exit_code_meaning(verdict.exit_code) or None
    return run


def is_over(run: Run) -> bool:
    return run["lastStatus"] == "STOPPED"


def is_stopping(task: TaskState) -> bool:
    """Say whether a task that has not stopped yet is on its way to it."""
    return task.get("desiredStatus") == "STOPPED" or task["lastStatus"] in STOPPING_STATES


def task_arn(cluster: str, run_id: str, function_arn: str) -> str:
    """Return the ARN of the task with this id.

    Args:
        cluster: name or ARN.
        run_id: the task's.
        function_arn: of a function in the same account and Region.
    """
    _, partition, _, region, account, *_ = function_arn.split(":")
    name = cluster.rsplit("/", 1)[-1]
    return f"arn:{partition}:ecs:{region}:{account}:task/{name}/{run_id}"


# ---------------------------------------------------------------- lists


class Slice(NamedTuple):
    """The next tasks of a list, newest first, and where it goes on."""

    tasks: list[tuple[str, TaskState]]
    """By their keys."""
    end: str | None
    """Key after which to ask again; None when nothing comes after these."""


def merge(live: Iterable[TaskState], past: Sequence[TaskState], *, after: str, asked: int) -> Slice:
    """Return the tasks after a key, each once, newest first.

    Args:
        live: what ECS knows, in any order.
        past: what the event log knows below the key, newest first; where both know a task, ECS is
            believed.
        after: `launch_key` of the last task that was listed; '' for none.
        asked: how many the log was asked for. When it gave that many there are more, and nothing
            older than its last can be told yet.
    """
    known = {task["taskArn"]: task for task in chain(past, live)}
    keyed = {key: task for task in known.values() if (key := launch_key(task))}
    end = launch_key(past[-1]) if len(past) >= asked else ""
    keys = sorted((key for key in keyed if key >= end and (not after or key < after)), reverse=True)
    return Slice([(key, keyed[key]) for key in keys], end or None)


def read_cursor(text: str) -> str:
    """Return the key that a caller's `after` stands for; '' for none.

    Raises:
        InvalidRequest: it is not one that was handed out.
    """
    if text and not _CURSOR.fullmatch(text):
        raise InvalidRequest("after", "must be what a page before called next")
    return text.replace("_", "#")


def cursor(key: str) -> str:
    """Return a key as it goes into a query, unescaped."""
    return key.replace("#", "_")


def read_status(text: str | None) -> Collection[Status]:
    """Return the statuses a caller wants to see: all for None.

    Raises:
        InvalidRequest: there is no such status.
    """
    if text is None:
        return STATUSES
    found = [status for status in STATUSES if status == text.upper()]
    if not found:
        raise InvalidRequest("status", f"must be one of {', '.join(STATUSES)}")
    return found


def read_limit(text: str | None, *, default: int, most: int) -> int:
    """Return how many a caller asks for.

    Raises:
        InvalidRequest: not a whole number from 1 to `most`.
    """
    if text is None:
        return default
    if not (_WHOLE.fullmatch(text) and 1 <= int(text) <= most):
        raise InvalidRequest("limit", f"must be a whole number from 1 to {most}")
    return int(text)


def _status(last: str) -> Status:
    return "PENDING" if last in _PENDING else "RUNNING"


def _end(task: TaskState, *, succeeded: bool) -> Status:
    if task.get("stopCode") == "UserInitiated":
        return "STOPPED"
    return "SUCCEEDED" if succeeded else "FAILED"
