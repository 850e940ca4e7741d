"""What became of a task, and how to say it to a person.

The exit code of one container decides, but only where there is one: a task whose image could not
be pulled has none, and tools that read "none" as 0 report it as a success (kayac/ecspresso#534).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Characters. CloudFormation takes an answer of 4096 bytes, in which JSON doubles some of them; the
# verdict and where to look come before the log, so what is cut off is cut off there.
_REASON_LIMIT = 600
_LOG_LINE_LIMIT = 400
_LOG_LIMIT = 1500
_ALL = 4000

# Three quarters of a minute at the pace run_task polls. DescribeTasks may not know a task yet in
# the moments after RunTask (ECS is eventually consistent), so one MISSING proves nothing.
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

STOPPING_STATES = frozenset({"DEACTIVATING", "STOPPING", "DEPROVISIONING"})
"""What `lastStatus` says of a task that is on its way to STOPPED.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html"""

_FIRST_SIGNAL = 128
# What a container ends with that ECS stops: SIGTERM, and SIGKILL where that does not help.
ENDED_BY_ECS = frozenset({137, 143})
_MEANINGS = {
    126: "the command cannot be executed",
    127: "the command was not found",
    134: "SIGABRT: the program aborted itself",
    137: "SIGKILL: killed, often out of memory",
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
    desiredStatus: NotRequired[str]
    taskDefinitionArn: NotRequired[str]
    startedBy: NotRequired[str]
    stopCode: NotRequired[str]
    stoppedReason: NotRequired[str]
    createdAt: NotRequired[str]
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
    """For a person: the verdict first; printable ASCII."""
    container: str = ""
    """Whose exit code, or whose lack of one, decided; '' when none did."""


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


def has_ended(task: TaskState, containers: Collection[str]) -> bool:
    """Say whether the task can be judged: it has stopped, or is stopping and these have ended.

    What ECS still has to do then, such as taking back the network interface, can take minutes.
    """
    return task["lastStatus"] == "STOPPED" or (
        task["lastStatus"] in STOPPING_STATES
        and all("exitCode" in _state_of(task, name) for name in containers)
    )


def judge(
    task: TaskState, containers: Sequence[str], success_codes: Collection[int] = (0,)
) -> Verdict:
    """Judge a task that has ended by the exit codes of some of its containers.

    Args:
        task: see `has_ended`.
        containers: names of those that decide; every one must have succeeded.
        success_codes: exit codes that mean success.

    Returns:
        A failure when one of them has no exit code, when a code is not one of `success_codes`,
        when the task could not start, or when something other than the task itself ended it.
    """
    name = _decisive(task, containers, success_codes)
    state = _state_of(task, name)
    code = state.get("exitCode")
    reasons = [state.get("reason", ""), task.get("stoppedReason", "")]
    stop_code = task.get("stopCode", "")

    if stop_code == "TaskFailedToStart":
        succeeded, head = False, "Task failed to start"
    elif stop_code in _STOPPED_FROM_OUTSIDE:
        ended = "" if code is None else f"; container {name} exited with {code}"
        head = f"Task was stopped before it finished: {_STOPPED_FROM_OUTSIDE[stop_code]}{ended}"
        succeeded = False
    elif code is None:
        succeeded, head = False, f"Task failed: container {name} ended without an exit code"
    else:
        succeeded = code in success_codes
        said = exit_code_meaning(code)
        meaning = f" ({said})" if said else ""
        outcome = "Task succeeded" if succeeded else "Task failed"
        head = f"{outcome}: container {name} exited with {code}{meaning}"
    return Verdict(succeeded, code, _sentence(head, reasons, task), name)


def _decisive(task: TaskState, containers: Sequence[str], success_codes: Collection[int]) -> str:
    """Return the container that the verdict speaks of: the one to blame, if there is one.

    When an essential container ends, ECS ends the others by a signal: theirs is not the blame, as
    long as another failed by itself.
    """

    def blame(name: str) -> int:
        code = _state_of(task, name).get("exitCode")
        if code in success_codes:
            return 0
        return 1 if code is None or code in ENDED_BY_ECS else 2

    return max(containers, key=blame)


def _state_of(task: TaskState, container: str) -> ContainerState:
    none: ContainerState = {"name": container}
    return next((one for one in task["containers"] if one["name"] == container), none)


def vanished(task: TaskState) -> Verdict:
    """Return the verdict on a task that ECS no longer knows: a failure, for nothing proves it."""
    head = f"Task failed: ECS no longer knows it (MISSING; last seen {task['lastStatus']})"
    return Verdict(succeeded=False, exit_code=None, sentence=_sentence(head, [], task))


def overdue(task: TaskState, seconds: int, trouble: str = "") -> Verdict:
    """Return the verdict on a task that had not stopped after so many seconds.

    Args:
        task: as it was last seen.
        seconds: how long it was waited for.
        trouble: why it could not be stopped; '' when it was.
    """
    head = f"Task did not end within {seconds} seconds (last seen {task['lastStatus']}) and was "
    head += f"asked to stop, which failed: {trouble}" if trouble else "stopped"
    return Verdict(succeeded=False, exit_code=None, sentence=_sentence(head, [], task))


def report(verdict: Verdict, *, group: str, stream: str, lines: Sequence[str]) -> str:
    """Return what a person reads who has only CloudFormation's console.

    Args:
        verdict: comes first.
        group: where the container logs; '' when that is not known.
        stream: the same.
        lines: its last ones. When they get long, the oldest are left out.
    """
    if not stream:
        return verdict.sentence
    where = f"{verdict.sentence} Log stream {stream} of {group}"
    kept: list[str] = []
    room = _LOG_LIMIT
    for line in reversed([one_line(line, _LOG_LINE_LIMIT) for line in lines]):
        room -= len(line)
        if room < 0:
            break
        kept.insert(0, line)
    return one_line(f"{where}, last lines: {' | '.join(kept)}" if kept else f"{where}.", _ALL)


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
    """Join verdict, reasons and task id."""
    told = [one_line(reason.strip().rstrip("."), _REASON_LIMIT) for reason in reasons]
    parts = [one_line(head, _REASON_LIMIT), *told, f"Task {task_id(task['taskArn'])}"]
    return " ".join(f"{part}." for part in parts if part)
