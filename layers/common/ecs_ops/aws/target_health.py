"""Whether the load balancers of a service send its tasks requests.

A task is *reachable* when its target is `healthy` in every target group of its service. Not so
when it is `initial`, `unhealthy`, `draining` or `unused`; nor `unavailable`, which says either that
a Network Load Balancer cannot tell for the moment, or that health checks are off, which only the
targets of a Lambda function can have.
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html

Two cases are not what they seem:

- A target group that no load balancer uses (`Target.NotInUse` for each of its targets) can never be
  healthy, and takes nothing away from anybody: it does not count. For a single target the same
  reason says that its Availability Zone is not enabled: that task is not reachable.
- After a blue/green deployment by ECS the tasks are in the alternate target group or back in the
  first one; healthy in either will do.

Not looked at: Classic Load Balancers, VPC Lattice, Service Connect and Cloud Map.
"""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import LoadBalancerTypeDef, TaskTypeDef
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client
    from mypy_boto3_elbv2.type_defs import TargetHealthDescriptionTypeDef

type _Target = tuple[str, int]
"""An address or the id of an instance, and a port."""

_BATCH: Final = 100
"""Container instances in one DescribeContainerInstances: the API's own limit."""
_ADDRESSES: Final = frozenset({"privateIPv4Address", "ipv6Address"})


class TargetHealth:
    """The target groups of one service.

    Needs elasticloadbalancing:DescribeTargetHealth and DescribeTargetGroupAttributes, and
    ecs:DescribeContainerInstances for tasks without a network interface of their own.
    """

    def __init__(
        self,
        client: Callable[[str], Any],
        cluster: str,
        load_balancers: Iterable[LoadBalancerTypeDef],
        instance_ids: dict[str, str],
    ) -> None:
        """Make no call yet.

        Args:
            client: returns the client of a service.
            cluster: of the service.
            load_balancers: as DescribeServices tells them.
            instance_ids: container instance ARN to the id of its EC2 instance, which never
                changes: what is known is not asked for, and what is learnt is added.
        """
        self._client = client
        self._cluster = cluster
        self._balancers = [one for one in load_balancers if "targetGroupArn" in one]
        self._instance_ids = instance_ids

    def look(self, tasks: Sequence[TaskTypeDef]) -> tuple[frozenset[str], int]:
        """Return the ARNs of the reachable tasks, and how many targets are draining."""
        health = {arn: self._describe(arn) for arn in self._groups()}
        reachable = {task["taskArn"] for task in tasks}
        for balancer in self._balancers:
            described = [one for arn in _groups_of(balancer) for one in health[arn]]
            if described and all(_is_not_in_use(one) for one in described):
                continue
            healthy = {
                (one["Target"]["Id"], one["Target"].get("Port", 0))
                for one in described
                if one["TargetHealth"]["State"] == "healthy"
            }
            reachable = {
                task["taskArn"]
                for task, targets in self._targets(tasks, balancer)
                if task["taskArn"] in reachable and not healthy.isdisjoint(targets)
            }
        draining = sum(
            one["TargetHealth"]["State"] == "draining"
            for described in health.values()
            for one in described
        )
        return frozenset(reachable), draining

    def deregistration_delay(self) -> int:
        """Return the longest of the target groups, in seconds; 0 without any."""
        longest = 0
        for arn in self._groups():
            with aws_errors("DescribeTargetGroupAttributes"):
                answer = self._elbv2.describe_target_group_attributes(TargetGroupArn=arn)
            for attribute in answer["Attributes"]:
                if attribute["Key"] == "deregistration_delay.timeout_seconds":
                    longest = max(longest, int(attribute["Value"]))
        return longest

    @property
    def _elbv2(self) -> ElasticLoadBalancingv2Client:
        client: ElasticLoadBalancingv2Client = self._client("elbv2")
        return client

    def _groups(self) -> dict[str, None]:
        """Return the ARNs of all target groups, each once."""
        return dict.fromkeys(arn for one in self._balancers for arn in _groups_of(one))

    def _describe(self, target_group: str) -> list[TargetHealthDescriptionTypeDef]:
        with aws_errors("DescribeTargetHealth"):
            return self._elbv2.describe_target_health(TargetGroupArn=target_group)[
                "TargetHealthDescriptions"
            ]

    def _targets(
        self, tasks: Sequence[TaskTypeDef], balancer: LoadBalancerTypeDef
    ) -> Iterable[tuple[TaskTypeDef, set[_Target]]]:
        """Yield each task with the targets as which ECS may have registered it."""
        own_address = {task["taskArn"]: _addresses(task) for task in tasks}
        self._learn_instances(
            task["containerInstanceArn"]
            for task in tasks
            if not own_address[task["taskArn"]] and "containerInstanceArn" in task
        )
        for task in tasks:
            if addresses := own_address[task["taskArn"]]:
                yield task, {(address, balancer["containerPort"]) for address in addresses}
            else:
                instance = self._instance_ids.get(task.get("containerInstanceArn", ""), "")
                yield task, {(instance, port) for port in _host_ports(task, balancer)}

    def _learn_instances(self, arns: Iterable[str]) -> None:
        unknown = sorted(set(arns) - self._instance_ids.keys())
        for batch in batched(unknown, _BATCH, strict=False):
            ecs: ECSClient = self._client("ecs")
            with aws_errors("DescribeContainerInstances"):
                answer = ecs.describe_container_instances(
                    cluster=self._cluster, containerInstances=list(batch)
                )
            for instance in answer["containerInstances"]:
                self._instance_ids[instance["containerInstanceArn"]] = instance["ec2InstanceId"]


def _groups_of(balancer: LoadBalancerTypeDef) -> list[str]:
    alternate = balancer.get("advancedConfiguration", {}).get("alternateTargetGroupArn")
    return [balancer["targetGroupArn"], *([alternate] if alternate else [])]


def _is_not_in_use(described: TargetHealthDescriptionTypeDef) -> bool:
    health: Mapping[str, Any] = described["TargetHealth"]
    return health["State"] == "unused" and health.get("Reason") == "Target.NotInUse"


def _addresses(task: TaskTypeDef) -> set[str]:
    """Return the addresses of the task's own network interface, which awsvpc gives it."""
    return {
        detail["value"]
        for attachment in task.get("attachments", ())
        for detail in attachment.get("details", ())
        if detail.get("name") in _ADDRESSES
    }


def _host_ports(task: TaskTypeDef, balancer: LoadBalancerTypeDef) -> set[int]:
    return {
        binding["hostPort"]
        for container in task.get("containers", ())
        if container.get("name") == balancer.get("containerName")
        for binding in container.get("networkBindings", ())
        if binding.get("containerPort") == balancer["containerPort"] and "hostPort" in binding
    }
