"""An ECS service in memory, with a scheduler that replaces what stops.

It passes the same contract as the real adapter: tests/integration/test_ecs_services.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ecs_ops.errors import NotFound
from ecs_ops.recycle import Service, Task, in_service

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class FakeService:
    """Time passes by one second with every look at the tasks, and by `pass_time`."""

    desired_count: int = 3
    exists: bool = True
    status: str = "ACTIVE"
    deployments: int = 1
    scheduling_strategy: str = "REPLICA"
    seconds_to_start: int = 3
    seconds_to_health: int | None = None
    """Seconds from running to HEALTHY; None for tasks without a health check."""
    seconds_of_lag: int = 0
    """For how long a task is still listed as running after a call stopped it."""
    accidents: dict[int, Callable[[FakeService], None]] = field(default_factory=dict)
    """What happens at which second."""
    failures: dict[int, Exception] = field(default_factory=dict)
    """What which look at the tasks raises; the first one is 1."""

    now: int = 0
    looks: int = 0
    present: dict[str, Task] = field(default_factory=dict)
    stopping: dict[str, int] = field(default_factory=dict)
    """ARN to the second from which on it is not listed any more."""
    recycled: list[str] = field(default_factory=list)
    strength_at_stop: list[int] = field(default_factory=list)
    """Tasks in service in the moment of each stop, the stopped one included."""
    made: int = 0

    def __post_init__(self) -> None:
        health = "UNKNOWN" if self.seconds_to_health is None else "HEALTHY"
        for _ in range(self.desired_count):
            self._start("RUNNING", health)

    def describe(self) -> Service:
        if not self.exists:
            raise NotFound("service web of cluster shop does not exist")
        return Service(self.status, self.desired_count, self.deployments, self.scheduling_strategy)

    def tasks(self) -> list[Task]:
        self.pass_time(1)
        self.looks += 1
        if failure := self.failures.get(self.looks):
            raise failure
        return list(reversed(self.present.values()))

    def change_desired_count(self, expected: int, wanted: int) -> int:
        if self.describe().desired_count == expected:
            self.desired_count = wanted
        return self.desired_count

    def stop(self, task_arn: str) -> None:
        if task_arn not in self.present:
            raise NotFound(f"task {task_arn} does not exist")
        self.strength_at_stop.append(self.strength())
        self.recycled.append(task_arn)
        self._end(task_arn, self.seconds_of_lag)

    def was_recycled(self, task_arn: str) -> bool:
        return task_arn in self.recycled

    def pass_time(self, seconds: int) -> None:
        """Let the scheduler work for so long."""
        for _ in range(seconds):
            self.now += 1
            if accident := self.accidents.pop(self.now, None):
                accident(self)
            self._schedule()

    def lose(self, task_arn: str) -> None:
        """Have a task end by itself."""
        self._end(task_arn, 0)

    def strength(self) -> int:
        working = in_service(
            self.present.values(), reports_health=self.seconds_to_health is not None
        )
        return sum(task.arn not in self.stopping for task in working)

    def clock(self) -> float:
        return float(self.now)

    def _start(self, status: str, health: str) -> None:
        self.made += 1
        arn = f"arn:aws:ecs:us-west-2:111122223333:task/shop/{self.made:032x}"
        self.present[arn] = Task(arn, status, health, self.now)

    def _schedule(self) -> None:
        self._forget_stopped()
        for task in list(self.present.values()):
            age = self.now - task.since
            if task.status == "PENDING" and age >= self.seconds_to_start:
                self.present[task.arn] = replace(task, status="RUNNING", since=self.now)
            elif self.seconds_to_health is not None and age >= self.seconds_to_health:
                self.present[task.arn] = replace(task, health="HEALTHY")
        kept = [arn for arn in self.present if arn not in self.stopping]
        for _ in range(self.desired_count - len(kept)):
            self._start("PENDING", "UNKNOWN")
        for arn in kept[self.desired_count :]:
            self.lose(arn)

    def _end(self, task_arn: str, lag: int) -> None:
        self.stopping.setdefault(task_arn, self.now + lag)
        self._forget_stopped()

    def _forget_stopped(self) -> None:
        for arn, second in self.stopping.items():
            if second <= self.now:
                self.present.pop(arn, None)
