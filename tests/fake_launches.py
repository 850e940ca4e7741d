"""Fakes of what launch_task asks about runs: the tasks ECS knows, and the event log.

The log passes the contract of tests/integration/test_launched_log.py, as the real one does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ecs_ops.event_record import launch_key, utc_text
from ecs_ops.task_request import ContainerDefinition
from tests.fake_ecs_tasks import FakeTasks

if TYPE_CHECKING:
    from ecs_ops.verdict import TaskState

LAUNCHER = "ecs-ops-launch-task"
ECS_ARN = "arn:aws:ecs:eu-west-1:111122223333"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
FUNCTION_ARN = f"arn:aws:lambda:eu-west-1:111122223333:function:{LAUNCHER}"


def launched(
    number: int,
    status: str = "RUNNING",
    *,
    profile: str = "default",
    caller: str = "alice",
    launcher: str = LAUNCHER,
    exit_code: int | None = None,
    second: int | None = None,
) -> TaskState:
    """Return a task that was launched in a second of its own, or in the one given."""
    created = timedelta(seconds=number if second is None else second)
    task: TaskState = {
        "taskArn": f"{ECS_ARN}:task/shop/{number:032x}",
        "clusterArn": f"{ECS_ARN}:cluster/shop",
        "taskDefinitionArn": f"{ECS_ARN}:task-definition/nightly:3",
        "startedBy": f"{launcher}/{profile}/{caller}",
        "lastStatus": status,
        "containers": [{"name": "job"}],
        "createdAt": utc_text((_FIRST + created).isoformat()),
    }
    if status == "STOPPED":
        task["stopCode"] = "EssentialContainerExited"
        task["stoppedAt"] = "2026-01-02T00:00:00.000Z"
    if exit_code is not None:
        task["containers"][0]["exitCode"] = exit_code
    return task


class FakeLog:
    """Remembers the tasks it is given, each in its last state."""

    def __init__(self, *tasks: TaskState) -> None:
        self._tasks = {task["taskArn"]: task for task in tasks}

    def last_of(self, task_arn: str, _now: datetime) -> TaskState | None:
        return self._tasks.get(task_arn)

    def before(self, launcher: str, key: str, limit: int, _now: datetime) -> list[TaskState]:
        mine = [
            task
            for task in self._tasks.values()
            if task.get("startedBy", "").startswith(f"{launcher}/")
            and (not key or launch_key(task) < key)
        ]
        return sorted(mine, key=launch_key, reverse=True)[:limit]


class KnownTasks(FakeTasks):
    """ECS with tasks that are there already, all of the cluster `shop`."""

    def __init__(self, *tasks: TaskState) -> None:
        super().__init__(
            ContainerDefinition(name="job", log_group="/shop", log_stream_prefix="ecs"),
            ContainerDefinition(name="proxy", essential=False),
            family="nightly",
        )
        self.know(*tasks)
