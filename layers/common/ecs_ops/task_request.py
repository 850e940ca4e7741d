"""What to ask of ECS so that one task runs: the arguments of RunTask, and the rules they obey.

run_task and launch_task both describe the task as a `TaskRequest`; this module turns it into the
call. Limits are those of the RunTask API reference
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NotRequired, TypedDict

from ecs_ops.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mypy_boto3_ecs.literals import AssignPublicIpType, LaunchTypeType, PropagateTagsType
    from mypy_boto3_ecs.type_defs import (
        AwsVpcConfigurationOutputTypeDef,
        AwsVpcConfigurationTypeDef,
        CapacityProviderStrategyItemTypeDef,
        ContainerOverrideTypeDef,
        RunTaskRequestTypeDef,
        TaskOverrideTypeDef,
    )

OVERRIDES_LIMIT = 8192
"""Characters of JSON that all overrides of one task may take together."""

_STARTED_BY_LIMIT = 128
_NOT_STARTED_BY = re.compile(r"[^A-Za-z0-9/_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where an awsvpc task gets its network interface."""

    subnets: Sequence[str]
    security_groups: Sequence[str] = ()
    """Empty: the default security group of the VPC."""
    assign_public_ip: AssignPublicIpType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityProvider:
    """One item of a capacity provider strategy."""

    name: str
    weight: int | None = None
    base: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """One task, as a caller wants it run. What is empty or None is left to ECS."""

    task_definition: str
    """Family, family:revision or ARN."""
    cluster: str = ""
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    launch_type: LaunchTypeType | None = None
    capacity_providers: Sequence[CapacityProvider] = ()
    platform_version: str = ""
    network: Network | None = None
    cpu: str = ""
    memory: str = ""
    ephemeral_storage_gib: int | None = None
    task_role_arn: str = ""
    execution_role_arn: str = ""
    enable_execute_command: bool | None = None
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    propagate_tags: PropagateTagsType | None = None


class ServicePlacement(TypedDict):
    """Where a service runs its tasks, in the words of DescribeServices; JSON."""

    launchType: NotRequired[LaunchTypeType]
    capacityProviderStrategy: NotRequired[list[CapacityProviderStrategyItemTypeDef]]
    platformVersion: NotRequired[str]
    awsvpcConfiguration: NotRequired[AwsVpcConfigurationOutputTypeDef]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDefinition:
    """What of a task definition's container matters to whoever runs it and reads its log."""

    name: str
    essential: bool = True
    log_group: str = ""
    """Empty unless the container logs through the awslogs driver."""
    log_stream_prefix: str = ""
    log_region: str = ""
    """Empty: that of the task."""

    def log_stream(self, task_id: str) -> str:
        """Return the stream this container of that task writes to; '' when it cannot be known.

        Without a prefix the driver names the stream after Docker's id of the container
        (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html).
        """
        if not (self.log_group and self.log_stream_prefix):
            return ""
        return f"{self.log_stream_prefix}/{self.name}/{task_id}"


def choose_container(
    containers: Sequence[ContainerDefinition], wanted: str, *, blame: str
) -> ContainerDefinition:
    """Return the container that gets the overrides and whose exit code counts.

    Args:
        containers: of the task definition.
        wanted: a container's name, or '' for the only essential one.
        blame: the field that InvalidRequest names.

    Raises:
        InvalidRequest: there is no container of that name; or none is named and more than one
            is essential.
    """
    names = ", ".join(container.name for container in containers)
    if wanted:
        for container in containers:
            if container.name == wanted:
                return container
        raise InvalidRequest(
            blame, f"the task definition has no container {wanted!r}, only {names}"
        )
    essential = [container for container in containers if container.essential]
    if len(essential) != 1:
        raise InvalidRequest(
            blame, f"is required: the task definition has {len(essential)} essential containers"
        )
    return essential[0]


