"""What the event log keeps of one ECS event.

The events: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html. They
arrive at least once and in any order, and AWS adds detail types and fields as it pleases. So a
record is a function of its event alone, the same event always overwrites itself, and what is
unknown is kept with what all events have in common.

Values of environment variables often are secrets. Unless told otherwise, `read_event` masks them:
nothing after it can store, send or log them.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict, cast

from ecs_ops.errors import InvalidRequest
from ecs_ops.verdict import ENDED_BY_ECS, exit_code_meaning, task_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MASK: Final = "***"
_DAY: Final = 86_400
_SUMMARY_LENGTH: Final = 300
# Characters of an attribute. ECS's own reasons are shorter; what is longer is in the event.
_TEXT_LENGTH: Final = 2_000
# Bytes of the compressed event. An item may have 400 KB, of which the attributes need a few.
_EVENT_SIZE: Final = 350_000
_TASK_ID_SHOWN: Final = 8
# Ends the name of every launch_task function.
_LAUNCHER: Final = "-launch-task"

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
# The scheduler of a service stops tasks to scale in and to deploy, and those that fail their health
# checks. Only the text of the reason tells them apart: "Task failed ELB health checks in (…)".
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
_UNHEALTHY: Final = "Task failed "
_KILLED: Final = 137
_SECONDS_UNTIL_KILLED: Final = 5
"""Fewer than any `stopTimeout` that is in use; its default is 30."""


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
    """The whole event as JSON, gzip; environment values are masked unless told otherwise."""
    omitted: NotRequired[list[str]]
    """What `event` lacks because it would not fit: `detail.containers`, for example."""
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
    launcher: NotRequired[str]
    """Function that launched the task: the key of the index that holds launched tasks only."""
    launchKey: NotRequired[str]
    """See `launch_key`; with `launcher` only. All records of a task have the same."""


@dataclass(frozen=True, slots=True)
class EcsEvent:
    """An event in EventBridge's envelope, checked."""

    id: str
    time: datetime
    detail_type: str
    resource: str
    """ARN of the task, container instance or service."""
    detail: Mapping[str, Any]
    envelope: Mapping[str, Any]
    """The whole event, `detail` included."""
    text: str
    """The whole event as JSON: as it came, or with its environment values masked."""


def read_event(text: str, *, mask_environment: bool = True) -> EcsEvent:
    """Read one event as EventBridge delivers it.

    Args:
        text: JSON.
        mask_environment: whether the values of environment variables are replaced.

    Raises:
        InvalidRequest: not JSON, or not an event. Its text never quotes what was sent.
    """
    try:
        envelope = json.loads(text)
        # Most events hold no environment. In JSON its name is plain, or has escapes in it.
        if mask_environment and ("environment" in text or "\\u" in text):
            envelope = _masked(envelope)
            text = _json(envelope)
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
        text=text,
    )


def record_of(
    event: EcsEvent,
    *,
    retention_days: int,
    now: int,
    essential: Collection[str] | None = None,
) -> EventRecord:
    """Return what the table keeps of this event.

    Args:
        event: from `read_event`.
        retention_days: how long a record is kept, counted from when the event happened.
        now: epoch seconds. Matters only to an event that is older than its retention.
        essential: see `is_failure`.
    """
    time = event.time.isoformat(timespec="seconds").replace("+00:00", "Z")
    packed, omitted = _packed(event)
    record = EventRecord(
        resourceArn=event.resource,
        eventKey=f"{time}#{_integer(event.detail.get('version')) or 0:010d}#{event.id}",
        ttl=_ttl(int(event.time.timestamp()), retention_days, now),
        detailType=event.detail_type,
        time=time,
        summary=_one_line(_summary(event)),
        event=packed,
    )
    if omitted:
        record["omitted"] = omitted
    _add_readable(record, event)
    if is_failure(event.detail, essential):
        record["outcome"] = "failed"
        if cluster := record.get("clusterArn"):
            record["failedClusterArn"] = cluster
    # Only an escape of JSON can be half of a surrogate pair, which no item can hold.
    return cast("EventRecord", _valid(record)) if "\\u" in event.text else record


