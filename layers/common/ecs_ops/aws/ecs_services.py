"""One ECS service, its tasks, and what else decides how many of them do their work."""

from __future__ import annotations

import time
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws import alarms
from ecs_ops.aws.clients import aws_errors
from ecs_ops.aws.scalable_target import ScalableTarget
from ecs_ops.aws.target_health import TargetHealth
from ecs_ops.errors import AwsFailure, NotFound
from ecs_ops.recycle import Service, Sighting, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import FailureTypeDef, TaskTypeDef

    from ecs_ops.recycle import Bounds

_BATCH: Final = 100
"""Tasks in one DescribeTasks or GetTaskProtection: the API's own limit."""
STOP_REASON: Final = "Recycled by ecs-ops"
"""What a stopped task shows as its `stoppedReason`, and what `was_recycled` knows it by."""


class EcsService:
    """A service, by cluster and name; keeps the contract of `ecs_ops.recycle.Services`.

    Every method may also raise Transient and AwsFailure: see `aws_errors`.
    """

    def __init__(
        self,
        client: Callable[[str], Any],
        cluster: str,
        service: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make no call yet.

        Args:
            client: returns the client of a service, as boto3 calls it. Only what is needed is
                asked for: a service without target groups makes no elbv2 client.
            cluster: name or ARN.
            service: name or ARN.
            clock: epoch seconds.
        """
        self._client = client
        self._cluster = cluster
        self._service = service
        # Of a service, ListTasks and UpdateService document the name only.
        self._name = service.rpartition("/")[2]
        self._clock = clock
        self._scaling = ScalableTarget(client, cluster, service)
        self._targets: TargetHealth | None = None
        """As the service was last described; None before."""
        self._instance_ids: dict[str, str] = {}

    def describe(self) -> Service:
        """Return what the service is now; it may be INACTIVE.

        Raises:
            NotFound: names the cluster or the service that does not exist.
        """
        return self._read()[0]

    def look(self) -> Sighting:
        """Return the tasks with the desired status RUNNING, and what drains.

        A task that ends between the calls this takes is left out.
        """
        with aws_errors("ListTasks"):
            pages = self._ecs.get_paginator("list_tasks").paginate(
                cluster=self._cluster, serviceName=self._name, desiredStatus="RUNNING"
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
        tasks = [
            task
            for batch in batched(arns, _BATCH, strict=False)
            for task in self._describe_tasks(batch)
            if task["desiredStatus"] == "RUNNING"
        ]
        targets = self._targets or self._read()[1]
        reachable, draining = targets.look(tasks)
        return Sighting(
            tasks=tuple(
                Task(
                    arn=task["taskArn"],
                    status=task["lastStatus"],
                    health=task.get("healthStatus", "UNKNOWN"),
                    since=_since(task),
                    deployment=task.get("startedBy", ""),
                    zone=task.get("availabilityZone", ""),
                    reachable=task["taskArn"] in reachable,
                )
                for task in tasks
            ),
            draining=draining,
        )

    def deregistration_delay(self) -> int:
        """Return the longest of the service's target groups, in seconds; 0 without any."""
        targets = self._targets or self._read()[1]
        return targets.deregistration_delay()

    def protected(self, task_arns: Sequence[str]) -> frozenset[str]:
        """Return those of the tasks that are under task protection now."""
        now = self._clock()
        found: set[str] = set()
        for batch in batched(task_arns, _BATCH, strict=False):
            with aws_errors("GetTaskProtection"):
                answer = self._ecs.get_task_protection(cluster=self._cluster, tasks=list(batch))
            _raise_unless_missing("GetTaskProtection", answer["failures"])
            for task in answer["protectedTasks"]:
                expires = task.get("expirationDate")
                if task["protectionEnabled"] and (not expires or expires.timestamp() > now):
                    found.add(task["taskArn"])
        return frozenset(found)

    def ringing(self, alarm_names: Sequence[str]) -> list[str]:
        """Return those alarms that are in ALARM.

        Raises:
            NotFound: names the alarms that do not exist.
        """
        return alarms.ringing(self._client, alarm_names)

    def bounds(self) -> Bounds | None:
        """Return the bounds of its scalable target; None when Auto Scaling has none."""
        return self._scaling.bounds()

    def change_bounds(self, expected: Bounds, wanted: Bounds) -> Bounds | None:
        """Compare and set each bound by itself; return both as they are afterwards."""
        return self._scaling.change_bounds(expected, wanted)

    def change_desired_count(self, expected: int, wanted: int) -> int:
        """Set the desired count if it is as expected; return what it is afterwards.

        ECS has no conditional update: a change by somebody else in the same moment can be lost.
        """
        count = self.describe().desired_count
        if count != expected or wanted == expected:
            return count
        with aws_errors("UpdateService"):
            self._ecs.update_service(cluster=self._cluster, service=self._name, desiredCount=wanted)
        return wanted

    def stop(self, task_arn: str) -> None:
        """Stop a task; stopping it twice is no error while ECS remembers it.

        Raises:
            NotFound: ECS does not know the task (any more).
        """
        try:
            with aws_errors("StopTask"):
                self._ecs.stop_task(cluster=self._cluster, task=task_arn, reason=STOP_REASON)
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

    @property
    def _ecs(self) -> ECSClient:
        client: ECSClient = self._client("ecs")
        return client

    def _read(self) -> tuple[Service, TargetHealth]:
        """Describe the service, and learn which target groups it has now."""
        try:
            with aws_errors("DescribeServices"):
                answer = self._ecs.describe_services(
                    cluster=self._cluster, services=[self._service]
                )
        except NotFound as error:
            raise NotFound(f"cluster {self._cluster} does not exist") from error
        _raise_unless_missing("DescribeServices", answer["failures"])
        if not answer["services"]:
            raise NotFound(f"service {self._service} of cluster {self._cluster} does not exist")
        service = answer["services"][0]
        self._targets = TargetHealth(
            self._client, self._cluster, service.get("loadBalancers", ()), self._instance_ids
        )
        deployments = service.get("deployments", ())
        described = Service(
            arn=service["serviceArn"],
            status=service["status"],
            desired_count=service["desiredCount"],
            deployment=next((one["id"] for one in deployments if one["status"] == "PRIMARY"), ""),
            deployments=len(deployments),
            scheduling_strategy=service.get("schedulingStrategy", "REPLICA"),
            deployment_controller=service.get("deploymentController", {}).get("type", "ECS"),
        )
        return described, self._targets

    def _describe_tasks(self, arns: Sequence[str]) -> list[TaskTypeDef]:
        with aws_errors("DescribeTasks"):
            return self._ecs.describe_tasks(cluster=self._cluster, tasks=list(arns))["tasks"]


def _raise_unless_missing(operation: str, failures: Sequence[FailureTypeDef]) -> None:
    for failure in failures:
        if failure.get("reason") != "MISSING":
            raise AwsFailure(operation, failure.get("reason", ""), failure.get("detail", ""))


def _since(task: TaskTypeDef) -> float:
    moment = task.get("startedAt") or task.get("createdAt")
    return moment.timestamp() if moment else 0.0