def deciding_containers(
    containers: Sequence[ContainerDefinition], wanted: str, *, overrides: bool, blame: str
) -> tuple[ContainerDefinition, ...]:
    """Return the containers whose exit codes decide: the named one, or all essential ones.

    Args:
        containers: of the task definition.
        wanted: a container's name, or ''.
        overrides: there is a command or an environment, which need one container to go to.
        blame: the field that InvalidRequest names.

    Raises:
        InvalidRequest: as `choose_container`; without overrides, only a task definition that has
            no essential container at all leaves a doubt.
    """
    essential = tuple(container for container in containers if container.essential)
    if wanted or overrides or not essential:
        return (choose_container(containers, wanted, blame=blame),)
    return essential


def inherit(task: TaskRequest, service: ServicePlacement) -> TaskRequest:
    """Return the task with what it leaves open taken from a service; what it says wins.

    Launch type and capacity providers are one choice. The platform version goes with it: that of
    a Fargate service means nothing to a task that asks for EC2.
    """
    chosen = bool(task.launch_type or task.capacity_providers)
    if not chosen:
        task = replace(
            task,
            launch_type=service.get("launchType"),
            capacity_providers=tuple(
                CapacityProvider(
                    name=item["capacityProvider"],
                    weight=item.get("weight"),
                    base=item.get("base"),
                )
                for item in service.get("capacityProviderStrategy", [])
            ),
        )
    if not task.platform_version and (not chosen or task.launch_type == "FARGATE"):
        task = replace(task, platform_version=service.get("platformVersion", ""))
    awsvpc = service.get("awsvpcConfiguration")
    if awsvpc and task.network is None:
        network = Network(
            subnets=tuple(awsvpc["subnets"]),
            security_groups=tuple(awsvpc.get("securityGroups", ())),
            assign_public_ip=awsvpc.get("assignPublicIp"),
        )
        task = replace(task, network=network)
    return task


def check_environment(pairs: Iterable[tuple[str, object]], *, blame: str) -> dict[str, str]:
    """Return the environment of a container, every value as text.

    Values may be strings, numbers or booleans; the latter become what JSON writes for them, which
    is also what CloudFormation makes of them. No message repeats a value: it may be a secret.

    Args:
        pairs: names and values, as a caller gave them.
        blame: the field that InvalidRequest names; the variable's name is appended.

    Raises:
        InvalidRequest: a name is empty, holds `=` or NUL, or comes twice; a value is null, nested,
            or holds NUL.
    """
    environment: dict[str, str] = {}
    for name, value in pairs:
        where = f"{blame}.{name}" if blame else name
        if not name or "=" in name or not is_text(name):
            raise InvalidRequest(where, "is not a name for an environment variable")
        if name in environment:
            raise InvalidRequest(where, "is given twice")
        if not isinstance(value, str | int | float):
            raise InvalidRequest(where, "must be a string, a number or a boolean")
        text = value if isinstance(value, str) else json.dumps(value)
        if not is_text(text):
            raise InvalidRequest(where, "must be text without NUL characters")
        environment[name] = text
    return environment


