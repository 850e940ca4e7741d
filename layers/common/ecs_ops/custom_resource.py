"""Custom::ECSRunTask as CloudFormation sees it: the request, its properties, and the answer.

CloudFormation hands over every scalar as a string (`"true"`, `"1"`), so each property is coerced
by what it is, never by what it looks like: an account id must not lose its leading zero.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypedDict, cast, get_args

from ecs_ops.errors import InvalidRequest
from ecs_ops.task_request import (
    CapacityProvider,
    Network,
    TaskRequest,
    check_environment,
    started_by,
)
from ecs_ops.verdict import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_ecs.literals import AssignPublicIpType, LaunchTypeType, PropagateTagsType

    from ecs_ops.verdict import TaskState

RequestType = Literal["Create", "Update", "Delete"]
Outcome = Literal["Succeeded", "Started", "Skipped"]
Phase = Literal["under way", "rolling back", "over"]
"""What a stack is about, for a request of it: what the request is part of; undoing that; neither,
and then nobody waits for the request any more."""
Kind = Literal["", "wait", "rollback", "delete"]
"""Why a resource runs a task: CloudFormation waits for its end, or does not (''); the stack rolls
back; the resource is deleted. Tasks of before there were kinds have '', waited for or not."""

KNOWN = frozenset(
    {
        *("ServiceToken", "ServiceTimeout", "Cluster", "ClusterId", "TaskDefinition"),
        *("ContainerName", "Command", "Environment", "LaunchType", "CapacityProviderStrategy"),
        *("PlatformVersion", "NetworkConfiguration", "Cpu", "Memory", "EphemeralStorageGiB"),
        *("TaskRoleArn", "ExecutionRoleArn", "EnableExecuteCommand", "Group", "Tags"),
        *("PropagateTags", "RunOn", "RunOnRollback", "WaitForExit", "SuccessExitCodes"),
        *("Service", "Timeout", "Iteration", "Triggers"),
    }
)

_LONGEST_SERVICE_TIMEOUT = 3600
EXECUTION_TIMEOUT = 3540
"""Seconds the durable execution may take: a minute less than the hour, which is for the answer
to a request whose execution timed out."""
# Kept back for stopping the task and for the answer.
_MARGIN = 30
# Some years, so that a mistake of units is still told from a wish.
_LONGEST_TIMEOUT = 9_999_999
_EXIT_CODES = range(256)
_MOST_CAPACITY_WEIGHT = 1000
_MOST_CAPACITY_BASE = 100_000
_EPHEMERAL_STORAGE_GIB = (21, 200)

# An answer is 4096 bytes at most. One of SUCCESS has no reason, so these bounds keep it below
# even when JSON doubles every character of the stopped reason.
_STOPPED_REASON_LIMIT = 255
_NAME_LIMIT = 512
_REASON_LIMIT = 4000

# What a request of each type is part of. A resource can neither be created nor updated while the
# stack undoes something, nor be deleted but at the end of an update or with its stack.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
_FORWARD = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "IMPORT_IN_PROGRESS"})
_UNDER_WAY: Final = {
    "Create": _FORWARD,
    "Update": _FORWARD,
    "Delete": frozenset({"DELETE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}),
}

# In the query of a ResponseURL: when it was signed, which is when the request was sent.
_SIGNED_AT = re.compile(r"[?&]X-Amz-Date=(\d{8}T\d{6}Z)(?:&|$)")
# CloudFormation waits an hour at most, and its URLs are good for two.
_OLDEST_REQUEST = 86_400

# How our own errors begin, before what AWS says.
_OWN_WORDS = re.compile(
    r"(?:[A-Z]\w+ (?:failed: \w+|got no answer|placed no task)|unexpected [\w.]+): "
)

_OUR_PHYSICAL_ID = re.compile(r"ECSRunTask-.+-[0-9a-f]{12}")
_ORIGIN_NAME_LIMIT = 40
# Shorter values are in every text by chance, and no secrets.
_SHORTEST_SECRET = 4
_HIDDEN = "***"
_CUT = "..."


class Answer(TypedDict):
    """What CloudFormation is told, in its own words. A `Test` event gets it as the result."""

    Status: Literal["SUCCESS", "FAILED"]
    PhysicalResourceId: str
    Reason: str
    """Empty on SUCCESS; at most 4000 characters of ASCII."""
    Data: dict[str, str]
    """For `Fn::GetAtt`: all attributes on SUCCESS, none on FAILED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomResourceRequest:
    """One request of CloudFormation. Its ResponseURL is a secret, as its environment is."""

    request_type: RequestType
    stack_id: str
    request_id: str
    logical_resource_id: str
    physical_resource_id: str
    """On Create made from stack and logical id, so that a repeated Create gets the same."""
    properties: Mapping[str, object]
    old_properties: Mapping[str, object]
    """Those before an Update; empty otherwise."""
    response_url: str
    is_test: bool
    """The event has a truthy `Test`: run the task, answer nobody."""

    @classmethod
    def parse(cls, event: object) -> Self:
        """Read the envelope; the properties are left as they came.

        Raises:
            InvalidRequest: this is no request of CloudFormation, or nobody could be answered.
        """
        if not isinstance(event, Mapping):
            raise InvalidRequest("event", "must be an object")
        kind = _one_of(event, "RequestType", get_args(RequestType))
        if kind is None:
            raise InvalidRequest("RequestType", "is required")
        stack_id, logical_id = _required(event, "StackId"), _required(event, "LogicalResourceId")
        is_test = bool(event.get("Test"))
        if not is_test and not _text(event, "ResponseURL").startswith("https://"):
            raise InvalidRequest("ResponseURL", "must be an https URL, unless Test is set")
        properties = event.get("ResourceProperties")
        if not isinstance(properties, Mapping):
            raise InvalidRequest("ResourceProperties", "must be an object")
        old_properties = event.get("OldResourceProperties")
        return cls(
            request_type=cast("RequestType", kind),
            stack_id=stack_id,
            request_id=_required(event, "RequestId"),
            logical_resource_id=logical_id,
            physical_resource_id=(
                _physical_id(stack_id, logical_id)
                if kind == "Create"
                else _required(event, "PhysicalResourceId")
            ),
            properties=properties,
            old_properties=old_properties if isinstance(old_properties, Mapping) else {},
            response_url=_text(event, "ResponseURL"),
            is_test=is_test,
        )

    @property
    def stack_name(self) -> str:
        """The stack's name, out of its ARN: `arn:...:stack/<name>/<uuid>`."""
        parts = self.stack_id.split("/")
        return parts[1] if len(parts) > 1 else self.stack_id

    @property
    def cause(self) -> tuple[str, ...]:
        """What makes two deliveries the same request.

        CloudFormation may reuse a RequestId when a deployment is tried again (aws-cdk#35957), so
        that other properties make another request. Deliveries of one are the same to the byte.
        """
        properties = json.dumps(self.properties, sort_keys=True)
        digest = hashlib.sha256(properties.encode()).hexdigest()
        return self.stack_id, self.logical_resource_id, self.request_id, digest

    def sent_at(self, now: float) -> float:
        """Return when CloudFormation sent the request, from which on it waits; epoch seconds.

        It is when the ResponseURL was signed. `now`, when that is not known or cannot be, and for
        a test, for which nobody waits.
        """
        found = None if self.is_test else _SIGNED_AT.search(self.response_url)
        try:
            signed = datetime.fromisoformat(found[1]).timestamp() if found else now
        except ValueError:
            return now
        return signed if now - _OLDEST_REQUEST < signed < now else now

    def origin(self, kind: Kind) -> str:
        """Return the `startedBy` of this resource's tasks of one kind, by which they are found.

        No other resource has it: names, which a person reads, repeat; the digest of the stack's
        ARN does not. The kinds are told apart because a Delete stops what still runs, but not
        what it runs itself, and a rollback only what CloudFormation has ceased to wait for. The
        tasks of a test are never those of the resource it imitates.
        """
        identity = [self.stack_id, self.logical_resource_id, *(["test"] if self.is_test else [])]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        names = (self.stack_name, self.logical_resource_id)
        short = (name[:_ORIGIN_NAME_LIMIT] for name in names)
        return started_by("run_task", *short, digest, *([kind] if kind else []))

    @property
    def own_kinds(self) -> tuple[Kind, ...]:
        """The kinds of task that this very request may have run."""
        match self.request_type:
            case "Create":
                return "", "wait"
            case "Update":
                return "", "wait", "rollback"
            case "Delete":
                return ("delete",)

    def is_left_out_of_rollbacks(self, work: RunTaskProperties | None) -> bool:
        """Say whether nothing runs for it while its stack rolls back.

        Args:
            work: what it is to run; None when that is nothing, or wrong: to refuse the old
                properties would stop the rollback, for nothing would have run.
        """
        # A Create can only be late then.
        return not work or not work.run_on_rollback or self.request_type == "Create"

    @property
    def is_ours(self) -> bool:
        """Whether the physical id is one this function makes.

        A Create that nobody answered leaves a stack with an id that CloudFormation made up.
        """
        return self.is_test or bool(_OUR_PHYSICAL_ID.fullmatch(self.physical_resource_id))

    @property
    def cluster(self) -> str:
        """The cluster, '' for the default one; also out of properties that are wrong elsewhere."""
        try:
            return _cluster(self.properties)
        except InvalidRequest:
            return ""

    @property
    def old_cluster(self) -> str:
        """The cluster before an Update: while that is undone, the one of what it had begun."""
        try:
            return _cluster(self.old_properties or self.properties)
        except InvalidRequest:
            return ""

    @property
    def service_timeout(self) -> int:
        """Seconds CloudFormation waits for the answer; also when other properties are wrong."""
        try:
            return _service_timeout(self.properties)
        except InvalidRequest:
            return _LONGEST_SERVICE_TIMEOUT

    def hide(self, text: str) -> str:
        """Return `text` without the request's secrets: environment values and ResponseURL.

        Values of less than four characters stay: they are in every text, and secret in none.
        """
        for secret in _secrets(self):
            text = text.replace(secret, _HIDDEN)
        return text

    def hide_in_error(self, text: str) -> str:
        """Return the text of an error without the request's secrets in what AWS says.

        How it begins are our own words, which stay: a value may be `task` or `failed`.
        """
        own = _OWN_WORDS.match(text)
        begin = own.end() if own else 0
        return text[:begin] + self.hide(text[begin:])

    def hide_in_line(self, line: str) -> str:
        """Return a line of a log without the request's secrets, also where one was cut short."""
        line = self.hide(line)
        shown = line.removesuffix(_CUT)
        if shown == line:
            return line
        begun = (
            secret[:length]
            for secret in _secrets(self)
            for length in range(len(secret), _SHORTEST_SECRET - 1, -1)
        )
        tail = max((one for one in begun if shown.endswith(one)), key=len, default="")
        return f"{shown.removesuffix(tail)}{_HIDDEN}{_CUT}" if tail else line

    def succeeded(self, data: dict[str, str]) -> Answer:
        """Answer SUCCESS, with all attributes."""
        return {
            "Status": "SUCCESS",
            "PhysicalResourceId": self.physical_resource_id,
            "Reason": "",
            "Data": data,
        }

    def skipped(self) -> Answer:
        """Answer SUCCESS, for nothing was to be run."""
        return self.succeeded(attributes("Skipped"))

    def failed(self, reason: str) -> Answer:
        """Answer FAILED, which must have a reason."""
        return {
            "Status": "FAILED",
            "PhysicalResourceId": self.physical_resource_id,
            "Reason": one_line(reason, _REASON_LIMIT) or "failed without a reason",
            "Data": {},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTaskProperties:
    """The properties of Custom::ECSRunTask."""

    task: TaskRequest
    container: str
    """'' for the only essential one."""
    run_on: frozenset[str]
    wait_for_exit: bool
    run_on_rollback: bool
    success_exit_codes: frozenset[int]
    service_timeout: int
    """Seconds CloudFormation waits for the answer."""
    service: str
    """Name or ARN of the service whose network and capacity the task takes; '' for none."""
    timeout: int | None
    """Seconds the task may take; what `ServiceTimeout` leaves is the most, whatever it says."""

    @classmethod
    def parse(cls, properties: Mapping[str, object]) -> Self:
        """Read the properties.

        Raises:
            InvalidRequest: a property is unknown, missing, of the wrong form, or contradicts
                another; `field` is its name.
        """
        _refuse_unknown(properties, KNOWN, "")
        if "Cluster" in properties and "ClusterId" in properties:
            raise InvalidRequest("ClusterId", "must be left out beside Cluster")
        if _text(properties, "LaunchType") and properties.get("CapacityProviderStrategy"):
            raise InvalidRequest("LaunchType", "must be left out beside CapacityProviderStrategy")
        return cls(
            task=TaskRequest(
                task_definition=_required(properties, "TaskDefinition"),
                cluster=_cluster(properties),
                command=_texts(properties, "Command"),
                environment=check_environment(
                    _pairs(properties, "Environment", "Name"), blame="Environment"
                ),
                launch_type=cast(
                    "LaunchTypeType | None",
                    _one_of(properties, "LaunchType", ("EC2", "FARGATE", "EXTERNAL")),
                ),
                capacity_providers=_capacity_providers(properties),
                platform_version=_text(properties, "PlatformVersion"),
                network=_network(properties),
                cpu=_text(properties, "Cpu"),
                memory=_text(properties, "Memory"),
                ephemeral_storage_gib=_integer(
                    properties, "EphemeralStorageGiB", *_EPHEMERAL_STORAGE_GIB
                ),
                task_role_arn=_text(properties, "TaskRoleArn"),
                execution_role_arn=_text(properties, "ExecutionRoleArn"),
                enable_execute_command=_boolean(properties, "EnableExecuteCommand"),
                group=_text(properties, "Group"),
                tags=_tags(properties),
                propagate_tags=cast(
                    "PropagateTagsType | None",
                    # ECS refuses SERVICE: a task of RunTask has no service.
                    _one_of(properties, "PropagateTags", ("TASK_DEFINITION", "NONE")),
                ),
            ),
            container=_text(properties, "ContainerName"),
            run_on=_run_on(properties),
            wait_for_exit=_boolean(properties, "WaitForExit") is not False,
            run_on_rollback=_boolean(properties, "RunOnRollback") is True,
            success_exit_codes=_exit_codes(properties),
            service_timeout=_service_timeout(properties),
            service=_text(properties, "Service"),
            timeout=_integer(properties, "Timeout", 1, _LONGEST_TIMEOUT),
        )

    @property
    def patience(self) -> int:
        """Seconds a task may take, so that the answer still arrives in time.

        Half a minute of `ServiceTimeout` is kept back, and of a short one a third: for stopping
        the task, for reading its log, and for the answer. A longer `Timeout` is cut to that.
        """
        return self._left if self.timeout is None else min(self.timeout, self._left)

    def deadline(self, *, sent: float, arrived: float) -> float:
        """Return when the task is stopped. What comes late has its `Timeout` all the same.

        Args:
            sent: when CloudFormation began to wait; epoch seconds, as all of these.
            arrived: when the request came.
        """
        return min(arrived + self.patience, sent + self._left)

    @property
    def _left(self) -> int:
        return answer_within(self.service_timeout) - min(_MARGIN, self.service_timeout // 3)


def answer_within(service_timeout: int) -> int:
    """Return the seconds in which a request is answered, as long as all goes well."""
    return min(service_timeout, EXECUTION_TIMEOUT)


def work_of(request: CustomResourceRequest) -> RunTaskProperties | None:
    """Return what the request wants run; None when that is nothing.

    Properties are checked even when nothing is to run, so that a mistake shows at once - except
    on Delete. A Create with wrong properties fails, CloudFormation then sends a Delete with the
    same ones, and refusing that would leave a stack nobody can delete. Nor does a Delete run
    anything for a resource that this function never made.

    Raises:
        InvalidRequest: the properties of a Create or an Update are wrong.
    """
    try:
        properties = RunTaskProperties.parse(request.properties)
    except InvalidRequest:
        if request.request_type == "Delete":
            return None
        raise
    if request.request_type == "Delete" and not request.is_ours:
        return None
    return properties if request.request_type in properties.run_on else None


def phase_of(stack_status: str, request_type: RequestType) -> Phase:
    """Return what a stack with this status is about, for a request of this type.

    CloudFormation undoes a create, an update or an import; its clean-up afterwards is part of
    that: it is when it deletes what the failed update had added.
    """
    if stack_status in _UNDER_WAY[request_type]:
        return "under way"
    if "ROLLBACK" in stack_status and stack_status.endswith("_IN_PROGRESS"):
        return "rolling back"
    return "over"


def attributes(
    outcome: Outcome,
    *,
    task: TaskState | None = None,
    exit_code: int | None = None,
    log_group: str = "",
    log_stream: str = "",
) -> dict[str, str]:
    """Return every attribute of Custom::ECSRunTask; what does not apply is empty.

    All are always present, because `Fn::GetAtt` of a missing one fails the stack.
    """
    seen: Mapping[str, Any] = task or {}
    return {
        "TaskArn": seen.get("taskArn", ""),
        "ExitCode": "" if exit_code is None else str(exit_code),
        "StopCode": one_line(seen.get("stopCode", ""), _STOPPED_REASON_LIMIT),
        "StoppedReason": one_line(seen.get("stoppedReason", ""), _STOPPED_REASON_LIMIT),
        "StartedAt": seen.get("startedAt", ""),
        "StoppedAt": seen.get("stoppedAt", ""),
        "LogGroup": one_line(log_group, _NAME_LIMIT),
        "LogStream": one_line(log_stream, _NAME_LIMIT),
        "Outcome": outcome,
    }


def _physical_id(stack_id: str, logical_id: str) -> str:
    digest = hashlib.sha256(f"{stack_id}|{logical_id}".encode()).hexdigest()[:12]
    return f"ECSRunTask-{logical_id}-{digest}"


def _secrets(request: CustomResourceRequest) -> list[str]:
    """Return what no text may hold, the longest first: one may be part of another.

    A log has a line for each line of a value, and may hold it as JSON.
    """
    found = {request.response_url}
    given = request.properties.get("Environment")
    values: list[object] = []
    if isinstance(given, Mapping):
        values = list(given.values())
    elif isinstance(given, list):
        values = [item.get("Value") for item in given if isinstance(item, Mapping)]
    for value in values:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value)
            printable = "".join(char if char.isprintable() else " " for char in text)
            # As it is; in JSON; and as Python shows it in an error, where it escapes one kind of
            # quotes when there are both.
            shown = repr(text)[1:-1], repr(f"\"'{text}")[4:-1]
            found |= {text, text.strip(), json.dumps(text)[1:-1], *shown, *text.splitlines()}
            found |= {" ".join(line.split()) for line in (*text.splitlines(), printable)}
    return sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)


