"""An ECS service on a virtual clock: its scheduler, targets, alarms and Auto Scaling.

It does what the recycler needs of AWS (`ecs_ops.recycle.Services`) and what other people do to a
service meanwhile, and it writes down the truth, which no caller of AWS ever sees whole: how many
tasks really worked at each moment, beside how many somebody had asked for.

Nothing happens between two events, so time jumps: a day of a service of 1,000 tasks is a second.

What is modelled, and from where:

* A task is PENDING, then RUNNING, then HEALTHY, then healthy in each target group. One that
  StopTask stopped serves no more at once, but is still listed as it was for `lag` seconds: the lie
  that waiters believe (https://github.com/aws/aws-cli/issues/5894). Its targets drain.
* The scheduler acts `reaction` seconds after a change. Too few tasks: it starts some. Too many: it
  stops those that do not work first, then any (or any at once: AWS's pages leave that open); never
  protected ones. In a deployment it keeps between `minimum` and `maximum` percent, and starts no
  task of the old one.
* A task that never becomes healthy is stopped by the scheduler after `patience`, and replaced.
* Application Auto Scaling moves the desired count into its bounds a few seconds after either has
  changed, and leaves it alone inside them.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from ecs_ops.aws.scalable_target import changed
from ecs_ops.errors import AwsFailure, NotFound
from ecs_ops.recycle import Bounds, Service, Sighting, Strength, Task, task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EPOCH: Final = 1_700_000_000.0
"""What the clock shows when a simulation begins."""
_SCALING_LAG: Final = 5
_ARNS: Final = "arn:aws:ecs:us-west-2:111122223333"


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """A target group of the service."""

    seconds: float = 10
    """From RUNNING until the target is healthy."""
    deregistration_delay: int = 60


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of the tasks that are started from now on."""

    starts: bool = True
    becomes_healthy: bool = True
    dies_after: float | None = None
    """Seconds from its start."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer of AWS that is an error."""

    error: BaseException
    after: bool = False
    """The call took effect all the same, and only its answer was lost."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """One StopTask, and how the service truly was after it."""

    at: float
    """Seconds since the beginning."""
    task: str
    """Its id."""
    was_live: bool
    """False when it had ended before."""
    in_service: int
    asked: int


@dataclass(frozen=True, slots=True)
class Moment:
    """How the service was from this moment on."""

    at: float
    in_service: int
    asked: int
    desired_count: int


@dataclass(slots=True, eq=False)
class _Task:
    """The truth about a task that ECS means to keep."""

    arn: str
    deployment: str
    fate: Fate
    view: Task
    """What DescribeTasks and DescribeTargetHealth say of it."""
    targets: int = 0
    """Target groups in which it is healthy."""
    works: bool = False


@dataclass
class EcsSimulator:
    """One service with its scheduler; set the fields, then let `pass_time`, or `at` for trouble."""

    desired_count: int = 3
    scaling: Bounds | None = None
    """Bounds of Application Auto Scaling, if it has any."""
    start: tuple[float, float] = (3, 3)
    """Shortest and longest time from PENDING to RUNNING, in seconds."""
    health: float | None = None
    """Seconds from RUNNING to HEALTHY; None for tasks without a health check."""
    target_groups: tuple[TargetGroup, ...] = ()
    lag: float = 0
    """Seconds for which a task that StopTask stopped is still listed as running."""
    skew: float = 0
    """Seconds by which the clock of ECS is behind."""
    zones: tuple[str, ...] = ("us-west-2a", "us-west-2b", "us-west-2c")
    reaction: float = 1
    patience: float = 120
    launches_per_second: float = 20
    latency: float = 0
    """Seconds every call takes."""
    seed: int = 0
    exists: bool = True
    status: str = "ACTIVE"
    scheduling_strategy: str = "REPLICA"
    deployment_controller: str = "ECS"
    spares_working: bool = True
    """Whether the scheduler, with too many tasks, stops those first that do not work."""
    old_age: float = 86_400
    """How old the oldest task is at the beginning; the others follow a minute after each other."""

    now: float = field(default=0, init=False)
    fate: Fate = field(default_factory=Fate, init=False)
    minimum: int = field(default=100, init=False)
    maximum: int = field(default=200, init=False)
    deployment: str = field(default="ecs-svc/1", init=False)
    """Id of the PRIMARY one."""
    deployments: int = field(default=1, init=False)
    alarms: dict[str, bool] = field(default_factory=dict, init=False)
    """By name: whether it is in ALARM."""
    protection: set[str] = field(default_factory=set, init=False)
    """ARNs."""
    fault: Callable[[str, int], Fault | None] | None = field(default=None, init=False)
    """Gets the operation and the number of the call; 1 is the first call of all."""

    asked: int = field(init=False)
    """Tasks that somebody other than the recycler asked for last."""
    calls: Counter[str] = field(default_factory=Counter, init=False)
    stops: list[Stopped] = field(default_factory=list, init=False)
    history: list[Moment] = field(default_factory=list, init=False)
    old: list[str] = field(default_factory=list, init=False)
    """ARNs of the tasks that were there at the beginning, oldest first."""

    def __post_init__(self) -> None:
        self.asked, self._asked_bounds = self.desired_count, self.scaling
        # Which number comes out does not matter, only that it does again.
        self._random = random.Random(self.seed)
        self._made = (self.desired_count, self.asked)
        self._announced: Bounds | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = count(1)
        self._kept: dict[str, _Task] = {}
        self._listed: dict[str, Task] = {}
        self._stopped_by_call: set[str] = set()
        self._working = 0
        self._draining = 0
        self._woken = False
        self._launched = -math.inf
        for number in range(self.desired_count):
            task = self._create(started=min(60.0 * number - self.old_age, -1))
            self._set(task, targets=len(self.target_groups))
            if self.health is not None:
                self._set(task, health="HEALTHY")
            self.old.append(task.arn)
        self._write()

    # Time.

    def clock(self) -> float:
        """Return the time in epoch seconds."""
        return EPOCH + self.now

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something happen so many seconds after the beginning; not before now."""
        event = (max(seconds, self.now), next(self._order), lambda: (action(), None)[1])
        heapq.heappush(self._events, event)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something happen so many seconds from now."""
        self.at(self.now + seconds, action)

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, with all that happens in them."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end

    # The truth.

    @property
    def in_service(self) -> int:
        """How many tasks really work: kept, RUNNING, healthy, and healthy in each target group."""
        return self._working

    @property
    def kept(self) -> list[str]:
        """ARNs of the tasks that ECS means to keep, in the order of their creation."""
        return list(self._kept)

    def lowest(self, since: float = 0) -> int:
        """Return the fewest tasks that were in service from then on."""
        at_first = [moment.in_service for moment in self.history if moment.at <= since][-1:]
        return min(at_first + [moment.in_service for moment in self.history if moment.at > since])

    @property
    def asked_bounds(self) -> Bounds | None:
        """The bounds that people asked for: AWS takes no minimum above the maximum."""
        asked = self._asked_bounds
        return asked and Bounds(
            lowest=asked["lowest"], highest=max(asked["lowest"], asked["highest"])
        )

    # What the recycler asks of AWS: ecs_ops.recycle.Services.

    def describe(self) -> Service:
        """See Services."""
        with self.call("DescribeServices"):
            if not self.exists:
                raise NotFound("service web of cluster shop does not exist")
            return Service(
                arn=f"{_ARNS}:service/shop/web",
                status=self.status,
                desired_count=self.desired_count,
                deployment=self.deployment,
                deployments=self.deployments,
                scheduling_strategy=self.scheduling_strategy,
                deployment_controller=self.deployment_controller,
            )

    def look(self) -> Sighting:
        """See Services: one hundred tasks for each ListTasks and each DescribeTasks."""
        for _ in range(max(1, math.ceil(len(self._listed) / 100))):
            with self.call("ListTasks"):
                pass
            with self.call("DescribeTasks"):
                pass
        for _ in self.target_groups:
            with self.call("DescribeTargetHealth"):
                pass
        return Sighting(tuple(self._listed.values()), draining=self._draining)

    def deregistration_delay(self) -> int:
        """See Services."""
        for _ in self.target_groups:
            with self.call("DescribeTargetGroupAttributes"):
                pass
        return max((group.deregistration_delay for group in self.target_groups), default=0)

    def protected(self, task_arns: Sequence[str]) -> frozenset[str]:
        """See Services."""
        for _ in range(math.ceil(len(task_arns) / 100)):
            with self.call("GetTaskProtection"):
                pass
        return frozenset(self.protection.intersection(task_arns))

    def ringing(self, alarm_names: Sequence[str]) -> list[str]:
        """See Services."""
        if not alarm_names:
            return []
        with self.call("DescribeAlarms"):
            for name in alarm_names:
                if name not in self.alarms:
                    raise NotFound(f"alarm {name} does not exist")
            return [name for name in alarm_names if self.alarms[name]]

    def bounds(self) -> Bounds | None:
        """See Services."""
        with self.call("DescribeScalableTargets"):
            return self.scaling

    def change_bounds(self, expected: Bounds, wanted: Bounds) -> Bounds | None:
        """See Services."""
        present = self.bounds()
        if present is None:
            return None
        after = changed(present, expected, wanted)
        if after != present:
            self.register_scalable_target(after)
        return after

    def change_desired_count(self, expected: int, wanted: int) -> int:
        """See Services."""
        found = self.describe().desired_count
        if found != expected or wanted == expected:
            return found
        self.update_service(wanted)
        return wanted

    def stop(self, task_arn: str) -> None:
        """See Services."""
        with self.call("StopTask"):
            if task_arn not in self._kept and task_arn not in self._stopped_by_call:
                self._record_stop(task_arn, was_live=False)
                raise NotFound(f"task {task_arn} does not exist")
            was_live = task_arn in self._kept
            if was_live:
                self._end(task_arn, listed_for=self.lag)
                self._stopped_by_call.add(task_arn)
            self._record_stop(task_arn, was_live=was_live)

    def was_recycled(self, task_arn: str) -> bool:
        """See Services."""
        with self.call("DescribeTasks"):
            return task_arn in self._stopped_by_call

    def announce(self, made: Strength | None) -> None:
        """Note what the recycler is about to make of the service; None when that is undone.

        From now on nobody can tell it from a wish for just the same.
        """
        self._announced = made and made["bounds"]
        self._made = (made["desired_count"] if made else self.desired_count, self.asked)

    # The same service for a rival, as AWS names it.

    def update_service(self, desired_count: int) -> None:
        """Set the desired count, as the recycler or a rival does: nobody asks for these tasks."""
        with self.call("UpdateService"):
            self._made = (desired_count, self.asked)
            self._resize(desired_count)

    def register_scalable_target(self, bounds: Bounds) -> None:
        """Set both bounds, as the recycler or a rival does."""
        with self.call("RegisterScalableTarget"):
            if bounds["lowest"] > bounds["highest"]:
                raise AwsFailure("RegisterScalableTarget", "ValidationException", str(bounds))
            self.scaling = bounds
            self.after(_SCALING_LAG, self._stay_in_bounds)

    def force_new_deployment(self, minimum: int = 100, maximum: int = 200) -> None:
        """Replace all tasks as ECS does it: a rolling deployment, with its percentages."""
        with self.call("UpdateService"):
            self.minimum, self.maximum = minimum, maximum
            self.deploy()

    def counts(self) -> tuple[int, int, int]:
        """Return deployments, running and desired count: what `services_stable` looks at."""
        with self.call("DescribeServices"):
            running = sum(task.status == "RUNNING" for task in self._listed.values())
            return self.deployments, running, self.desired_count

    # What happens to a service; for `at`.

    def deploy(self) -> None:
        """Begin a rolling deployment."""
        self.deployment = f"ecs-svc/{int(task_id(self.deployment)) + 1}"
        self.deployments = 2
        self._wake()

    def lose(self, nth: int) -> None:
        """Have the nth task there is end by itself."""
        if self._kept:
            self._end(self.kept[nth % len(self._kept)])

    def sicken(self, nth: int, seconds: float) -> None:
        """Have the nth task there is fail its health check, or lose its targets, for a while."""
        arns = [arn for arn, task in self._kept.items() if task.works]
        if not arns or not (self.target_groups or self.health is not None):
            return
        task = self._kept[arns[nth % len(arns)]]
        if self.health is not None:
            self._set(task, health="UNHEALTHY")
            self.after(seconds, lambda: self._set(task, health="HEALTHY"))
        else:
            self._set(task, targets=len(self.target_groups) - 1)
            self.after(seconds, lambda: self._set(task, targets=len(self.target_groups)))

    def ask(self, desired_count: int) -> None:
        """Have a person set the desired count."""
        if desired_count != self.desired_count:
            self._wish(desired_count, found=desired_count)
            self._resize(desired_count)

    def ask_bounds(self, *, lowest: int | None = None, highest: int | None = None) -> None:
        """Have a person set one bound or both."""
        if self.scaling is None or self._asked_bounds is None:
            return
        now, asked = self.scaling, self._asked_bounds
        lowest = now["lowest"] if lowest is None else lowest
        highest = now["highest"] if highest is None else highest
        if lowest > highest:
            # AWS refuses that.
            return
        self.scaling = {"lowest": lowest, "highest": highest}
        made = self._announced or now
        self._asked_bounds = {
            "lowest": asked["lowest"] if lowest in {now["lowest"], made["lowest"]} else lowest,
            "highest": asked["highest"]
            if highest in {now["highest"], made["highest"]}
            else highest,
        }
        self.after(_SCALING_LAG, self._stay_in_bounds)

    def scale(self, by: int) -> None:
        """Have Auto Scaling ask for more or fewer tasks: inside its bounds, as it finds them."""
        if self.scaling is not None:
            self.ask(_inside(self.scaling, self.desired_count + by))

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        """Count a call of AWS, which may take time, and fail before or after its effect."""
        self.pass_time(self.latency)
        self.calls[operation] += 1
        fault = self.fault(operation, self.calls.total()) if self.fault else None
        if fault and not fault.after:
            raise fault.error.with_traceback(None)
        yield
        if fault:
            raise fault.error.with_traceback(None)

    # How it works.

    def _resize(self, desired_count: int) -> None:
        self.desired_count = desired_count
        self._wake()
        self._write()
        self.after(_SCALING_LAG, self._stay_in_bounds)

    def _wish(self, asked: int, *, found: int) -> None:
        """Note that somebody asked for so many tasks, and that so many is the desired count now.

        Where that is what the recycler had made of it, the wish leaves no trace, and is void: no
        caller of AWS can tell one 4 from another.
        """
        made, before = self._made
        self.asked = before if found == made else asked

    def _stay_in_bounds(self) -> None:
        if self.scaling is None or self.asked_bounds is None:
            return
        inside = _inside(self.scaling, self.desired_count)
        if inside == self.desired_count:
            return
        # With nobody's bounds but people's, this is what would have become of their wish.
        asked = _inside(self.asked_bounds, self.asked)
        if asked == self.asked and inside != self._made[0]:
            self._made = (inside, asked)
        self._wish(asked, found=inside)
        self._resize(inside)

    def _wake(self) -> None:
        """Have the scheduler look at the service soon."""
        if not self._woken:
            self._woken = True
            self.after(self.reaction, self._schedule)

    def _schedule(self) -> None:
        self._woken = False
        if self.status != "ACTIVE":
            return
        new = [task for task in self._kept.values() if task.deployment == self.deployment]
        old = [task for task in self._kept.values() if task.deployment != self.deployment]
        most = max(self.desired_count * self.maximum // 100, 1)
        for _ in range(min(self.desired_count - len(new), most - len(new) - len(old))):
            self._launch()
        victims = self._victims(new, idle_first=self.spares_working)
        for task in victims[: max(len(new) - self.desired_count, 0)]:
            self._end(task.arn)
        least = math.ceil(self.desired_count * self.minimum / 100)
        for task in self._victims(old):
            if task.works and self._working <= least:
                break
            self._end(task.arn)
        if not old and sum(task.works for task in new) == self.desired_count:
            self.deployments = 1

    def _victims(self, tasks: list[_Task], *, idle_first: bool = True) -> list[_Task]:
        """Order tasks as the scheduler stops them: idle ones first, or as it pleases."""
        free = [task for task in tasks if task.arn not in self.protection]
        return sorted(free, key=lambda task: (idle_first and task.works, self._random.random()))

    def _launch(self) -> None:
        task = self._create()
        if not task.fate.starts:
            return
        # Fargate launches only so many tasks a second.
        self._launched = max(self.now, self._launched + 1 / self.launches_per_second)
        starts = self._launched + self._random.uniform(*self.start)
        self.at(starts, lambda: self._run(task))

    def _create(self, started: float | None = None) -> _Task:
        number = next(self._numbers)
        arn = f"{_ARNS}:task/shop/{number:032x}"
        view = Task(
            arn=arn,
            status="PENDING" if started is None else "RUNNING",
            health="UNKNOWN",
            since=self._reported(self.now if started is None else started),
            deployment=self.deployment,
            zone=self.zones[number % len(self.zones)],
            reachable=not self.target_groups,
        )
        task = self._kept[arn] = _Task(arn, self.deployment, self.fate, view)
        self._set(task)
        return task

    def _reported(self, moment: float) -> float:
        return EPOCH + moment - self.skew

    def _run(self, task: _Task) -> None:
        if task.arn not in self._kept:
            return
        self._set(task, status="RUNNING", since=self._reported(self.now))
        if task.fate.dies_after is not None:
            self.after(task.fate.dies_after, lambda: self._end(task.arn))
        if task.fate.becomes_healthy:
            if self.health is not None:
                self.after(self.health, lambda: self._set(task, health="HEALTHY"))
            for group in self.target_groups:
                self.after(group.seconds, lambda: self._set(task, targets=task.targets + 1))
        elif self.health is not None or self.target_groups:
            self.after(self.patience, lambda: self._end(task.arn))

    def _set(
        self,
        task: _Task,
        *,
        status: str = "",
        health: str = "",
        since: float | None = None,
        targets: int | None = None,
    ) -> None:
        """Change what is to be seen of a task; one that has ended changes no more."""
        if task.arn not in self._kept:
            return
        task.targets = task.targets if targets is None else targets
        task.view = self._listed[task.arn] = replace(
            task.view,
            status=status or task.view.status,
            health=health or task.view.health,
            since=task.view.since if since is None else since,
            reachable=task.targets == len(self.target_groups),
        )
        healthy = "UNKNOWN" if self.health is None else "HEALTHY"
        works = (
            task.view.status == "RUNNING" and task.view.health == healthy and task.view.reachable
        )
        if works != task.works:
            self._working += works - task.works
            task.works = works
            self._write()
            # In a deployment, a task that begins to work lets an old one go.
            self._wake()

    def _end(self, task_arn: str, *, listed_for: float = 0) -> None:
        """Have a task serve no more, be listed for a while, and its targets drain."""
        task = self._kept.pop(task_arn, None)
        if task is None:
            return
        self._working -= task.works
        self._write()
        self._wake()
        if listed_for:
            self.after(listed_for, lambda: self._listed.pop(task_arn, None))
        else:
            self._listed.pop(task_arn, None)
        if task.view.status == "RUNNING":
            for group in self.target_groups:
                self._draining += 1
                self.after(group.deregistration_delay, self._drained)

    def _drained(self) -> None:
        self._draining -= 1

    def _record_stop(self, task_arn: str, *, was_live: bool) -> None:
        self.stops.append(Stopped(self.now, task_id(task_arn), was_live, self._working, self.asked))

    def _write(self) -> None:
        self.history.append(Moment(self.now, self._working, self.asked, self.desired_count))


def _inside(bounds: Bounds, count: int) -> int:
    return min(max(count, bounds["lowest"]), bounds["highest"])
