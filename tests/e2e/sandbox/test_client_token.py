"""RunTask is idempotent by its client token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster


def test_one_task_runs_when_one_request_comes_many_times_at_once(cluster: Cluster) -> None:
    definition = cluster.define("exit 0")

    with ThreadPoolExecutor(8) as pool:
        arns = set(pool.map(lambda _: cluster.run(definition, clientToken="t1"), range(16)))

    assert len(arns) == 1


def test_conflict_when_token_comes_with_another_request(cluster: Cluster) -> None:
    definition = cluster.define("exit 0")
    cluster.run(definition, clientToken="t2")

    with pytest.raises(cluster.ecs.exceptions.ConflictException):
        cluster.run(definition, clientToken="t2", startedBy="someone-else")


def test_second_task_runs_when_token_differs(cluster: Cluster) -> None:
    definition = cluster.define("exit 0")

    assert cluster.run(definition, clientToken="t3") != cluster.run(definition, clientToken="t4")


def test_arn_and_statuses_are_all_that_is_told_when_the_task_has_stopped(cluster: Cluster) -> None:
    definition = cluster.define("exit 0")
    arn = cluster.run(definition, clientToken="t5")
    cluster.until(arn, "STOPPED")

    (task,) = cluster.ecs.run_task(
        cluster=cluster.name, taskDefinition=definition, clientToken="t5"
    )["tasks"]

    assert task == {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
