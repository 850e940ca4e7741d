"""What became of a task, and how to say it to a person.

The exit code of one container decides, but only where there is one: a task whose image could not
be pulled has none, and tools that read "none" as 0 report it as a success (kayac/ecspresso#534).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection

SENTENCE_LIMIT = 256
"""Characters: what crhelper passes on of a reason before it cuts off the *beginning*."""

# Half a minute at the pace run_task polls. DescribeTasks may not know a task yet in the moments
# after RunTask (ECS is eventually consistent), so one MISSING proves nothing.
_MISSES_THAT_PROVE = 10

# Stopped by somebody else: even an exit code of 0 then only says that the program took SIGTERM
# well, not that it finished.
_STOPPED_FROM_OUTSIDE = {
    "UserInitiated": "somebody called StopTask",
    "ServiceSchedulerInitiated": "a service scheduler stopped it",
    "SpotInterruption": "its Spot capacity was taken back",
    "TerminationNotice": "its host is being terminated",
    "InfrastructureHealth": "its host failed",
}

_FIRST_SIGNAL = 128
_MEANINGS = {
    126: "the command cannot be executed",
    127: "the command was not found",
    134: "SIGABRT: the program aborted itself",
    137: "SIGKILL: out of memory, or still running when the stop timeout ended",
    139: "SIGSEGV: the program touched memory it does not own",
    143: "SIGTERM: the program was asked to stop",
}


class ContainerState(TypedDict):
    """One container of a task. `exitCode` is absent until it ends, or if it never began."""

    name: str
    exitCode: NotRequired[int]
    reason: NotRequired[str]


class TaskState(TypedDict):
    """What is kept of an ECS task: JSON, so that a durable execution can store it.

    Times are ISO 8601 in UTC.
    """

    taskArn: str
    clusterArn: str
    lastStatus: str
    containers: list[ContainerState]
    stopCode: NotRequired[str]
    stoppedReason: NotRequired[str]
    startedAt: NotRequired[str]
    stoppedAt: NotRequired[str]


class Sighting(TypedDict):
    """A task as it was last seen, and how many looks in a row have not found it since."""

    task: TaskState
    missed: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a task ended."""

    succeeded: bool
    exit_code: int | None
    sentence: str
    """For a person: the verdict first; at most 256 characters of printable ASCII."""


def look(last: Sighting, now: TaskState | None) -> Sighting:
    """Return what is known after another look; `now` is None when ECS does not know the task."""
    if now is None:
        return {"task": last["task"], "missed": last["missed"] + 1}
    return {"task": now, "missed": 0}


def is_over(sighting: Sighting) -> bool:
    """Say whether there is nothing more to wait for: the task has stopped, or has vanished."""
    return sighting["task"]["lastStatus"] == "STOPPED" or has_vanished(sighting)


def has_vanished(sighting: Sighting) -> bool:
    """Say whether ECS has forgotten the task, as it does an hour after a task stops."""
    return sighting["missed"] >= _MISSES_THAT_PROVE


def judge(task: TaskState, container: str, success_codes: Collection[int] = (0,)) -> Verdict:
    """Judge a stopped task by the exit code of one of its containers.

    Args:
        task: its `lastStatus` is STOPPED.
        container: name of the container that decides.
        success_codes: exit codes that mean success.

    Returns:
        A failure when that container has no exit code, when the code is not one of
        `success_codes`, when the task could not start, or when something other than the task
        itself ended it.
    """
    state = next((one for one in task["containers"] if one["name"] == container), None)
    code = state.get("exitCode") if state else None
    reasons = [state.get("reason", "") if state else "", task.get("stoppedReason", "")]
    stop_code = task.get("stopCode", "")

    if stop_code == "TaskFailedToStart":
        succeeded, head = False, "Task failed to start"
    elif stop_code in _STOPPED_FROM_OUTSIDE:
        ended = "" if code is None else f"; container {container} exited with {code}"
        head = f"Task was stopped before it finished: {_STOPPED_FROM_OUTSIDE[stop_code]}{ended}"
        succeeded = False
    elif code is None:
        succeeded, head = False, f"Task failed: container {container} ended without an exit code"
    else:
        succeeded = code in success_codes
        said = exit_code_meaning(code)
        meaning = f" ({said})" if said else ""
        outcome = "Task succeeded" if succeeded else "Task failed"
        head = f"{outcome}: container {container} exited with {code}{meaning}"
    return Verdict(succeeded, code, _sentence(head, reasons, task))


def vanished(task: TaskState) -> Verdict:
    """Return the verdict on a task that ECS no longer knows: a failure, for nothing proves it."""
    head = f"Task failed: ECS no longer knows it (MISSING; last seen {task['lastStatus']})"
    return Verdict(succeeded=False, exit_code=None, sentence=_sentence(head, [], task))


def overdue(task: TaskState, seconds: int) -> Verdict:
    """Return the verdict on a task that had not stopped after so many seconds."""
    head = (
        f"Task did not end within {seconds} seconds and was left alone "
        f"(last seen {task['lastStatus']})"
    )
    return Verdict(succeeded=False, exit_code=None, sentence=_sentence(head, [], task))


def exit_code_meaning(code: int) -> str:
    """Say what an exit code usually means; '' when it is the program's own.

    Shells and container runtimes report "ended by signal N" as 128 + N.
    """
    if code in _MEANINGS:
        return _MEANINGS[code]
    try:
        return signal.Signals(code - _FIRST_SIGNAL).name if code > _FIRST_SIGNAL else ""
    except ValueError:
        return ""


def task_id(task_arn: str) -> str:
    """Return the last part of a task's ARN, which is its id in the old and the new format."""
    return task_arn.rsplit("/", 1)[-1]


def one_line(text: str, limit: int) -> str:
    """Return `text` on one line of printable ASCII, at most `limit` characters long.

    CloudFormation measures its answer in bytes, and characters beyond ASCII take up to twelve of
    them in JSON.
    """
    line = " ".join(text.split())
    line = "".join(char if char.isascii() and char.isprintable() else "?" for char in line)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _sentence(head: str, reasons: list[str], task: TaskState) -> str:
    """Join verdict, reasons and task id; when it gets long, it is the reasons that are cut."""
    tail = f" Task {task_id(task['taskArn'])}."
    head = one_line(f"{head}.", SENTENCE_LIMIT - len(tail))
    told = " ".join(f"{reason.strip().rstrip('.')}." for reason in reasons if reason.strip())
    room = SENTENCE_LIMIT - len(head) - len(tail) - 1
    detail = f" {one_line(told, room)}" if told and room > len("...") else ""
    return f"{head}{detail}{tail}"
