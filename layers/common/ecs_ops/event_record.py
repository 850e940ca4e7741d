"""What the event log keeps of one ECS event.

The events: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html. They
arrive at least once and in any order, and AWS adds detail types and fields as it pleases. So a
record is a function of its event alone, the same event always overwrites itself, and what is
unknown is kept with what all events have in common.

Values of environment variables often are secrets. They are masked when the event is read: nothing
after `read_event` can store or log them.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

from ecs_ops.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK: Final = "***"
_DAY: Final = 86_400
_SUMMARY_LENGTH: Final = 300

# A task's own fields that are kept under the name ECS gives them.
_COPIED: Final = (
    "clusterArn",
    "taskArn",
    "taskDefinitionArn",
    "group",
    "startedBy",
    "lastStatus",
    "desiredStatus",
    "stopCode",
    "stoppedReason",
    "launchType",
    "availabilityZone",
    "capacityProviderName",
    "createdAt",
    "startedAt",
    "stoppedAt",
)
# Stop codes that are a failure whatever the containers say: they took the task away.
_FAILING_STOP_CODES: Final = frozenset(
    {"TaskFailedToStart", "SpotInterruption", "TerminationNotice", "InfrastructureHealth"}
)


class EventRecord(TypedDict):
    """One item of the event table. Times are ISO 8601 in UTC, as ECS wrote them."""

    resourceArn: str
    """Partition key: the task, container instance or service the event is about."""
    eventKey: str
    """Sort key: `<time>#<version, ten digits>#<event id>`."""
    ttl: int
    """Epoch seconds after which DynamoDB drops the item."""
    detailType: str
    time: str
    summary: str
    """One line for a person."""
    event: bytes
    """The whole event as JSON, its environment values masked, gzip."""
    clusterArn: NotRequired[str]
    taskArn: NotRequired[str]
    taskDefinitionArn: NotRequired[str]
    family: NotRequired[str]
    serviceName: NotRequired[str]
    group: NotRequired[str]
    startedBy: NotRequired[str]
    lastStatus: NotRequired[str]
    desiredStatus: NotRequired[str]
    stopCode: NotRequired[str]
    stoppedReason: NotRequired[str]
    exitCodes: NotRequired[dict[str, int]]
    """Container name to exit code, of the containers that have one."""
    launchType: NotRequired[str]
    availabilityZone: NotRequired[str]
    capacityProviderName: NotRequired[str]
    createdAt: NotRequired[str]
    startedAt: NotRequired[str]
    stoppedAt: NotRequired[str]
    version: NotRequired[int]
    """Counts the changes of the resource; the higher one is the later one."""
    outcome: NotRequired[str]
    """`failed`, or absent."""
    failedClusterArn: NotRequired[str]
    """`clusterArn` of a failure: the key of the index that holds failures only."""


@dataclass(frozen=True, slots=True)
class EcsEvent:
    """An event in EventBridge's envelope, checked, with its environment values masked."""

    id: str
    time: datetime
    detail_type: str
    resource: str
    """ARN of the task, container instance or service."""
    detail: Mapping[str, Any]
    envelope: Mapping[str, Any]
    """The whole event, `detail` included."""


def read_event(text: str) -> EcsEvent:
    """Read one event as EventBridge delivers it.

    Raises:
        InvalidRequest: not JSON, or not an event. Its text never quotes what was sent.
    """
    try:
        envelope = _masked(json.loads(text))
    except ValueError as error:
        raise InvalidRequest("body", "must be an event as JSON") from error
    except RecursionError as error:
        raise InvalidRequest("body", "is nested too deeply") from error
    if not isinstance(envelope, dict):
        raise InvalidRequest("body", "must be an event, a JSON object")
    detail = envelope.get("detail")
    if not isinstance(detail, dict):
        raise InvalidRequest("detail", "must be an object")
    return EcsEvent(
        id=_required(envelope, "id"),
        time=_time(_required(envelope, "time")),
        detail_type=_required(envelope, "detail-type"),
        resource=_resource(envelope, detail),
        detail=detail,
        envelope=envelope,
    )


def record_of(event: EcsEvent, *, retention_days: int, now: int) -> EventRecord:
    """Return what the table keeps of this event.

    Args:
        event: from `read_event`.
        retention_days: how long a record is kept, counted from when the event happened.
        now: epoch seconds. Matters only to an event that is older than its retention.
    """
    detail = event.detail
    time = event.time.isoformat(timespec="seconds").replace("+00:00", "Z")
    version = _integer(detail.get("version"))
    record = EventRecord(
        resourceArn=event.resource,
        eventKey=f"{time}#{version or 0:010d}#{event.id}",
        ttl=_ttl(int(event.time.timestamp()), retention_days, now),
        detailType=event.detail_type,
        time=time,
        summary=_one_line(_summary(event)),
        # No file time and sorted keys: the same event gives the same bytes.
        event=gzip.compress(
            json.dumps(event.envelope, separators=(",", ":"), sort_keys=True).encode(), mtime=0
        ),
    )
    # An empty string is no key of an index, and says nothing anyway.
    for name in _COPIED:
        if isinstance(text := detail.get(name), str) and text:
            record[name] = text
    if version is not None:
        record["version"] = version
    if family := _family(detail):
        record["family"] = family
    if service := _service_name(event):
        record["serviceName"] = service
    if cluster := record.get("clusterArn") or _cluster_of_service(event.resource):
        record["clusterArn"] = cluster
    if codes := exit_codes(detail):
        record["exitCodes"] = codes
    if is_failure(detail):
        record["outcome"] = "failed"
        if cluster:
            record["failedClusterArn"] = cluster
    return record


