"""What a person is told about a recycle: how it ended, and how the service was left.

The words go to SNS and into a mail, so they keep to the stricter rules of the two: a subject of
fewer than 100 characters on one line, and at most 256 KiB for body and attributes together.
https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ecs_ops.verdict import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ecs_ops.recycle import Report, TaskReport

_SUBJECT_LIMIT: Final = 99
# What of a subject may be taken by the prefix, so that there is room for names and numbers.
_PREFIX_LIMIT: Final = 24
_VALUE_LIMIT: Final = 256
_LISTED: Final = 50
"""Tasks in one message."""
# Characters of up to four bytes each; twice 50 lines of them, and a few more, stay far below SNS's
# 262,144 bytes. The longest ARN of a task takes some 350.
_LINE_LIMIT: Final = 400

_TOLD: Final = {
    "succeeded": ("Recycled ", ": ", " tasks"),
    "failed": ("Recycle of ", " ended early: ", " tasks replaced"),
    "planned": ("Plan for ", ": ", " tasks would be replaced"),
}
_OUTCOMES: Final = {
    "succeeded": "is done",
    "failed": "ended early",
    "planned": "was planned only, and nothing was changed",
}
_ENDED: Final = {"FAILED": "failed", "STOPPED": "was stopped", "TIMED_OUT": "timed out"}


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """An execution that ended without a result, and the service that was put back after it."""

    cluster_name: str
    service_name: str
    status: str
    """FAILED, STOPPED or TIMED_OUT."""
    error: str
    """Why, where Lambda knows; or ''."""
    put_back: bool
    """Whether the recycle had changed the service, and that is undone."""
    desired_count: int | None
    """As last seen; None when it was not looked at."""
    problem: str = ""
    """Why it could not be put back; '' when it could."""


def subject_of(report: Report, prefix: str = "") -> str:
    """Return one line of at most 99 printable ASCII characters; of long names the end is cut."""
    count = len(report["planned" if report["outcome"] == "planned" else "recycled"])
    head, middle, tail = _TOLD[report["outcome"]]
    rest = f"{middle}{count} of {_total(report)}{tail}"
    return _subject(prefix, head, report["cluster_name"], report["service_name"], rest)


def body_of(report: Report, execution_arn: str) -> str:
    """Return plain text, below SNS's limit however many tasks the report names."""
    return _body(
        f"Recycling {_where(report['cluster_name'], report['service_name'])} "
        f"{_OUTCOMES[report['outcome']]}.",
        f"Problem: {report['problem']}" if report["problem"] else "",
        "",
        f"Tasks: {len(report['recycled'])} recycled, {len(report['skipped'])} skipped, "
        f"{len(report['failed'])} failed, {len(report['planned'])} not begun.",
        *_numbers(report),
        *_tasks({"failed": report["failed"], "skipped": report["skipped"]}),
        "",
        *_execution(execution_arn),
        "Its result names every task.",
    )


def restore_subject_of(restore: RestoreReport, prefix: str = "") -> str:
    """Return a subject like that of `subject_of`."""
    rest = f" {_ended(restore)}: {_restored(restore)[0]}"
    return _subject(prefix, "Recycle of ", restore.cluster_name, restore.service_name, rest)


def restore_body_of(restore: RestoreReport, execution_arn: str) -> str:
    """Return plain text like that of `body_of`."""
    return _body(
        f"Recycling {_where(restore.cluster_name, restore.service_name)} {_ended(restore)}.",
        f"Why: {restore.error}" if restore.error else "",
        "",
        f"The service: {_restored(restore)[1]}",
        f"Desired count: {_known(restore.desired_count)}.",
        "",
        *_execution(execution_arn),
        "Its history names the tasks that were stopped.",
    )


