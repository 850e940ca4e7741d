"""A task is described as on AWS, where ministack leaves something out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster


def test_size_is_the_one_asked_for_when_run_task_overrides_it(cluster: Cluster) -> None:
    definition = cluster.define("sleep 60")
    answer = cluster.ecs.run_task(
        cluster=cluster.name,
        taskDefinition=definition,
        overrides={"cpu": "512", "memory": "2048"},
    )

    task = cluster.task(answer["tasks"][0]["taskArn"])

    for seen in (answer["tasks"][0], task):
        assert (seen["cpu"], seen["memory"]) == ("512", "2048")


def test_times_are_told_to_the_millisecond(cluster: Cluster) -> None:
    definition = cluster.define("exit 0")

    tasks = [cluster.task(cluster.run(definition)) for _ in range(5)]

    # All five at the beginning of a second: once in some 10^15 runs.
    assert any(task["createdAt"].microsecond for task in tasks)
