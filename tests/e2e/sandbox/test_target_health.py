"""A task's target is initial, healthy, then draining for as long as its group says."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.sandbox.conftest import allow, refused
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.sandbox.conftest import Cluster
    from tests.sandbox.account import Account

_SERVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
_DELAY_SECONDS = 2
_DELAY = "deregistration_delay.timeout_seconds"


class Group:
    """A target group and the service `web` that is registered with it."""

    def __init__(self, account: Account, cluster: Cluster) -> None:
        self.elb, self.cluster = account.client("elbv2"), cluster
        name = f"group-{uuid.uuid4().hex[:8]}"
        created = self.elb.create_target_group(
            Name=name, Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip"
        )
        self.arn = created["TargetGroups"][0]["TargetGroupArn"]
        self.elb.modify_target_group_attributes(
            TargetGroupArn=self.arn, Attributes=[{"Key": _DELAY, "Value": str(_DELAY_SECONDS)}]
        )

    def create_service(self) -> None:
        definition = self.cluster.ecs.register_task_definition(
            family=self.cluster.name,
            networkMode="awsvpc",
            containerDefinitions=[
                {"name": "app", "image": "busybox", "command": ["sh", "-c", _SERVER]}
            ],
        )["taskDefinition"]["taskDefinitionArn"]
        balancer = {"targetGroupArn": self.arn, "containerName": "app", "containerPort": 8080}
        self.cluster.create_service(definition, 1, loadBalancers=[balancer])

    def serve(self) -> str:
        """Return the ARN of the service's one task, which runs."""
        self.create_service()
        (task,) = self.cluster.until_running(1)
        return task

    def states(self) -> list[str]:
        answer = self.elb.describe_target_health(TargetGroupArn=self.arn)
        return [one["TargetHealth"]["State"] for one in answer["TargetHealthDescriptions"]]

    def until(self, *states: str) -> None:
        eventually(lambda: sorted(self.states()) == sorted(states), " and ".join(states))


@pytest.fixture
def group(account: Account, cluster: Cluster) -> Group:
    return Group(account, cluster)


def test_target_is_initial_then_healthy_when_its_task_runs(group: Group) -> None:
    group.create_service()

    assert eventually(group.states, "a target") == ["initial"]
    group.until("healthy")


def test_target_drains_before_the_containers_stop_when_its_task_is_stopped(group: Group) -> None:
    task = group.serve()
    group.until("healthy")
    began = time.monotonic()

    group.cluster.ecs.stop_task(cluster=group.cluster.name, task=task)
    eventually(lambda: "draining" in group.states(), "draining")
    during = group.cluster.task(task)["lastStatus"]
    group.cluster.until(task, "STOPPED")

    assert during == "DEACTIVATING"
    assert time.monotonic() - began > _DELAY_SECONDS
    group.until("healthy")


def test_target_is_the_address_of_the_task(group: Group) -> None:
    task = group.cluster.task(group.serve())

    described = group.elb.describe_target_health(TargetGroupArn=group.arn)

    (attachment,) = task["attachments"]
    details = {one["name"]: one["value"] for one in attachment["details"]}
    (target,) = described["TargetHealthDescriptions"]
    assert target["Target"] == {"Id": details["privateIPv4Address"], "Port": 8080}


def test_targets_are_unhealthy_when_the_health_check_path_says_so(group: Group) -> None:
    group.serve()
    group.until("healthy")

    group.elb.modify_target_group(TargetGroupArn=group.arn, HealthCheckPath="/unhealthy")

    assert group.states() == ["unhealthy"]


def test_describing_is_allowed_on_everything_alone(
    group: Group, client_as: Callable[..., Any]
) -> None:
    actions = ("DescribeTargetHealth", "DescribeTargetGroupAttributes")
    may = client_as("elbv2", *(allow(f"elasticloadbalancing:{action}") for action in actions))
    may_not = client_as("elbv2", allow("elasticloadbalancing:*", group.arn))

    def refusals(elb: Any) -> list[str]:
        return [
            refused(lambda: elb.describe_target_health(TargetGroupArn=group.arn)),
            refused(lambda: elb.describe_target_group_attributes(TargetGroupArn=group.arn)),
        ]

    assert refusals(may) == ["", ""]
    for action, refusal in zip(actions, refusals(may_not), strict=True):
        assert action in refusal