def _add_readable(record: EventRecord, event: EcsEvent) -> None:
    """Add those attributes that not every event has."""
    detail = event.detail
    # An empty string is no key of an index, and says nothing anyway.
    for name in _COPIED:
        if isinstance(text := detail.get(name), str) and text:
            record[name] = text[:_TEXT_LENGTH]
    if (version := _integer(detail.get("version"))) is not None:
        record["version"] = version
    if family := _family(detail):
        record["family"] = family
    if service := _service_name(event):
        record["serviceName"] = service
    if cluster := record.get("clusterArn") or _cluster_of_service(event.resource):
        record["clusterArn"] = cluster
    if codes := exit_codes(detail):
        record["exitCodes"] = codes
    launcher, slash, _ = record.get("startedBy", "").partition("/")
    if slash and launcher.endswith(_LAUNCHER) and (key := launch_key(record)):
        record["launcher"] = launcher
        record["launchKey"] = key


def launch_key(task: Mapping[str, Any]) -> str:
    """Return `<creation>#<task id>`, which sorts tasks by their creation, to the millisecond.

    Args:
        task: `taskArn` and `createdAt` are looked at: an `EventRecord`, or a `TaskState`.

    Returns:
        '' for a task of which one of them is not known.
    """
    created = utc_text(task.get("createdAt", ""))
    arn = task.get("taskArn", "")
    return f"{created}#{task_id(arn)}" if created and arn else ""