def attributes_of(cluster_name: str, service_name: str, outcome: str) -> dict[str, str]:
    """Return what a subscription can filter by: `cluster`, `service` and `outcome`.

    Args:
        cluster_name: name or ARN.
        service_name: name or ARN.
        outcome: of a Report; or the status of a RestoreReport, which is made lower case.
    """
    attributes = {
        "cluster": one_line(_name(cluster_name), _VALUE_LIMIT),
        "service": one_line(_name(service_name), _VALUE_LIMIT),
        "outcome": one_line(outcome.lower(), _VALUE_LIMIT),
    }
    # Publish refuses an attribute without a value.
    return {name: value for name, value in attributes.items() if value}


def _subject(prefix: str, head: str, cluster: str, service: str, rest: str) -> str:
    prefix = one_line(prefix, _PREFIX_LIMIT)
    head = f"{prefix} {head}" if prefix else head
    room = _SUBJECT_LIMIT - len(f"{head} in {rest}")
    # Each may take what the other leaves.
    cluster, service = _name(cluster), _name(service)
    cluster = one_line(cluster, max(room - len(service), room // 2))
    service = one_line(service, room - len(cluster))
    return one_line(f"{head}{service} in {cluster}{rest}", _SUBJECT_LIMIT)


def _body(*lines: str) -> str:
    """Join lines; of several that are empty in a row, one stays, for a paragraph."""
    text = "\n".join(map(_line, lines))
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _total(report: Report) -> int:
    return sum(len(report[tasks]) for tasks in ("planned", "recycled", "skipped", "failed"))


def _numbers(report: Report) -> Iterator[str]:
    tasks, desired = report["capacity"], report["desired_count"]
    if report["outcome"] == "planned":
        yield f"In service: {tasks['before']}."
        yield f"Desired count: {desired['before']}."
        return
    yield (
        f"In service: {tasks['before']} before, {tasks['during']} at the lowest, "
        f"{_known(tasks['after'])} after."
    )
    if desired["after"] is None:
        told = "ECS gave no answer; look whether it was put back"
    elif desired["after"] == desired["before"]:
        told = "as it was"
    else:
        told = "not put back, or somebody else changed it"
    yield f"Desired count: {desired['before']} before, {_known(desired['after'])} after: {told}."


def _tasks(kinds: dict[str, Sequence[TaskReport]]) -> Iterator[str]:
    """List tasks under what became of them and why, up to 50 of them altogether."""
    room = _LISTED
    for kind, reports in kinds.items():
        for why, arns in _by_reason(reports).items():
            listed = arns[:room]
            if not listed:
                continue
            yield ""
            yield f"{len(arns)} {kind}: {why}"
            yield from (f"- {arn}" for arn in listed)
            room -= len(listed)
    rest = sum(map(len, kinds.values())) - (_LISTED - room)
    if rest:
        yield ""
        yield f"… and {rest} more that are not listed here."


def _by_reason(reports: Iterable[TaskReport]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for report in reports:
        groups[report["why"]].append(report["task_arn"])
    return groups


def _execution(arn: str) -> Iterator[str]:
    yield f"Execution: {arn}"
    yield f"    aws lambda get-durable-execution --durable-execution-arn {shlex.quote(arn)}"


def _ended(restore: RestoreReport) -> str:
    return _ENDED.get(restore.status, "ended")


def _restored(restore: RestoreReport) -> tuple[str, str]:
    """Say in few words and in more how the service was left."""
    if restore.problem:
        return "NOT put back", f"not put back: {restore.problem}"
    if restore.put_back:
        return "put back", "put back; what somebody else changed meanwhile was left as it is."
    return "nothing to put back", "there was nothing to put back."


def _known(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _where(cluster: str, service: str) -> str:
    return f"{_name(service)} in {_name(cluster)}"


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _line(text: str) -> str:
    """Return one printable line, indented as it was; beyond ASCII it stays as it is."""
    indent = "    " if text.startswith("    ") else ""
    line = indent + " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= _LINE_LIMIT else f"{line[: _LINE_LIMIT - 1]}…"
