"""What a person is told about tasks that failed: which of them, in one message, in what words.

A message is for SNS, so it keeps to the rules of Publish: a subject of fewer than 100 characters
without control characters, and at most 256 KiB for body and attributes together.
https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypedDict
from urllib.parse import quote

from ecs_ops.verdict import ENDED_BY_ECS, exit_code_meaning, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ecs_ops.event_record import EventRecord

_SUBJECT_LIMIT: Final = 99
# What of a subject may be taken by names, so that the reason is still read.
_DEFINITION_LIMIT: Final = 40
_CLUSTER_LIMIT: Final = 24

_LISTED: Final = 50
"""Tasks in one message, and values of one attribute."""
_LINE_LIMIT: Final = 600
_VALUE_LIMIT: Final = 256
# Bytes. What is left of SNS's 262,144 is for the last lines and the attributes.
_BODY_LIMIT: Final = 180_000

_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_STOP_CODES: Final = {
    "EssentialContainerExited": "a container that the task cannot do without ended",
    "TaskFailedToStart": "it never ran",
    "SpotInterruption": "its Spot capacity was taken back",
    "TerminationNotice": "its host is being terminated",
    "InfrastructureHealth": "its host failed",
    "ServiceSchedulerInitiated": "its service stopped it, for it failed its health checks",
}

# Where the console is, by partition. In others, such as the isolated ones, it is not public.
_CONSOLES: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
# `arn:aws:ecs:<region>:<account>:task/<cluster>/<id>`; until 2018 without the cluster.
_TASK_ARN: Final = re.compile(
    r"arn:([\w-]+):ecs:([\w-]{1,40}):\d*:task/(?:([\w-]{1,255})/)?([\w-]{1,64})", re.ASCII
)


class MessageAttribute(TypedDict):
    """As SNS takes it: `String`, or `String.Array` with a JSON list. Filter policies match both."""

    DataType: str
    StringValue: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about one or many failed tasks of one task definition."""

    subject: str
    """Printable ASCII, at most 99 characters; begins with a letter."""
    body: str
    """Plain text for a person."""
    attributes: dict[str, MessageAttribute]
    """Of `account`, `cluster`, `service`, `family` and `stopCode` those that are known; names."""


def failures(records: Iterable[EventRecord]) -> list[list[EventRecord]]:
    """Return the tasks that failed, one list for each task definition, oldest failure first.

    ECS tells of one stopped task several times; the latest telling, by version, stands for it.
    """
    latest: dict[str, EventRecord] = {}
    for record in records:
        if record.get("outcome") == "failed" and (arn := record.get("taskArn")):
            latest[arn] = max(latest.get(arn, record), record, key=_age)
    groups: defaultdict[str, list[EventRecord]] = defaultdict(list)
    for record in sorted(latest.values(), key=lambda task: (task["time"], task["taskArn"])):
        groups[record.get("taskDefinitionArn", "")].append(record)
    return list(groups.values())


def by_place(records: Iterable[EventRecord]) -> dict[tuple[str, str], set[str]]:
    """Return the ARNs of the tasks by the names of their cluster and service, '' for none."""
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        cluster = record.get("clusterArn", "").rpartition("/")[2]
        places[cluster, record.get("serviceName", "")].add(record["resourceArn"])
    return places


def hour_before(tasks: Sequence[EventRecord]) -> tuple[str, str]:
    """Return two `eventKey`s: an hour before the newest of these failures, and the newest.

    Between them, both included, is the last hour: also of a message that was retried for days.
    """
    newest = max(tasks, key=lambda task: task["eventKey"])
    # An event may claim any year, and there is no hour before the first one.
    since = max(datetime.fromisoformat(newest["time"]), _EPOCH) - _HOUR
    return since.isoformat(timespec="seconds").replace("+00:00", "Z"), newest["eventKey"]


def alert_of(
    tasks: Sequence[EventRecord], *, last_hour: int | None = None, at_least: bool = False
) -> Alert:
    """Return the message about these tasks.

    Args:
        tasks: one list of `failures`, or a part of it; not empty.
        last_hour: how many tasks of this task definition failed in the hour up to the newest of
            these; None when that is not known.
        at_least: whether it may be more of them.
    """
    return Alert(
        subject=_subject(tasks),
        body=_body(tasks, _last_hour(tasks, last_hour, at_least=at_least)),
        attributes={
            name: _attribute(values)
            for name, values in {
                "account": _distinct(_account(task) for task in tasks),
                "cluster": _distinct(_name(task.get("clusterArn", "")) for task in tasks),
                "service": _distinct(task.get("serviceName", "") for task in tasks),
                "family": _distinct(task.get("family", "") for task in tasks),
                "stopCode": _distinct(task.get("stopCode", "") for task in tasks),
            }.items()
            if values
        },
    )


def _age(record: EventRecord) -> tuple[int, str]:
    return record.get("version", 0), record["eventKey"]


