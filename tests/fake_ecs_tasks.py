"""A fake of `ecs_ops.aws.ecs_tasks.EcsTasks`: tasks that live as a test tells them to.

It passes the contract of tests/integration/test_ecs_tasks.py, as the real one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecs_ops.errors import NotFound
from ecs_ops.task_request import ContainerDefinition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_ecs.type_defs import RunTaskRequestTypeDef

    from ecs_ops.task_request import ServicePlacement
    from ecs_ops.verdict import TaskState

ARN = "arn:aws:ecs:eu-west-1:123456789012"
APP = ContainerDefinition(name="app", log_group="/shop", log_stream_prefix="ecs")


class FakeTasks:
    """Starts tasks at once; what becomes of them is in `life`."""

    def __init__(self, *containers: ContainerDefinition, family: str = "shop-migrate") -> None:
        self.calls: list[RunTaskRequestTypeDef] = []
        """Arguments of every RunTask."""
        self.refusals: list[Exception] = []
        """What the next calls of `run` raise, one each."""
        self.life: list[TaskState | Exception | None] = []
        """What the next looks at a task find, one each; the last is found for ever."""
        self.stops: list[str] = []
        """ARNs of the tasks that were stopped."""
        self.reasons: list[str] = []
        """Why, in the same order."""
        self.trouble: list[Exception] = []
        """What the next calls of `stop` raise, one each."""
        self.services: dict[str, ServicePlacement | Exception] = {}
        """Services of the cluster, by name."""
        self._containers = containers or (APP,)
        self._family = family
        self._started: dict[str, TaskState] = {}

    def run(self, arguments: RunTaskRequestTypeDef) -> TaskState:
        self.calls.append(arguments)
        if self.refusals:
            raise self.refusals.pop(0)
        token = arguments["clientToken"]
        if token not in self._started:
            task = self.task(number=len(self._started) + 1)
            task["startedBy"] = arguments["startedBy"]
            task["taskDefinitionArn"] = f"{ARN}:task-definition/{self._family}:1"
            self._started[token] = task
        return self._started[token]

    def know(self, *tasks: TaskState) -> None:
        """Let these be there already."""
        self._started |= {task["taskArn"]: task for task in tasks}

    def describe(self, cluster: str, task_arn: str) -> TaskState | None:
        if not self.life:
            known = {task["taskArn"]: task for task in self._started.values()}
            return known.get(task_arn) if cluster.endswith("shop") else None
        seen = self.life.pop(0) if len(self.life) > 1 else self.life[0]
        if isinstance(seen, Exception):
            raise seen
        return seen

    def stop(self, cluster: str, task_arn: str, reason: str) -> None:
        del cluster
        if self.trouble:
            raise self.trouble.pop(0)
        self.stops.append(task_arn)
        self.reasons.append(reason)

    def running(self, cluster: str, origin: str) -> list[TaskState]:
        return [task for task in self._of(cluster, to_run=True) if task["startedBy"] == origin]

    def of_family(self, cluster: str, family: str, limit: int) -> list[TaskState]:
        found = [self._of(cluster, to_run=to_run) for to_run in (True, False)]
        return [task for tasks in found for task in tasks[:limit]] if family == self._family else []

    def placement(self, cluster: str, service: str) -> ServicePlacement:
        found = self.services.get(service)
        if found is None:
            raise NotFound(f"there is no active service {service} in cluster {cluster}")
        if isinstance(found, Exception):
            raise found
        return found

    def containers(self, task_definition: str) -> Sequence[ContainerDefinition]:
        if self._family not in task_definition:
            raise NotFound(f"there is no task definition {task_definition}")
        return self._containers

    def _of(self, cluster: str, *, to_run: bool) -> list[TaskState]:
        """Return the tasks that are to run, or those that are not."""
        if not cluster.endswith("shop"):
            raise NotFound(f"there is no cluster {cluster}")
        return [
            task if to_run else {**task, "lastStatus": "STOPPED"}
            for task in self._started.values()
            if (task["taskArn"] not in self.stops) == to_run
        ]

    @property
    def started(self) -> int:
        """Number of tasks that exist, which repeated calls with one token do not raise."""
        return len(self._started)

    def task(
        self, status: str = "RUNNING", *, exit_code: int | None = None, number: int = 1
    ) -> TaskState:
        """Return the task with that number, in some state."""
        state: TaskState = {
            "taskArn": f"{ARN}:task/shop/{number:032x}",
            "clusterArn": f"{ARN}:cluster/shop",
            "lastStatus": status,
            "containers": [{"name": container.name} for container in self._containers],
        }
        if status == "STOPPED":
            state["stopCode"] = "EssentialContainerExited"
            state["stoppedReason"] = "Essential container in task exited"
        if exit_code is not None:
            state["containers"][0]["exitCode"] = exit_code
        return state