def _cluster(properties: Mapping[str, object]) -> str:
    """Return the cluster; when only a service's ARN names it, that one.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html
    """
    named = _text(properties, "Cluster") or _text(properties, "ClusterId")
    service = _text(properties, "Service").split(":service/")
    parts = service[-1].split("/")
    return parts[0] if not named and len(service) > 1 and len(parts) > 1 else named


def _service_timeout(properties: Mapping[str, object]) -> int:
    given = _integer(properties, "ServiceTimeout", 1, _LONGEST_SERVICE_TIMEOUT)
    return given or _LONGEST_SERVICE_TIMEOUT


def _run_on(properties: Mapping[str, object]) -> frozenset[str]:
    if "RunOn" not in properties:
        return frozenset({"Create", "Update"})
    chosen = frozenset(_texts(properties, "RunOn", single=True))
    if wrong := chosen - set(get_args(RequestType)):
        raise InvalidRequest("RunOn", f"{min(wrong)!r} is not one of Create, Update, Delete")
    return chosen


def _exit_codes(properties: Mapping[str, object]) -> frozenset[int]:
    texts = _texts(properties, "SuccessExitCodes", single=True) or ("0",)
    for text in texts:
        if not _is_digits(text) or int(text) not in _EXIT_CODES:
            raise InvalidRequest("SuccessExitCodes", "must be whole numbers from 0 to 255")
    return frozenset(int(text) for text in texts)


