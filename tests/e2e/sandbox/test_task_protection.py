"""A protected task says so, and the scheduler spares it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.sandbox.conftest import allow, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.sandbox.conftest import Cluster

_SERVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def _protect(cluster: Cluster, task: str, **more: Any) -> dict[str, Any]:
    request = {"protectionEnabled": True, **more}
    return dict(cluster.ecs.update_task_protection(cluster=cluster.name, tasks=[task], **request))


def _protection(cluster: Cluster, task: str) -> dict[str, Any]:
    answer = cluster.ecs.get_task_protection(cluster=cluster.name, tasks=[task])
    return dict(answer["protectedTasks"][0])


def test_protection_is_told_when_it_is_set_and_when_it_is_taken_back(cluster: Cluster) -> None:
    (task,) = cluster.serve(cluster.define(_SERVER), 1)
    before = _protection(cluster, task)

    _protect(cluster, task, expiresInMinutes=10)
    during = _protection(cluster, task)
    _protect(cluster, task, protectionEnabled=False)
    after = _protection(cluster, task)

    assert before == after == {"taskArn": task, "protectionEnabled": False}
    assert during["protectionEnabled"]
    assert during["expirationDate"].timestamp() - time.time() == pytest.approx(600, abs=30)


def test_scheduler_spares_a_task_as_long_as_it_is_protected(cluster: Cluster) -> None:
    tasks = cluster.serve(cluster.define(_SERVER), 2)
    first, second = tasks
    for task in tasks:
        _protect(cluster, task)

    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=1)
    assert cluster.tasks() == tasks

    _protect(cluster, first, protectionEnabled=False)
    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=1)
    assert cluster.tasks() == {second}

    cluster.ecs.update_service(cluster=cluster.name, service="web", desiredCount=0)
    assert cluster.tasks() == {second}


def test_person_can_stop_a_task_when_it_is_protected(cluster: Cluster) -> None:
    (task,) = cluster.serve(cluster.define(_SERVER), 1)
    _protect(cluster, task)

    cluster.ecs.stop_task(cluster=cluster.name, task=task)

    assert cluster.until(task, "STOPPED")["stopCode"] == "UserInitiated"


def test_failure_is_told_when_a_task_is_none_of_a_service(cluster: Cluster) -> None:
    alone = cluster.run(cluster.define("sleep 60"))

    assert _protect(cluster, alone)["failures"] == [{"arn": alone, "reason": "TASK_NOT_VALID"}]
    assert _protect(cluster, "0" * 32)["failures"][0]["reason"] == "MISSING"


def test_protection_is_allowed_on_the_task(cluster: Cluster, client_as: Callable[..., Any]) -> None:
    (task,) = cluster.serve(cluster.define(_SERVER), 1)
    request = {"cluster": cluster.name, "tasks": [task]}
    here = task.rpartition("/")[0] + "/*"
    reader, stranger = (
        client_as("ecs", allow("ecs:GetTaskProtection", resource))
        for resource in (here, cluster.arn)
    )

    assert not refused(lambda: reader.get_task_protection(**request))
    assert "ecs:GetTaskProtection" in refused(lambda: stranger.get_task_protection(**request))
    assert "ecs:UpdateTaskProtection" in refused(
        lambda: reader.update_task_protection(**request, protectionEnabled=True)
    )
