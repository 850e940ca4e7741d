"""The adapter of one service keeps its contract in the local account, as it does over moto."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from ecs_ops.aws.ecs_services import EcsService
from tests.e2e.sandbox.conftest import Cluster
from tests.services_contract import (
    AlarmsContract,
    BoundsContract,
    MissingTaskContract,
    ProtectionContract,
    ServicesContract,
    Stage,
    TargetsContract,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ecs_ops.recycle import Services
    from tests.sandbox.account import Account

_SERVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
_COUNT = 2


@pytest.fixture(scope="module")
def kept(account: Account) -> Cluster:
    """A service `web` for all tests that leave it as it was."""
    cluster = Cluster(account)
    cluster.serve(cluster.define(_SERVER), _COUNT)
    return cluster


class TestEcsService(
    ServicesContract,
    MissingTaskContract,
    BoundsContract,
    AlarmsContract,
    TargetsContract,
    ProtectionContract,
):
    @pytest.fixture
    def stage(self, account: Account, kept: Cluster) -> Stage:
        kept.ecs.update_service(cluster=kept.name, service="web", desiredCount=_COUNT)
        kept.until_running(_COUNT)
        before = kept.tasks()

        def settle() -> None:
            eventually(lambda: not before <= kept.tasks(), "a task is gone")

        return Stage(
            EcsService(account.client, kept.name, "web"),
            EcsService(account.client, kept.name, "nowhere"),
            settle,
        )

    @pytest.fixture
    def scaled(self, account: Account, kept: Cluster) -> Iterator[Services]:
        scaling = account.client("application-autoscaling")
        target = {
            "ServiceNamespace": "ecs",
            "ResourceId": f"service/{kept.name}/web",
            "ScalableDimension": "ecs:service:DesiredCount",
        }
        scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=4)
        yield EcsService(account.client, kept.name, "web")
        scaling.deregister_scalable_target(**target)

    @pytest.fixture
    def alarmed(self, account: Account, kept: Cluster) -> Services:
        cloudwatch = account.client("cloudwatch")
        for name, state in (("calm", "OK"), ("loud", "ALARM"), ("new", "INSUFFICIENT_DATA")):
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                Namespace="shop",
                MetricName="errors",
                ComparisonOperator="GreaterThanThreshold",
                EvaluationPeriods=1,
                Period=60,
                Statistic="Sum",
                Threshold=1,
            )
            cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
        return EcsService(account.client, kept.name, "web")

    @pytest.fixture
    def balanced(self, account: Account) -> Services:
        cluster = Cluster(account)
        elb = account.client("elbv2")
        group = elb.create_target_group(
            Name=f"group-{uuid.uuid4().hex[:8]}",
            Protocol="HTTP",
            Port=80,
            VpcId="vpc-1",
            TargetType="ip",
        )["TargetGroups"][0]["TargetGroupArn"]
        elb.modify_target_group_attributes(
            TargetGroupArn=group,
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}],
        )
        definition = cluster.ecs.register_task_definition(
            family=cluster.name,
            networkMode="awsvpc",
            containerDefinitions=[
                {"name": "app", "image": "busybox", "command": ["sh", "-c", _SERVER]}
            ],
        )["taskDefinition"]["taskDefinitionArn"]
        cluster.serve(
            definition,
            _COUNT,
            loadBalancers=[
                {"targetGroupArn": group, "containerName": "app", "containerPort": 8080}
            ],
        )
        service = EcsService(account.client, cluster.name, "web")
        eventually(lambda: all(task.reachable for task in service.look().tasks), "healthy targets")
        return service

    @pytest.fixture
    def guarded(self, account: Account, kept: Cluster) -> tuple[Services, str]:
        kept.until_running(_COUNT)
        protected, *_ = sorted(kept.tasks())
        kept.ecs.update_task_protection(
            cluster=kept.name, tasks=[protected], protectionEnabled=True
        )
        return EcsService(account.client, kept.name, "web"), protected
