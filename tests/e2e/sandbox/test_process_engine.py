"""Containers are local processes with real exit codes, output and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster
    from tests.sandbox.account import Account


@pytest.mark.parametrize("code", [0, 3])
def test_exit_code_is_the_process_s_when_it_ends(cluster: Cluster, code: int) -> None:
    task = cluster.until(cluster.run(cluster.define(f"exit {code}")), "STOPPED")

    assert task["containers"][0]["exitCode"] == code
    assert task["stopCode"] == "EssentialContainerExited"


def test_override_wins_when_command_and_environment_are_overridden(
    cluster: Cluster, account: Account
) -> None:
    definition = cluster.define(
        "exit 9",
        environment=[{"name": "A", "value": "definition"}, {"name": "B", "value": "definition"}],
        logConfiguration={
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"/{cluster.name}",
                "awslogs-create-group": "true",
                "awslogs-region": account.env["AWS_REGION"],
                "awslogs-stream-prefix": "p",
            },
        },
    )
    arn = cluster.run(
        definition,
        overrides={
            "containerOverrides": [
                {
                    "name": "c0",
                    "command": ["sh", "-c", "echo $A $B"],
                    "environment": [{"name": "A", "value": "override"}],
                }
            ]
        },
    )

    assert cluster.until(arn, "STOPPED")["containers"][0]["exitCode"] == 0
    logs = account.client("logs")
    stream = f"p/c0/{arn.rpartition('/')[2]}"
    output = {"logGroupName": f"/{cluster.name}", "logStreamName": stream}
    events = eventually(lambda: logs.get_log_events(**output)["events"], "output")
    assert [event["message"] for event in events] == ["override definition"]


def test_task_ends_and_sidecar_gets_sigterm_when_essential_container_exits(
    cluster: Cluster,
) -> None:
    definition = cluster.define(
        "sleep 0.2; exit 4", "trap 'exit 7' TERM; while :; do sleep 0.05; done"
    )

    task = cluster.until(cluster.run(definition), "STOPPED")

    assert [container["exitCode"] for container in task["containers"]] == [4, 7]


def test_container_is_killed_when_it_ignores_sigterm(cluster: Cluster) -> None:
    definition = cluster.define("trap '' TERM; while :; do sleep 0.05; done", stopTimeout=2)
    arn = cluster.run(definition)
    cluster.until(arn, "RUNNING")

    cluster.ecs.stop_task(cluster=cluster.name, task=arn, reason="enough")

    task = cluster.until(arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 137
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"image": "registry.example/app:unpullable"}, "CannotPullContainerError"),
        ({"command": []}, "CannotCreateContainerError"),
        ({"command": ["/no/such/program"]}, "CannotStartContainerError"),
    ],
)
def test_task_fails_to_start_when_its_container_cannot(
    cluster: Cluster, container: dict[str, object], reason: str
) -> None:
    task = cluster.until(cluster.run(cluster.define("exit 0", **container)), "STOPPED")

    assert task["stopCode"] == "TaskFailedToStart"
    assert reason in task["stoppedReason"]
    assert "exitCode" not in task["containers"][0]