def exit_codes(detail: Mapping[str, Any]) -> dict[str, int]:
    """Return container name to exit code; a container that never ran has none."""
    return {
        name: code
        for container in _dicts(detail.get("containers"))
        if isinstance(name := container.get("name"), str)
        and (code := _integer(container.get("exitCode"))) is not None
    }


def is_failure(detail: Mapping[str, Any]) -> bool:
    """Tell whether a task's event says that the task failed.

    A task somebody or the service's scheduler stopped did not fail, whatever code its containers
    exit with on SIGTERM. A task that never started has no exit code at all, and did.
    """
    if detail.get("lastStatus") != "STOPPED":
        return False
    if detail.get("stopCode") == "EssentialContainerExited":
        return any(code != 0 for code in exit_codes(detail).values())
    return detail.get("stopCode") in _FAILING_STOP_CODES


def _masked(value: Any) -> Any:
    """Copy a JSON value with the values of every `environment` in it masked.

    ECS puts them into `detail.overrides.containerOverrides[].environment[]`; CloudTrail's copy of
    a RunTask call has them elsewhere, and the next detail type may too.
    """
    if isinstance(value, dict):
        return {
            key: _masked_environment(item) if key == "environment" else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value


def _masked_environment(value: Any) -> Any:
    """Keep the names of `[{name, value}]`; of any other shape, keep nothing."""
    if not isinstance(value, list):
        return MASK
    return [
        {key: text if key == "name" else MASK for key, text in entry.items()}
        if isinstance(entry, dict)
        else MASK
        for entry in value
    ]


def _required(envelope: Mapping[str, Any], field: str) -> str:
    text = envelope.get(field)
    if not isinstance(text, str) or not text:
        raise InvalidRequest(field, "must be a text")
    return text


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise InvalidRequest("time", "must name its zone, like 2030-01-31T12:00:00Z")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("time", "must be like 2030-01-31T12:00:00Z") from error


def _resource(envelope: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """Return the ARN of what the event is about.

    A task on an instance names both, so the task comes first. An event about nothing in
    particular, such as CloudTrail's record of an API call, goes under its account and Region.
    """
    resources = envelope.get("resources")
    candidates = (
        detail.get("taskArn"),
        *(resources if isinstance(resources, list) else ()),
        detail.get("containerInstanceArn"),
        detail.get("clusterArn"),
    )
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate
    return f"{envelope.get('source')}/{envelope.get('account')}/{envelope.get('region')}"


def _ttl(happened: int, retention_days: int, now: int) -> int:
    """Return when DynamoDB may drop the record.

    It hangs on the event's own time, so that a redelivery writes the same bytes. An event that is
    too old already (from an archive, or a dead-letter queue) is kept until the end of the next
    day: time to look at it, and still the same for every delivery of one day.
    """
    ttl = happened + retention_days * _DAY
    return ttl if ttl > now else (now // _DAY + 2) * _DAY


def _family(detail: Mapping[str, Any]) -> str:
    """`arn:…:task-definition/web:12` is of the family `web`."""
    return _last_part(detail.get("taskDefinitionArn")).partition(":")[0]


def _service_name(event: EcsEvent) -> str:
    """Of a task, its group says it (`service:web`); else the resource is the service itself."""
    if ":service/" in event.resource:
        return _last_part(event.resource)
    group = event.detail.get("group")
    if isinstance(group, str) and group.startswith("service:"):
        return group.removeprefix("service:")
    return ""


def _cluster_of_service(arn: str) -> str:
    """Deployment events name no cluster, but `arn:…:service/<cluster>/<service>` does.

    ARNs of the format before 2018, `arn:…:service/<service>`, do not.
    """
    head, found, path = arn.partition(":service/")
    cluster, slash, _ = path.partition("/")
    return f"{head}:cluster/{cluster}" if found and slash else ""


def _summary(event: EcsEvent) -> str:
    detail = event.detail
    match event.detail_type:
        case "ECS Task State Change":
            return _task_summary(event)
        case "ECS Service Action" | "ECS Deployment State Change":
            reason = detail.get("reason")
            text = f"Service {_last_part(event.resource)}: {detail.get('eventName', 'no name')}"
            return f"{text}: {reason}" if reason else text
        case "ECS Container Instance State Change":
            agent = "connected" if detail.get("agentConnected") else "disconnected"
            instance = detail.get("ec2InstanceId") or _last_part(event.resource)
            return f"Container instance {instance} is {detail.get('status')}, agent {agent}"
        case _:
            return f"{event.detail_type}: {_last_part(event.resource)}"


def _task_summary(event: EcsEvent) -> str:
    detail = event.detail
    status, wanted = detail.get("lastStatus"), detail.get("desiredStatus")
    task = f"Task {_last_part(detail.get('taskDefinitionArn'))}"
    if service := _service_name(event):
        task += f" of service {service}"
    if status != "STOPPED":
        return f"{task} is {status}" + (f", to be {wanted}" if wanted != status else "")
    exits = ", ".join(f"{name} exited with {code}" for name, code in exit_codes(detail).items())
    reason = detail.get("stoppedReason") or detail.get("stopCode") or "no reason given"
    verb = "failed" if is_failure(detail) else "stopped"
    return f"{task} {verb}: {reason}" + (f" ({exits})" if exits else "")


def _last_part(arn: Any) -> str:
    return arn.rpartition("/")[2] if isinstance(arn, str) else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SUMMARY_LENGTH else line[: _SUMMARY_LENGTH - 1] + "…"


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
