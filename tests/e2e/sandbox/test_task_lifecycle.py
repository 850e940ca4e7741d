"""A task passes through the documented states, in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster

_ORDER = [
    "PROVISIONING",
    "PENDING",
    "ACTIVATING",
    "RUNNING",
    "DEACTIVATING",
    "STOPPING",
    "DEPROVISIONING",
    "STOPPED",
]


def test_states_come_in_order_when_a_task_lives_and_ends(cluster: Cluster) -> None:
    arn = cluster.run(cluster.define("sleep 0.3"))
    seen = ["PROVISIONING"]
    deadline = time.monotonic() + 20
    while seen[-1] != "STOPPED" and time.monotonic() < deadline:
        status = cluster.task(arn)["lastStatus"]
        if status != seen[-1]:
            seen.append(status)

    assert seen == [status for status in _ORDER if status in seen]
    assert {"PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"} <= set(seen)


def test_task_still_counts_as_running_when_its_stop_was_only_asked_for(cluster: Cluster) -> None:
    arn = cluster.run(cluster.define("sleep 60"))
    cluster.until(arn, "RUNNING")

    answer = cluster.ecs.stop_task(cluster=cluster.name, task=arn)["task"]

    assert (answer["lastStatus"], answer["desiredStatus"]) == ("RUNNING", "STOPPED")
    cluster.until(arn, "STOPPED")


def test_nothing_runs_when_a_task_is_stopped_before_it_started(cluster: Cluster) -> None:
    arn = cluster.run(cluster.define("sleep 60"))

    cluster.ecs.stop_task(cluster=cluster.name, task=arn)

    task = cluster.until(arn, "STOPPED")
    assert "startedAt" not in task
