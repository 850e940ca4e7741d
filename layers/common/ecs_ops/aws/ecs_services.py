"""One ECS service and its tasks."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, NotFound
from ecs_ops.recycle import Service, Task

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import TaskTypeDef

_DESCRIBE_LIMIT: Final = 100
"""Tasks in one DescribeTasks: the API's own limit."""
STOP_REASON: Final = "Recycled by ecs-ops"
"""What a stopped task shows as its `stoppedReason`, and what `was_recycled` knows it by."""


class EcsService:
    """A service, by cluster and name, in the account of the client."""

    def __init__(self, client: ECSClient, cluster: str, service: str) -> None:
        self._client = client
        self._cluster = cluster
        self._service = service

    def describe(self) -> Service:
        """Return what the service is now.

        Raises:
            NotFound: names the cluster or the service that does not exist.
            Transient, AwsFailure: see `aws_errors`.
        """
        try:
            with aws_errors("DescribeServices"):
                answer = self._client.describe_services(
                    cluster=self._cluster, services=[self._service]
                )
        except NotFound as error:
            raise NotFound(f"cluster {self._cluster} does not exist") from error
        for failure in answer["failures"]:
            if failure.get("reason") != "MISSING":
                raise AwsFailure(
                    "DescribeServices", failure.get("reason", ""), failure.get("detail", "")
                )
        if not answer["services"]:
            raise NotFound(f"service {self._service} of cluster {self._cluster} does not exist")
        service = answer["services"][0]
        return Service(
            status=service["status"],
            desired_count=service["desiredCount"],
            deployments=len(service.get("deployments", ())),
            scheduling_strategy=service.get("schedulingStrategy", "REPLICA"),
        )

    def tasks(self) -> list[Task]:
        """Return the tasks that ECS means to keep: those with the desired status RUNNING.

        One that ends between the two calls this takes is left out.
        """
        with aws_errors("ListTasks"):
            pages = self._client.get_paginator("list_tasks").paginate(
                cluster=self._cluster, serviceName=self._service, desiredStatus="RUNNING"
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
        return [
            Task(
                arn=task["taskArn"],
                status=task["lastStatus"],
                health=task.get("healthStatus", "UNKNOWN"),
                since=_since(task),
            )
            for batch in batched(arns, _DESCRIBE_LIMIT, strict=False)
            for task in self._describe_tasks(list(batch))
            if task["desiredStatus"] == "RUNNING"
        ]

    def change_desired_count(self, expected: int, wanted: int) -> int:
        """Set the desired count if it is as expected; return what it is afterwards.

        ECS has no conditional update: a change by somebody else in the same moment can be lost.
        """
        count = self.describe().desired_count
        if count != expected or wanted == expected:
            return count
        with aws_errors("UpdateService"):
            self._client.update_service(
                cluster=self._cluster, service=self._service, desiredCount=wanted
            )
        return wanted

    def stop(self, task_arn: str) -> None:
        """Stop a task; stopping it twice is no error while ECS remembers it.

        Raises:
            NotFound: ECS does not know the task (any more).
            Transient, AwsFailure: see `aws_errors`.
        """
        try:
            with aws_errors("StopTask"):
                self._client.stop_task(cluster=self._cluster, task=task_arn, reason=STOP_REASON)
        except AwsFailure as error:
            # The only parameter that was not in use a moment ago is the task.
            if error.code == "InvalidParameterException":
                raise NotFound(f"task {task_arn} does not exist") from error
            raise

    def was_recycled(self, task_arn: str) -> bool:
        """Tell whether `stop` has stopped this task: ECS remembers that for an hour."""
        return any(
            task.get("stoppedReason") == STOP_REASON for task in self._describe_tasks([task_arn])
        )

    def _describe_tasks(self, arns: list[str]) -> list[TaskTypeDef]:
        with aws_errors("DescribeTasks"):
            return self._client.describe_tasks(cluster=self._cluster, tasks=arns)["tasks"]


def _since(task: TaskTypeDef) -> float:
    moment = task.get("startedAt") or task.get("createdAt")
    return moment.timestamp() if moment else 0.0