def _network(properties: Mapping[str, object]) -> Network | None:
    outer = _object(properties, "NetworkConfiguration")
    if outer is None:
        return None
    name = "NetworkConfiguration.AwsvpcConfiguration"
    _refuse_unknown(outer, {"AwsvpcConfiguration"}, "NetworkConfiguration.")
    inner = _object(outer, "AwsvpcConfiguration", name)
    if inner is None:
        raise InvalidRequest(name, "is required")
    _refuse_unknown(inner, {"Subnets", "SecurityGroups", "AssignPublicIp"}, f"{name}.")
    # A parameter of type CommaDelimitedList that is left empty comes as a list of one empty text.
    subnets, security_groups = (
        tuple(filter(None, _texts(inner, key, f"{name}.{key}")))
        for key in ("Subnets", "SecurityGroups")
    )
    if not subnets:
        raise InvalidRequest(f"{name}.Subnets", "is required")
    public_ip = _one_of(inner, "AssignPublicIp", ("ENABLED", "DISABLED"), f"{name}.AssignPublicIp")
    return Network(
        subnets=subnets,
        security_groups=security_groups,
        assign_public_ip=cast("AssignPublicIpType | None", public_ip),
    )


def _capacity_providers(properties: Mapping[str, object]) -> tuple[CapacityProvider, ...]:
    providers = []
    for where, item in _items(properties, "CapacityProviderStrategy"):
        _refuse_unknown(item, {"CapacityProvider", "Weight", "Base"}, f"{where}.")
        providers.append(
            CapacityProvider(
                name=_required(item, "CapacityProvider", f"{where}.CapacityProvider"),
                weight=_integer(item, "Weight", 0, _MOST_CAPACITY_WEIGHT, f"{where}.Weight"),
                base=_integer(item, "Base", 0, _MOST_CAPACITY_BASE, f"{where}.Base"),
            )
        )
    return tuple(providers)


