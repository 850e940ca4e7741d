"""Health checks decide what a task's health is, and a service replaces who fails them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster

_SERVER = "trap 'exit 0' TERM; touch up; while :; do sleep 0.05; done"
# Healthy until the file is gone, which the container's own command decides.
_CHECK = {"command": ["CMD-SHELL", "test -f up"], "interval": 5, "retries": 2}


def _until_health(cluster: Cluster, task: str, status: str) -> None:
    eventually(lambda: cluster.task(task)["healthStatus"] == status, f"task {status}")


def test_task_is_unknown_then_healthy_when_its_check_passes(cluster: Cluster) -> None:
    check = {**_CHECK, "command": ["CMD-SHELL", "sleep 0.5; test -f up"]}
    task = cluster.run(cluster.define(_SERVER, healthCheck=check))

    first = cluster.until(task, "RUNNING")["healthStatus"]
    _until_health(cluster, task, "HEALTHY")

    assert first == "UNKNOWN"
    assert cluster.task(task)["containers"][0]["healthStatus"] == "HEALTHY"


def test_task_stays_unknown_when_it_has_no_check(cluster: Cluster) -> None:
    with_check = cluster.run(cluster.define(_SERVER, healthCheck=_CHECK))
    without = cluster.run(cluster.define(_SERVER))

    _until_health(cluster, with_check, "HEALTHY")

    assert cluster.task(without)["healthStatus"] == "UNKNOWN"


def test_task_of_its_own_goes_on_when_it_is_unhealthy(cluster: Cluster) -> None:
    check = {**_CHECK, "command": ["CMD", "/bin/false"]}
    task = cluster.run(cluster.define(_SERVER, healthCheck=check))

    _until_health(cluster, task, "UNHEALTHY")

    assert cluster.task(task)["desiredStatus"] == "RUNNING"


def test_start_period_is_waited_for_when_the_first_checks_fail(cluster: Cluster) -> None:
    late = "trap 'exit 0' TERM; sleep 1.2; touch up; while :; do sleep 0.05; done"
    check = {**_CHECK, "retries": 1, "startPeriod": 300}
    (task,) = cluster.serve(cluster.define(late, healthCheck=check), 1)

    _until_health(cluster, task, "HEALTHY")

    assert cluster.tasks() == {task}


def test_task_of_a_service_is_replaced_when_it_gets_unhealthy(cluster: Cluster) -> None:
    ill = "trap 'exit 0' TERM; touch up; sleep 0.8; rm up; while :; do sleep 0.05; done"
    (task,) = cluster.serve(cluster.define(ill, healthCheck=_CHECK), 1)

    stopped = cluster.until(task, "STOPPED")

    assert stopped["stopCode"] == "ServiceSchedulerInitiated"
    assert stopped["stoppedReason"] == "Task failed container health checks"
    assert stopped["healthStatus"] == "UNHEALTHY"
    eventually(lambda: cluster.tasks() - {task}, "the replacement")
    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=0)
