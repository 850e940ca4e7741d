"""The rules of replacing a service's tasks one by one without ever weakening it.

*In service* is a task that ECS means to keep, that is RUNNING and whose health checks, if it has
any, pass. A task is stopped only while as many as the *goal* are in service; the next one only
after two looks in a row found as many again, the stopped ones never counted. So a task that was
not in service before has taken the place of the stopped one, unless there were more than the goal.

The counts of DescribeServices are not trusted. `deployments == 1 and running == desired`, which
botocore's `services_stable` waits for, is still true in the moment after a StopTask, and who
believes it stops tasks like dominoes: https://github.com/aws/aws-cli/issues/5894.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, TypedDict

from ecs_ops.errors import EcsOpsError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LOOKS_IN_A_ROW: Final = 2
REPLACEMENT_TIMEOUT: Final = 600
"""Seconds a replacement may take until it is in service."""
_LONGEST_WAIT: Final = 86_400
_ALLOWED: Final = ("cluster_name", "service_name", "maintain_service_state", "wait_time")


class RecycleHalted(EcsOpsError):
    """Going on could weaken the service; its text says why."""


@dataclass(frozen=True, slots=True)
class RecycleRequest:
    """What a caller asks for."""

    cluster_name: str
    service_name: str
    maintain_service_state: bool = True
    """Run one task more while recycling, so that strength never falls below what it was."""
    wait_time: int = 30
    """Seconds from a replacement being in service until the next task is stopped."""

    @classmethod
    def parse(cls, event: object) -> Self:
        """Read the function's input; raise InvalidRequest, which names the field."""
        if not isinstance(event, dict):
            raise InvalidRequest("input", f"must be an object with {', '.join(_ALLOWED)}")
        for name in event:
            if name not in _ALLOWED:
                raise InvalidRequest(name, f"is not known; allowed are {', '.join(_ALLOWED)}")
        for name in ("cluster_name", "service_name"):
            text = event.get(name)
            if not isinstance(text, str) or not text.strip():
                raise InvalidRequest(name, "is required, a text")
        maintain = event.get("maintain_service_state", True)
        if not isinstance(maintain, bool):
            raise InvalidRequest("maintain_service_state", "must be true or false")
        wait = event.get("wait_time", 30)
        # To isinstance, True is an int.
        if type(wait) is not int or not 0 <= wait <= _LONGEST_WAIT:
            raise InvalidRequest(
                "wait_time", f"must be a whole number of seconds from 0 to {_LONGEST_WAIT}"
            )
        return cls(event["cluster_name"], event["service_name"], maintain, wait)


@dataclass(frozen=True, slots=True)
class Service:
    """What DescribeServices says, as far as it matters here."""

    status: str
    desired_count: int
    deployments: int
    """1 when none is in progress; 0 for a service with an external deployment controller."""
    scheduling_strategy: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the service that ECS means to keep (desired status RUNNING)."""

    arn: str
    status: str
    """`lastStatus`."""
    health: str
    """`HEALTHY`, `UNHEALTHY`, or `UNKNOWN`: not reported yet, or no health check at all."""
    since: float
    """Epoch seconds of its start; of its creation while it has not started."""


class Services(Protocol):
    """One service. What `ecs_ops.aws.ecs_services.EcsService` does, and a fake can do."""

    def describe(self) -> Service:
        """Raise NotFound when the cluster or the service does not exist."""
        ...

    def tasks(self) -> Sequence[Task]:
        """Return the service's tasks that ECS means to keep, in any order."""
        ...

    def change_desired_count(self, expected: int, wanted: int) -> int:
        """Compare and set; return the count as it is afterwards."""
        ...

    def stop(self, task_arn: str) -> None:
        """Stop a task; raise NotFound when there is no such task."""
        ...

    def was_recycled(self, task_arn: str) -> bool:
        """Tell whether `stop` stopped this task some time ago."""
        ...


class Survey(TypedDict):
    """The service before anything is done to it; a step's result, so JSON."""

    status: str
    desired_count: int
    deployments: int
    scheduling_strategy: str
    tasks: list[str]
    """ARNs, oldest first."""
    in_service: int
    reports_health: bool