def _tags(properties: Mapping[str, object]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in _pairs(properties, "Tags", "Key"):
        if key in tags:
            raise InvalidRequest(f"Tags.{key}", "is given twice")
        tags[key] = _scalar(value, f"Tags.{key}")
    return tags


def _pairs(
    properties: Mapping[str, object], name: str, key: Literal["Name", "Key"]
) -> Iterator[tuple[str, object]]:
    """Yield what is given as a map, or as a list of `{<key>: ..., Value: ...}`."""
    given = properties.get(name)
    if isinstance(given, Mapping):
        yield from given.items()
        return
    for where, item in _items(properties, name):
        _refuse_unknown(item, {key, "Value"}, f"{where}.")
        if "Value" not in item:
            raise InvalidRequest(f"{where}.Value", "is required")
        yield _required(item, key, f"{where}.{key}"), item["Value"]


def _items(
    properties: Mapping[str, object], name: str
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the objects of a list, each with its place: `Tags[0]`."""
    given = properties.get(name) or []
    if not isinstance(given, list):
        raise InvalidRequest(name, "must be a list")
    for index, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise InvalidRequest(f"{name}[{index}]", "must be an object")
        yield f"{name}[{index}]", item


def _refuse_unknown(given: Mapping[str, object], known: set[str] | frozenset[str], at: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidRequest(f"{at}{name}", f"is not a known property{hint}")


def _scalar(value: object, where: str) -> str:
    """Return a scalar as CloudFormation would have written it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidRequest(where, "must be a string")


def _text(given: Mapping[str, object], name: str, where: str = "") -> str:
    """Return a scalar as text; '' when it is absent, as when a template leaves it empty."""
    return _scalar(given[name], where or name) if name in given else ""


def _required(given: Mapping[str, object], name: str, where: str = "") -> str:
    text = _text(given, name, where)
    if not text:
        raise InvalidRequest(where or name, "is required")
    return text


def _texts(
    given: Mapping[str, object], name: str, where: str = "", *, single: bool = False
) -> Sequence[str]:
    """Return a list of scalars as text; with `single`, a lone scalar counts as a list of one."""
    value = given.get(name, [])
    if isinstance(value, list):
        return tuple(_scalar(item, f"{where or name}[{index}]") for index, item in enumerate(value))
    if single:
        return (_scalar(value, where or name),)
    raise InvalidRequest(where or name, "must be a list")


def _object(given: Mapping[str, object], name: str, where: str = "") -> Mapping[str, object] | None:
    value = given.get(name)
    if value is None or isinstance(value, Mapping):
        return value
    raise InvalidRequest(where or name, "must be an object")


def _one_of(
    given: Mapping[str, object], name: str, allowed: Sequence[str], where: str = ""
) -> str | None:
    text = _text(given, name, where)
    if text and text not in allowed:
        raise InvalidRequest(where or name, f"must be one of {', '.join(allowed)}")
    return text or None


def _boolean(given: Mapping[str, object], name: str) -> bool | None:
    # Templates written in Python or YAML 1.1 say True.
    text = _text(given, name).lower()
    if text not in {"", "true", "false"}:
        raise InvalidRequest(name, "must be true or false")
    return text == "true" if text else None


def _integer(
    given: Mapping[str, object], name: str, least: int, most: int, where: str = ""
) -> int | None:
    text = _text(given, name, where)
    if not text:
        return None
    if not _is_digits(text) or not least <= int(text) <= most:
        raise InvalidRequest(where or name, f"must be a whole number from {least} to {most}")
    return int(text)


def _is_digits(text: str) -> bool:
    # int() would also take "1_000", " 1 " and Arabic digits, and refuse five thousand digits.
    return text.isascii() and text.isdecimal() and len(text) <= len("1000000")
