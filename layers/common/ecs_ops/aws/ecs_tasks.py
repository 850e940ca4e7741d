"""Standalone tasks of Amazon ECS: run one, look at one, read the definition of one."""

from __future__ import annotations

from datetime import UTC
from itertools import batched
from typing import TYPE_CHECKING, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, EcsOpsError, NotFound, Transient
from ecs_ops.task_request import ContainerDefinition

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import (
        ContainerDefinitionOutputTypeDef,
        ContainerTypeDef,
        FailureTypeDef,
        RunTaskRequestTypeDef,
        ServiceTypeDef,
        TaskTypeDef,
    )

    from ecs_ops.task_request import ServicePlacement
    from ecs_ops.verdict import ContainerState, TaskState

# What a failure of RunTask says when the same call may succeed in a while. The rest - no instance
# has an attribute, the cluster is inactive - is for a person to mend.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
_FOR_WANT_OF = ("agent", "capacity is unavailable", "limit", "resource:", "throttl", "try again")

# The same of what RunTask refuses, which tells it by its text only: an Auto Scaling group that is
# empty at the moment, and a role that was made a moment ago.
_NO_INSTANCES = "no container instances were found"
_ROLE_NOT_ASSUMED = "unable to assume the role"

_DESCRIBED_AT_ONCE = 100
_STOP_REASON_LIMIT = 255
# ListTasks lists one of the two, and RUNNING when it is not told which.
_DESIRED_STATUSES: Final = ("RUNNING", "STOPPED")


class NotPlaced(Transient):
    """ECS took the call and placed nothing, for want of capacity: there certainly is no task."""


class RoleNotAssumed(AwsFailure):
    """ECS may not assume a role of the task: it is wrong, or was made a moment ago.

    IAM is eventually consistent. There certainly is no task.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html
    """


class EcsTasks:
    """Raises what `aws_errors` raises, and what each method adds to it."""

    def __init__(self, ecs: ECSClient) -> None:
        self._ecs = ecs

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState:
        """Start one task and return it; or, for a client token that was used, the task of then.

        Raises:
            NotPlaced: ECS placed no task, but may place one later.
            RoleNotAssumed: the same call may succeed in a minute, or never.
            AwsFailure: also when ECS placed none for a reason that no retry mends.
            Conflict: the client token belongs to a task with other arguments.
        """
        try:
            with aws_errors("RunTask"):
                answer = self._ecs.run_task(**arguments)
        except AwsFailure as error:
            told = str(error)
            # Without a launch type it is ECS's guess, and as often one was forgotten.
            if _NO_INSTANCES in told.lower() and arguments.get("launchType") == "EC2":
                raise NotPlaced(told) from error
            if _ROLE_NOT_ASSUMED in told.lower():
                why = told.removeprefix(f"{error.operation} failed: {error.code}: ")
                raise RoleNotAssumed(error.operation, error.code, why) from error
            raise
        if not answer["tasks"]:
            raise _no_task(answer["failures"])
        task = answer["tasks"][0]
        if task.keys() >= {"clusterArn", "startedBy"}:
            return _task_state(task)
        # Of a task that has stopped, a repeated request is told the ARN and two statuses only.
        # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html
        known = self.describe(arguments.get("cluster", "default"), task["taskArn"])
        return known or _forgotten(task, arguments)

    def describe(self, cluster: str, task_arn: str) -> TaskState | None:
        """Return the task as it is now; None when ECS does not know it.

        It does not yet in the first moments, and no longer about an hour after the task stopped.

        Raises:
            AwsFailure: the answer is a failure other than MISSING.
        """
        with aws_errors("DescribeTasks"):
            answer = self._ecs.describe_tasks(cluster=cluster, tasks=[task_arn])
        if answer["tasks"]:
            return _task_state(answer["tasks"][0])
        other = [one for one in answer["failures"] if one.get("reason") != "MISSING"]
        if other:
            raise AwsFailure("DescribeTasks", other[0].get("reason", ""), _reasons(other))
        return None

    def stop(self, cluster: str, task_arn: str, reason: str) -> None:
        """Ask the task to stop: SIGTERM, and after its stop timeout SIGKILL.

        Asking again, or of a task that has stopped, changes nothing.
        """
        with aws_errors("StopTask"):
            self._ecs.stop_task(cluster=cluster, task=task_arn, reason=reason[:_STOP_REASON_LIMIT])

    def running(self, cluster: str, origin: str) -> list[TaskState]:
        """Return the tasks of the cluster whose `startedBy` is `origin` and that are to run."""
        arns: list[str] = []
        with aws_errors("ListTasks"):
            # ECS takes no other filter beside startedBy; it lists what is not to stop.
            for page in self._ecs.get_paginator("list_tasks").paginate(
                cluster=cluster, startedBy=origin
            ):
                arns += page["taskArns"]
        return [
            task
            for task in self._described(cluster, arns)
            if task.get("startedBy") == origin and task["lastStatus"] != "STOPPED"
        ]

    def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]:
        """Return the tasks of a family that ECS still knows, in no order.

        Args:
            cluster: name or ARN.
            family: of their task definitions, whatever the revision.
            limit: tasks at most of those that are to run, and as many of those that are to stop
                or have stopped. ECS chooses which.
        """
        arns: list[str] = []
        for wanted in _DESIRED_STATUSES:
            with aws_errors("ListTasks"):
                for page in self._ecs.get_paginator("list_tasks").paginate(
                    cluster=cluster,
                    family=family,
                    desiredStatus=wanted,
                    PaginationConfig={"MaxItems": limit},
                ):
                    arns += page["taskArns"]
        # One that was stopped between the two lists is in both.
        return self._described(cluster, list(dict.fromkeys(arns)))

    def _described(self, cluster: str, arns: list[str]) -> list[TaskState]:
        """Return these tasks as they are now, without those that ECS has forgotten since."""
        found: list[TaskState] = []
        for some in batched(arns, _DESCRIBED_AT_ONCE, strict=False):
            with aws_errors("DescribeTasks"):
                answer = self._ecs.describe_tasks(cluster=cluster, tasks=list(some))
            found += [_task_state(task) for task in answer["tasks"]]
        return found

    def placement(self, cluster: str, service: str) -> ServicePlacement:
        """Return where a service (name or ARN) of the cluster runs its tasks.

        Raises:
            NotFound: there is no such cluster, or no such service that is active.
        """
        with aws_errors("DescribeServices"):
            answer = self._ecs.describe_services(cluster=cluster, services=[service])
        active = [one for one in answer["services"] if one.get("status") == "ACTIVE"]
        if not active:
            raise NotFound(f"there is no active service {service} in cluster {cluster}")
        return _placement(active[0])

    def containers(self, task_definition: str) -> tuple[ContainerDefinition, ...]:
        """Return the containers of a task definition: family, family:revision or ARN.

        Raises:
            NotFound: there is no such task definition.
        """
        try:
            with aws_errors("DescribeTaskDefinition"):
                answer = self._ecs.describe_task_definition(taskDefinition=task_definition)
        except AwsFailure as error:
            # What ECS calls ClientException here is its "Unable to describe task definition."
            if error.code == "ClientException":
                raise NotFound(f"there is no task definition {task_definition}") from error
            raise
        return tuple(
            _container(one) for one in answer["taskDefinition"].get("containerDefinitions", [])
        )


