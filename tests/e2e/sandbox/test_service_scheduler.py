"""A service keeps its desired count, whoever stops its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster


@pytest.fixture
def service(cluster: Cluster) -> dict[str, Any]:
    definition = cluster.define("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    created = cluster.ecs.create_service(
        cluster=cluster.name,
        serviceName="web",
        taskDefinition=definition,
        desiredCount=2,
        launchType="FARGATE",
    )
    _until_running(cluster, 2)
    return dict(created["service"])


def _service(cluster: Cluster) -> dict[str, Any]:
    answer = cluster.ecs.describe_services(cluster=cluster.name, services=["web"])
    return dict(answer["services"][0])


def _until_running(cluster: Cluster, count: int) -> None:
    eventually(lambda: _service(cluster)["runningCount"] == count, f"{count} tasks running")


def _arns(cluster: Cluster) -> set[str]:
    return set(cluster.ecs.list_tasks(cluster=cluster.name, serviceName="web")["taskArns"])


@pytest.mark.usefixtures("service")
def test_task_is_replaced_when_a_person_stops_it(cluster: Cluster) -> None:
    before = _arns(cluster)
    victim = min(before)

    cluster.ecs.stop_task(cluster=cluster.name, task=victim)

    cluster.until(victim, "STOPPED")
    _until_running(cluster, 2)
    assert len(_arns(cluster) - before) == 1
    assert cluster.task(victim)["stopCode"] == "UserInitiated"


@pytest.mark.usefixtures("service")
def test_scheduler_stops_a_task_when_the_service_shrinks(cluster: Cluster) -> None:
    before = _arns(cluster)

    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=1)

    _until_running(cluster, 1)
    (stopped,) = before - _arns(cluster)
    assert cluster.until(stopped, "STOPPED")["stopCode"] == "ServiceSchedulerInitiated"


@pytest.mark.usefixtures("service")
def test_no_other_task_is_stopped_when_the_service_shrinks_by_one_that_ends(
    cluster: Cluster,
) -> None:
    victim, kept = sorted(_arns(cluster))

    cluster.ecs.stop_task(cluster=cluster.name, task=victim)
    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=1)

    cluster.until(victim, "STOPPED")
    assert _arns(cluster) == {kept}


def test_tasks_are_started_by_their_deployment_when_the_service_starts_them(
    cluster: Cluster, service: dict[str, Any]
) -> None:
    started_by = {cluster.task(arn)["startedBy"] for arn in _arns(cluster)}

    assert started_by == {service["deployments"][0]["id"]}


def test_tasks_are_spread_over_zones_when_the_service_has_several_subnets(
    cluster: Cluster,
) -> None:
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"]}}
    tasks = cluster.serve(cluster.define("sleep 60"), 3, networkConfiguration=network)
    zones = {arn: cluster.task(arn)["availabilityZone"] for arn in tasks}
    victim = next(arn for arn, zone in zones.items() if zone == "us-east-1b")

    cluster.ecs.stop_task(cluster=cluster.name, task=victim)
    (new,) = eventually(lambda: cluster.tasks() - tasks, "the replacement")

    assert sorted(zones.values()) == ["us-east-1a", "us-east-1a", "us-east-1b"]
    assert cluster.task(new)["availabilityZone"] == "us-east-1b"
