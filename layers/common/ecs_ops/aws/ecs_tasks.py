"""Standalone tasks of Amazon ECS: run one, look at one, read the definition of one."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, NotFound, Transient
from ecs_ops.task_request import ContainerDefinition

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import (
        ContainerDefinitionOutputTypeDef,
        ContainerTypeDef,
        FailureTypeDef,
        RunTaskRequestTypeDef,
        TaskTypeDef,
    )

    from ecs_ops.verdict import ContainerState, TaskState


class EcsTasks:
    """Raises what `aws_errors` raises, and what each method adds to it."""

    def __init__(self, ecs: ECSClient) -> None:
        self._ecs = ecs

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState:
        """Start one task and return it as it began.

        Raises:
            Transient: also when ECS answered 200 with `failures[]` and no task. It then placed
                nothing, for want of capacity or of an instance that fits, and may do so later.
            Conflict: the client token belongs to a task with other arguments.
        """
        with aws_errors("RunTask"):
            answer = self._ecs.run_task(**arguments)
        if not answer["tasks"]:
            raise Transient(f"RunTask placed no task: {_reasons(answer['failures'])}")
        return _task_state(answer["tasks"][0])

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
    if stop_code := task.get("stopCode"):
        state["stopCode"] = stop_code
    if reason := task.get("stoppedReason"):
        state["stoppedReason"] = reason
    if started_at := task.get("startedAt"):
        state["startedAt"] = _utc(started_at)
    if stopped_at := task.get("stoppedAt"):
        state["stoppedAt"] = _utc(stopped_at)
    return state


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
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reasons(failures: list[FailureTypeDef]) -> str:
    told = [" ".join(filter(None, (one.get("reason"), one.get("detail")))) for one in failures]
    return "; ".join(told) or "no reason given"