def _subject(tasks: Sequence[EventRecord]) -> str:
    definition = one_line(_definition(tasks[0]), _DEFINITION_LIMIT)
    subject = f"{len(tasks)} tasks of {definition} failed" if tasks[1:] else f"{definition} failed"
    clusters = _distinct(_name(task.get("clusterArn", "")) for task in tasks)
    if len(clusters) == 1:
        subject += f" in {one_line(clusters[0], _CLUSTER_LIMIT)}"
    elif clusters:
        subject += f" in {len(clusters)} clusters"
    # The first failure: those after it often follow from it.
    return one_line(f"ECS: {subject}: {_cause(tasks[0])}", _SUBJECT_LIMIT)


def _cause(task: EventRecord) -> str:
    stop_code = task.get("stopCode", "")
    codes = [(name, code) for name, code in task.get("exitCodes", {}).items() if code != 0]
    if stop_code == "EssentialContainerExited" and codes:
        # Containers that ECS ended by a signal because another one failed are not to blame.
        return _exit(*max(codes, key=lambda exit_: exit_[1] not in ENDED_BY_ECS))
    return _STOP_CODES.get(stop_code, stop_code) or "no reason given"


def _body(tasks: Sequence[EventRecord], last_hour: str) -> str:
    title = [f"{len(tasks)} tasks of {_line(_definition(tasks[0]))} failed."] if tasks[1:] else []
    listed: list[str] = []
    room = _BODY_LIMIT
    for task in tasks[:_LISTED]:
        paragraph = _paragraph(task)
        room -= len(paragraph.encode())
        if room < 0:
            break
        listed.append(paragraph)
    rest = len(tasks) - len(listed)
    ending = [
        f"… and {rest} more, all of them in the event table." if rest else "",
        last_hour,
        "ECS shows a stopped task for about an hour; the event table keeps it.",
    ]
    return "\n\n".join([*title, *listed, "\n".join(filter(None, ending))])


def _paragraph(task: EventRecord) -> str:
    stop_code = task.get("stopCode", "")
    where = (
        ("cluster ", _name(task.get("clusterArn", ""))),
        ("service ", task.get("serviceName", "")),
        ("account ", _account(task)),
        ("", task.get("availabilityZone", "")),
        ("launch type ", task.get("launchType", "")),
        ("capacity provider ", task.get("capacityProviderName", "")),
    )
    when = (
        ("stopped ", task.get("stoppedAt", task["time"])),
        ("started ", task.get("startedAt", "")),
    )
    why = (stop_code, _STOP_CODES.get(stop_code, ""), task.get("stoppedReason", ""))
    exits = [_exit(name, code) for name, code in task.get("exitCodes", {}).items()]
    lines = {
        "Where": ", ".join(f"{label}{text}" for label, text in where if text),
        "When": ", ".join(f"{label}{text}" for label, text in when if text),
        "Why": ": ".join(filter(None, why)),
        "Exit codes": ", ".join(exits),
        **_links(task),
    }
    told = [f"{label}: {_line(text)}" for label, text in lines.items() if text]
    return "\n".join([_line(task["summary"]), *told])


def _links(task: EventRecord) -> dict[str, str]:
    arn = _TASK_ARN.fullmatch(task.get("taskArn", ""))
    if arn is None:
        return {}
    partition, region, cluster, identity = arn.groups()
    cluster = cluster or one_line(_name(task.get("clusterArn", "")), _VALUE_LIMIT)
    host = _CONSOLES.get(partition)
    if not (host and cluster):
        return {}
    page = f"https://{region}.{host}/ecs/v2/clusters/{quote(cluster, safe='')}/tasks/{identity}"
    return {
        "Task": f"{page}/configuration?region={region}",
        "Logs": f"{page}/logs?region={region}",
    }


def _last_hour(tasks: Sequence[EventRecord], count: int | None, *, at_least: bool) -> str:
    if count is None:
        return ""
    until = max(task["time"] for task in tasks)
    number = f"{'At least ' if at_least else ''}{count} task{'' if count == 1 else 's'}"
    return f"{number} of {_line(_definition(tasks[0]))} failed in the hour up to {until}."


def _exit(container: str, code: int) -> str:
    meaning = exit_code_meaning(code)
    return f"{container} exited {code}" + (f" ({meaning})" if meaning else "")


def _definition(task: EventRecord) -> str:
    """Return `web:41`."""
    return _name(task.get("taskDefinitionArn", "")) or "unknown task definition"


def _account(task: EventRecord) -> str:
    """Return the account that it ran in: one log may be that of many."""
    return "".join(task.get("taskArn", "").split(":")[4:5])


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _distinct(names: Iterable[str]) -> list[str]:
    lines = (one_line(name, _VALUE_LIMIT) for name in names)
    # Publish refuses an attribute without a value.
    return list(dict.fromkeys(filter(None, lines)))


def _attribute(values: Sequence[str]) -> MessageAttribute:
    if len(values) == 1:
        return {"DataType": "String", "StringValue": values[0]}
    return {"DataType": "String.Array", "StringValue": json.dumps(values[:_LISTED])}


def _line(text: str) -> str:
    """Return one printable line. Beyond ASCII it stays as it is, but for halves of surrogates."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= _LINE_LIMIT else f"{line[: _LINE_LIMIT - 1]}…"