def utc_moment(text: str) -> datetime | None:
    """Read a time in ISO 8601, in UTC if it names no zone; None when it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def utc_text(text: str) -> str:
    """Return a time in ISO 8601 as `2030-01-31T12:00:00.000Z`; '' when it is none.

    ECS writes as many digits of a second as it takes, so its own texts do not sort by time.
    """
    moment = utc_moment(text)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else ""


def exit_codes(detail: Mapping[str, Any]) -> dict[str, int]:
    """Return container name to exit code; a container that never ran has none."""
    return {
        name: code
        for container in _dicts(detail.get("containers"))
        if isinstance(name := container.get("name"), str)
        and (code := _integer(container.get("exitCode"))) is not None
    }


def is_failure(detail: Mapping[str, Any], essential: Collection[str] | None = None) -> bool:
    """Tell whether a task's event says that the task failed.

    It failed when it could not start, when an essential container ended with a code other than 0,
    when its host or its capacity was taken away, or when it failed its health checks. A task that
    somebody stopped, or a service that scales in or deploys, did not, whatever code its containers
    exit with on SIGTERM.

    Args:
        detail: of a task state change.
        essential: names of the containers that decide. None: all of them, for an event does not
            say which are essential. It matters only where `containers_disagree`.
    """
    if detail.get("lastStatus") != "STOPPED":
        return False
    match detail.get("stopCode"):
        case "EssentialContainerExited":
            return _was_to_blame(detail, essential)
        case "ServiceSchedulerInitiated":
            return str(detail.get("stoppedReason")).startswith(_UNHEALTHY)
        case code:
            return isinstance(code, str) and code in _FAILING_STOP_CODES


def containers_disagree(detail: Mapping[str, Any]) -> bool:
    """Tell whether it takes the task definition to judge this task.

    That is so when one container ended well and another did not: a job that is done while its
    sidecar dies on SIGTERM has succeeded, a job that dies while its sidecar ends well has failed.
    """
    if (
        detail.get("lastStatus") != "STOPPED"
        or detail.get("stopCode") != "EssentialContainerExited"
    ):
        return False
    codes = {_integer(container.get("exitCode")) for container in _dicts(detail.get("containers"))}
    return 0 in codes and len(codes) > 1


def is_past_retention(event: EcsEvent, *, retention_days: int, now: int) -> bool:
    """Tell whether the log would have dropped this event by now: it is a replay, or a sample."""
    return int(event.time.timestamp()) + retention_days * _DAY <= now


def _was_to_blame(detail: Mapping[str, Any], essential: Collection[str] | None) -> bool:
    """Tell whether one of the containers is to blame that a task ended which ended by itself.

    When an essential container ends, ECS ends the others by a signal, and theirs is not the
    blame: not as long as one ended well, nothing (out of memory, for example) is said of them, and
    the stop took as long as it takes until ECS kills.
    """
    deciding = [
        container
        for container in _dicts(detail.get("containers"))
        if essential is None or str(container.get("name")) in essential
    ]
    codes = [_integer(container.get("exitCode")) for container in deciding]
    excused: set[int | None] = {None, *ENDED_BY_ECS} if 0 in codes else {None}
    if _was_stopped_at_once(detail):
        excused.discard(_KILLED)
    return any(
        code != 0 and (code not in excused or bool(container.get("reason")))
        for code, container in zip(codes, deciding, strict=True)
    )


def _was_stopped_at_once(detail: Mapping[str, Any]) -> bool:
    """Tell whether its containers had ended before ECS kills those that do not heed SIGTERM."""
    began = utc_moment(str(detail.get("stoppingAt")))
    ended = utc_moment(str(detail.get("executionStoppedAt")))
    if not began or not ended:
        return False
    return (ended - began).total_seconds() < _SECONDS_UNTIL_KILLED


def _packed(event: EcsEvent) -> tuple[bytes, list[str]]:
    """Return the event compressed, and the names of what was left out to make it fit.

    The largest parts go first. In the place of each is written how large it was.
    """
    packed = _compressed(event.text)
    if len(packed) <= _EVENT_SIZE:
        return packed, []
    envelope, detail = dict(event.envelope), dict(event.detail)
    envelope["detail"] = detail
    parts = [(detail, name, f"detail.{name}") for name in detail]
    parts += [(envelope, name, name) for name in envelope if name != "detail"]
    sizes = {path: len(_json(holder[name])) for holder, name, path in parts}
    omitted = []
    for holder, name, path in sorted(parts, key=lambda part: (-sizes[part[2]], part[2])):
        holder[name] = f"left out: {sizes[path]} bytes"
        omitted.append(path[:_TEXT_LENGTH])
        packed = _compressed(_json(envelope))
        if len(packed) <= _EVENT_SIZE:
            break
    return packed, omitted


def _compressed(text: str) -> bytes:
    """Return gzip without a file time: the same event gives the same bytes."""
    # Half of a surrogate pair has no UTF-8. Python's escape of it is JSON's too.
    return gzip.compress(text.encode(errors="backslashreplace"), mtime=0)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


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
    """`web:41 task 0a16c2d1… stopped: container app exited 137 (SIGKILL: …)`."""
    detail = event.detail
    definition = _last_part(detail.get("taskDefinitionArn"))
    task = f"{definition} task {_last_part(event.resource)[:_TASK_ID_SHOWN]}…".lstrip()
    status, wanted = detail.get("lastStatus"), detail.get("desiredStatus")
    if status != "STOPPED":
        return f"{task} is {status}" + (f", to be {wanted}" if wanted not in (status, None) else "")
    why = [detail.get("stoppedReason") or detail.get("stopCode")]
    if detail.get("stopCode") == "TaskFailedToStart":
        return f"{task} failed to start: {why[0]}"
    if exits := ", ".join(filter(None, map(_exit, _dicts(detail.get("containers"))))):
        # That an essential container exited, the containers themselves say better.
        ended_by_itself = detail.get("stopCode") == "EssentialContainerExited"
        why = [f"container {exits}"] if ended_by_itself else [*why, f"container {exits}"]
    return f"{task} stopped: {'; '.join(str(part) for part in why if part) or 'no reason given'}"


def _exit(container: Mapping[str, Any]) -> str:
    """`app exited 3 (…)`; '' when there is nothing to say about this container."""
    code, name = _integer(container.get("exitCode")), container.get("name")
    reason = container.get("reason")
    if code is None:
        return f"{name} has no exit code ({reason})" if reason else ""
    said = reason or exit_code_meaning(code)
    return f"{name} exited {code}" + (f" ({said})" if said else "")


def _last_part(arn: Any) -> str:
    return arn.rpartition("/")[2] if isinstance(arn, str) else ""


def _valid(value: Any) -> Any:
    """Copy a value with a question mark for each half of a surrogate pair."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case list():
            return [_valid(item) for item in value]
        case dict():
            return {_valid(key): _valid(item) for key, item in value.items()}
        case _:
            return value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SUMMARY_LENGTH else line[: _SUMMARY_LENGTH - 1] + "…"


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