class Look(TypedDict):
    """What a poll leaves for the next one."""

    passed: int
    """Looks in a row that found the service at strength."""
    in_service: int
    lowest: int
    """Fewest tasks in service on any look of this wait."""


class Stop(TypedDict):
    """What became of one attempt to stop a task; a step's result."""

    verdict: Literal["stop", "gone", "weak", "halt"]
    """`weak`: too few tasks are in service now. `halt`: the plan does not fit the service."""
    why: str
    in_service: int


class TaskReport(TypedDict):
    """A task that was not recycled, or failed to be."""

    task_arn: str
    why: str


class Change(TypedDict):
    """The desired count, before and after."""

    before: int
    after: int


class Capacity(TypedDict):
    """Tasks in service: before, at the lowest moment seen, and after."""

    before: int
    during: int
    after: int | None
    """None when ECS gave no answer in the end."""


class Report(TypedDict):
    """The function's result. Every task that was there at the start is in one of three lists."""

    outcome: Literal["succeeded", "failed"]
    problem: str | None
    """Why recycling ended early."""
    cluster_name: str
    service_name: str
    recycled: list[str]
    skipped: list[TaskReport]
    failed: list[TaskReport]
    capacity: Capacity
    desired_count: Change


def survey(service: Service, tasks: Iterable[Task]) -> Survey:
    """Sum up what is there at the start."""
    oldest_first = sorted(tasks, key=lambda task: (task.since, task.arn))
    return {
        "status": service.status,
        "desired_count": service.desired_count,
        "deployments": service.deployments,
        "scheduling_strategy": service.scheduling_strategy,
        "tasks": [task.arn for task in oldest_first],
        "in_service": len(in_service(oldest_first)),
        "reports_health": _report_health(oldest_first),
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done."""

    tasks: tuple[str, ...]
    """ARNs of the tasks to recycle, oldest first."""
    before: int
    """Desired count as it was found, and as it is left."""
    goal: int
    """Desired count while recycling, and tasks in service without which none is stopped."""
    surveyed: Survey

    @classmethod
    def of(cls, request: RecycleRequest, surveyed: Survey) -> Self:
        """Plan, or raise InvalidRequest when this service cannot be recycled."""
        name, before = request.service_name, surveyed["desired_count"]
        if surveyed["status"] != "ACTIVE":
            raise InvalidRequest("service_name", f"{name} is {surveyed['status']}, not ACTIVE")
        if surveyed["scheduling_strategy"] == "DAEMON":
            raise InvalidRequest(
                "service_name", f"{name} is a DAEMON service; only REPLICA services are recycled"
            )
        if surveyed["deployments"] > 1:
            raise InvalidRequest("service_name", f"{name} has a deployment in progress")
        if before < 1:
            raise InvalidRequest("service_name", f"{name} has a desired count of 0")
        return cls(
            tasks=tuple(surveyed["tasks"]),
            before=before,
            goal=before + 1 if request.maintain_service_state else before,
            surveyed=surveyed,
        )


def in_service(
    tasks: Iterable[Task], *, reports_health: bool = False, stopped: Collection[str] = ()
) -> list[Task]:
    """Return the tasks that do their work.

    Args:
        tasks: of the service.
        reports_health: whether a task of this service is known to have reported its health.
            UNKNOWN then means "not healthy yet"; otherwise that there is no health check.
        stopped: ARNs that do not count, whatever a lagging answer says about them.
    """
    tasks = list(tasks)
    healthy = {"HEALTHY"} if reports_health or _report_health(tasks) else {"UNKNOWN"}
    return [
        task
        for task in tasks
        if task.status == "RUNNING" and task.health in healthy and task.arn not in stopped
    ]


def _report_health(tasks: Iterable[Task]) -> bool:
    return any(task.health in {"HEALTHY", "UNHEALTHY"} for task in tasks)


@dataclass(slots=True)
class Progress:
    """How far a recycle has come. It is made anew at every replay, from stored results only."""

    plan: Plan
    lowest: int
    """Fewest tasks that were seen in service."""
    stopped: set[str] = field(default_factory=set)
    """ARNs of the tasks this recycle stopped: they do not count, whatever ECS still says."""
    at_hand: str | None = None
    """ARN of the task that is being recycled."""
    recycled: list[str] = field(default_factory=list)
    skipped: list[TaskReport] = field(default_factory=list)
    failed: list[TaskReport] = field(default_factory=list)

    @classmethod
    def begin(cls, plan: Plan) -> Self:
        """Nothing is done yet."""
        return cls(plan, lowest=plan.surveyed["in_service"])

    def in_service(self, tasks: Iterable[Task]) -> list[Task]:
        """Return those of the tasks that do their work and are not stopped by us."""
        return in_service(
            tasks, reports_health=self.plan.surveyed["reports_health"], stopped=self.stopped
        )

    def look(self, tasks: Iterable[Task], last: Look | None) -> Look:
        """Judge one look at the tasks: as many as the goal are in service, or not.

        A look that fails begins the count of looks again.
        """
        count = len(self.in_service(tasks))
        before = last or {"passed": 0, "in_service": count, "lowest": count}
        return {
            "passed": before["passed"] + 1 if count >= self.plan.goal else 0,
            "in_service": count,
            "lowest": min(count, before["lowest"]),
        }

    def may_stop(self, service: Service, tasks: Iterable[Task], task_arn: str) -> Stop:
        """Judge whether a task may be stopped now.

        It answers and raises nothing, because an exception's type does not survive a step.
        """
        tasks = list(tasks)
        count, goal = len(self.in_service(tasks)), self.plan.goal

        def stop(verdict: Literal["stop", "gone", "weak", "halt"], why: str) -> Stop:
            return {"verdict": verdict, "why": why, "in_service": count}

        if service.status != "ACTIVE":
            return stop("halt", f"the service is {service.status}, not ACTIVE any more")
        if service.deployments > 1:
            return stop("halt", "a deployment has begun")
        if service.desired_count < goal:
            return stop(
                "halt", f"the desired count was lowered from {goal} to {service.desired_count}"
            )
        if all(task.arn != task_arn for task in tasks):
            return stop("gone", "it was gone already")
        if count < goal:
            return stop("weak", f"tasks keep failing: {count} of {goal} are in service")
        return stop("stop", "")

    def saw(self, look: Look | None) -> None:
        """Remember how low it went."""
        if look:
            self.lowest = min(self.lowest, look["lowest"])

    def tried(self, stop: Stop, task_arn: str) -> None:
        """Remember an attempt to stop a task."""
        self.lowest = min(self.lowest, stop["in_service"])
        if stop["verdict"] == "stop":
            self.stopped.add(task_arn)

    def skip(self, task_arn: str, why: str) -> None:
        """Account for a task that was left alone."""
        self.skipped.append({"task_arn": task_arn, "why": why})
        self.at_hand = None

    def replaced(self, task_arn: str) -> None:
        """Account for a task whose replacement is in service."""
        self.recycled.append(task_arn)
        self.at_hand = None

    def give_up(self, why: str) -> None:
        """Account for the task at hand, if there is one, and for those that were not begun."""
        if self.at_hand:
            self.failed.append({"task_arn": self.at_hand, "why": why})
            self.at_hand = None
        done = {*self.recycled, *(entry["task_arn"] for entry in self.skipped + self.failed)}
        for task_arn in self.plan.tasks:
            if task_arn not in done:
                self.skip(task_arn, "recycling ended before its turn")

    def report(
        self, request: RecycleRequest, *, problem: str | None, after: int | None, desired_count: int
    ) -> Report:
        """Tell what was done; `after` and `desired_count` are as last seen."""
        return {
            "outcome": "failed" if problem else "succeeded",
            "problem": problem,
            "cluster_name": request.cluster_name,
            "service_name": request.service_name,
            "recycled": self.recycled,
            "skipped": self.skipped,
            "failed": self.failed,
            "capacity": {
                "before": self.plan.surveyed["in_service"],
                "during": self.lowest,
                "after": after,
            },
            "desired_count": {"before": self.plan.before, "after": desired_count},
        }


def passed(look: Look) -> bool:
    """Tell whether enough looks in a row found the service at strength."""
    return look["passed"] >= LOOKS_IN_A_ROW