def is_text(text: str) -> bool:
    """Say whether this can be handed to a program: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and text.encode(errors="ignore").decode() == text


def client_token(*cause: str) -> str:
    """Return the client token of whatever `cause` identifies: always the same, 64 characters.

    RunTask with a token it has seen in this cluster returns the first call's task instead of
    running another, until an hour after that task ended, and for 24 hours at most
    (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html).
    """
    # JSON keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256(json.dumps(cause).encode()).hexdigest()


def started_by(*parts: str) -> str:
    """Return a `startedBy` made of `parts`: at most 128 characters of `A-Z a-z 0-9 - / _`.

    What ECS does not allow becomes a hyphen. What is too long ends in a digest of the whole, so
    that two long values stay apart.
    """
    text = "/".join(parts)
    allowed = _NOT_STARTED_BY.sub("-", text)
    if len(allowed) <= _STARTED_BY_LIMIT:
        return allowed
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{allowed[: _STARTED_BY_LIMIT - len(digest) - 1]}-{digest}"


def run_task_arguments(
    task: TaskRequest, *, container: str, token: str, origin: str, blame: str
) -> RunTaskRequestTypeDef:
    """Return the keyword arguments of `ecs.run_task` for one task.

    Args:
        task: what to run.
        container: name of the container that gets command and environment; '' when there are none.
        token: see `client_token`.
        origin: see `started_by`.
        blame: the field that InvalidRequest names when the overrides are too large.

    Raises:
        InvalidRequest: launch type and capacity providers are both given, or the overrides take
            more than 8192 characters.
    """
    arguments: RunTaskRequestTypeDef = {
        "taskDefinition": task.task_definition,
        "clientToken": token,
        "startedBy": origin,
        "count": 1,
    }
    if task.cluster:
        arguments["cluster"] = task.cluster
    if overrides := _overrides(task, container):
        _check_size(overrides, blame)
        arguments["overrides"] = overrides
    if task.enable_execute_command is not None:
        arguments["enableExecuteCommand"] = task.enable_execute_command
    _place(task, arguments)
    _label(task, arguments)
    return arguments


def _place(task: TaskRequest, arguments: RunTaskRequestTypeDef) -> None:
    if task.launch_type and task.capacity_providers:
        raise InvalidRequest("LaunchType", "must be left out beside CapacityProviderStrategy")
    if task.launch_type:
        arguments["launchType"] = task.launch_type
    if task.capacity_providers:
        arguments["capacityProviderStrategy"] = [
            _strategy(item) for item in task.capacity_providers
        ]
    if task.platform_version:
        arguments["platformVersion"] = task.platform_version
    if task.network:
        arguments["networkConfiguration"] = {"awsvpcConfiguration": _awsvpc(task.network)}


def _label(task: TaskRequest, arguments: RunTaskRequestTypeDef) -> None:
    if task.group:
        arguments["group"] = task.group
    if task.tags:
        arguments["tags"] = [{"key": key, "value": value} for key, value in task.tags.items()]
    if task.propagate_tags:
        arguments["propagateTags"] = task.propagate_tags


def _strategy(item: CapacityProvider) -> CapacityProviderStrategyItemTypeDef:
    strategy: CapacityProviderStrategyItemTypeDef = {"capacityProvider": item.name}
    if item.weight is not None:
        strategy["weight"] = item.weight
    if item.base is not None:
        strategy["base"] = item.base
    return strategy


def _awsvpc(network: Network) -> AwsVpcConfigurationTypeDef:
    awsvpc: AwsVpcConfigurationTypeDef = {"subnets": list(network.subnets)}
    if network.security_groups:
        awsvpc["securityGroups"] = list(network.security_groups)
    if network.assign_public_ip:
        awsvpc["assignPublicIp"] = network.assign_public_ip
    return awsvpc


def _overrides(task: TaskRequest, container: str) -> TaskOverrideTypeDef:
    overrides: TaskOverrideTypeDef = {}
    if task.command or task.environment:
        override: ContainerOverrideTypeDef = {"name": container}
        if task.command:
            override["command"] = list(task.command)
        if task.environment:
            override["environment"] = [
                {"name": name, "value": value} for name, value in task.environment.items()
            ]
        overrides["containerOverrides"] = [override]
    if task.cpu:
        overrides["cpu"] = task.cpu
    if task.memory:
        overrides["memory"] = task.memory
    if task.ephemeral_storage_gib is not None:
        overrides["ephemeralStorage"] = {"sizeInGiB": task.ephemeral_storage_gib}
    if task.task_role_arn:
        overrides["taskRoleArn"] = task.task_role_arn
    if task.execution_role_arn:
        overrides["executionRoleArn"] = task.execution_role_arn
    return overrides


def _check_size(overrides: TaskOverrideTypeDef, blame: str) -> None:
    # The most compact JSON there is: never refuse here what ECS would have taken.
    size = len(json.dumps(overrides, ensure_ascii=False, separators=(",", ":")))
    if size > OVERRIDES_LIMIT:
        raise InvalidRequest(
            blame,
            f"command, environment and the other overrides take {size} characters of JSON; "
            f"Amazon ECS takes {OVERRIDES_LIMIT} at most",
        )