def _task_state(task: TaskTypeDef) -> TaskState:
    state: TaskState = {
        "taskArn": task["taskArn"],
        "clusterArn": task["clusterArn"],
        "lastStatus": task.get("lastStatus", ""),
        "containers": [_container_state(one) for one in task.get("containers", [])],
    }
    if wanted := task.get("desiredStatus"):
        state["desiredStatus"] = wanted
    if definition := task.get("taskDefinitionArn"):
        state["taskDefinitionArn"] = definition
    if origin := task.get("startedBy"):
        state["startedBy"] = origin
    if stop_code := task.get("stopCode"):
        state["stopCode"] = stop_code
    if reason := task.get("stoppedReason"):
        state["stoppedReason"] = reason
    if created_at := task.get("createdAt"):
        state["createdAt"] = _utc(created_at)
    if started_at := task.get("startedAt"):
        state["startedAt"] = _utc(started_at)
    if stopped_at := task.get("stoppedAt"):
        state["stoppedAt"] = _utc(stopped_at)
    return state


def _forgotten(task: TaskTypeDef, arguments: RunTaskRequestTypeDef) -> TaskState:
    """Return what is certain of a task that RunTask names and DescribeTasks does not know."""
    home, _, name = task["taskArn"].partition(":task/")
    cluster = name.partition("/")[0]
    return _task_state(
        {
            **task,
            "clusterArn": f"{home}:cluster/{cluster}",
            "startedBy": arguments.get("startedBy", ""),
        }
    )


def _container_state(container: ContainerTypeDef) -> ContainerState:
    state: ContainerState = {"name": container.get("name", "")}
    if (code := container.get("exitCode")) is not None:
        state["exitCode"] = code
    if reason := container.get("reason"):
        state["reason"] = reason
    return state


def _container(definition: ContainerDefinitionOutputTypeDef) -> ContainerDefinition:
    log = definition.get("logConfiguration")
    options = log.get("options", {}) if log and log["logDriver"] == "awslogs" else {}
    return ContainerDefinition(
        name=definition.get("name", ""),
        essential=definition.get("essential", True),
        log_group=options.get("awslogs-group", ""),
        log_stream_prefix=options.get("awslogs-stream-prefix", ""),
        log_region=options.get("awslogs-region", ""),
    )


def _placement(service: ServiceTypeDef) -> ServicePlacement:
    placement: ServicePlacement = {}
    if launch_type := service.get("launchType"):
        placement["launchType"] = launch_type
    if strategy := service.get("capacityProviderStrategy"):
        placement["capacityProviderStrategy"] = strategy
        # ECS fills in a launch type beside a strategy, and RunTask takes only one of the two.
        placement.pop("launchType", None)
    if version := service.get("platformVersion"):
        placement["platformVersion"] = version
    if awsvpc := service.get("networkConfiguration", {}).get("awsvpcConfiguration"):
        placement["awsvpcConfiguration"] = awsvpc
    return placement


def _no_task(failures: list[FailureTypeDef]) -> EcsOpsError:
    told = _reasons(failures)
    if not failures or any(want in told.lower() for want in _FOR_WANT_OF):
        return NotPlaced(f"RunTask placed no task: {told}")
    return AwsFailure("RunTask", failures[0].get("reason", ""), f"no task was placed: {told}")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reasons(failures: list[FailureTypeDef]) -> str:
    told = [" ".join(filter(None, (one.get("reason"), one.get("detail")))) for one in failures]
    return "; ".join(told) or "no reason given"
