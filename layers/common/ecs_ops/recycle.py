"""The rules of replacing a service's tasks without ever weakening it.

*In service* is a task that ECS means to keep, that is RUNNING, whose health check (if it has one)
passes, and that is healthy in every target group of its service. The service is *asked* for as many
of them as its desired count said before the recycle added to it. Tasks are stopped only while the
*goal*, `asked` and the surge, is in service, and at most the surge at once; the next ones only when
as many new tasks are in service, of the deployment that the recycle began with.

The counts of DescribeServices are not trusted. `deployments == 1 and running == desired`, which
botocore's `services_stable` waits for, is still true in the moment after a StopTask, and who
believes it stops tasks like dominoes: https://github.com/aws/aws-cli/issues/5894.
"""

from __future__ import annotations

import json
import zlib
from base64 import b85decode, b85encode
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypedDict

from ecs_ops.errors import EcsOpsError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

LOOKS_IN_A_ROW: Final = 2
MOST_OPERATIONS: Final = 2_000
"""Operations after which an execution hands over to the next one. It may have 3,000, and the
replacement of one batch takes some dozens, more when tasks keep failing."""
MOST_GROWTHS: Final = 10
"""How often an execution follows somebody who asks for more tasks. Two stacks that recycle one
service, each with leases of its own, would outbid each other for ever."""
LARGEST_SURVEY: Final = 200_000
"""Characters of packed tasks, some 6,000 of them. What a step stores may take 256 KB."""
_LONGEST: Final = 86_400
_LARGEST_BATCH: Final = 100
_ALLOWED: Final = (
    "cluster_name",
    "service_name",
    "maintain_service_state",
    "wait_time",
    "dry_run",
    "batch_size",
    "min_age",
    "replacement_timeout",
    "alarm_names",
    "region_name",
    "role_arn",
    "external_id",
    "credentials_secret_arn",
    "notify",
)


class RecycleHalted(EcsOpsError):
    """Going on could weaken the service; its text says why."""


class NoReplacement(RecycleHalted):
    """The service did not come to strength in the time it was given."""


@dataclass(frozen=True, slots=True)
class RecycleRequest:
    """What a caller asks for."""

    cluster_name: str
    service_name: str
    maintain_service_state: bool = True
    """Run `batch_size` tasks more meanwhile, so that strength never falls below what it was."""
    wait_time: int = 30
    """Seconds from the replacements being in service until the next tasks are stopped."""
    dry_run: bool = False
    batch_size: int = 1
    """Tasks that are replaced at once."""
    min_age: int = 0
    """Seconds; younger tasks are left alone."""
    replacement_timeout: int = 600
    """Seconds replacements may take until they are in service."""
    alarm_names: tuple[str, ...] = ()
    """CloudWatch alarms that end the recycle while one is in ALARM."""
    region_name: str = ""
    """'' for the function's own."""
    role_arn: str = ""
    external_id: str = ""
    credentials_secret_arn: str = ""
    notify: bool = True

    @classmethod
    def parse(cls, event: object) -> Self:
        """Read the function's input; raise InvalidRequest, which names the field."""
        if not isinstance(event, dict):
            raise InvalidRequest("input", f"must be an object with {', '.join(_ALLOWED)}")
        for name in event:
            if name not in _ALLOWED:
                raise InvalidRequest(str(name), f"is not known; allowed are {', '.join(_ALLOWED)}")
        request = cls(
            cluster_name=_text(event, "cluster_name", required=True),
            service_name=_text(event, "service_name", required=True),
            maintain_service_state=_flag(event, "maintain_service_state", default=True),
            wait_time=_whole(event, "wait_time", 0, _LONGEST, default=30),
            dry_run=_flag(event, "dry_run", default=False),
            batch_size=_whole(event, "batch_size", 1, _LARGEST_BATCH, default=1),
            min_age=_whole(event, "min_age", 0, 10 * 366 * _LONGEST, default=0),
            replacement_timeout=_whole(event, "replacement_timeout", 30, _LONGEST, default=600),
            alarm_names=_texts(event, "alarm_names"),
            region_name=_text(event, "region_name"),
            role_arn=_text(event, "role_arn"),
            external_id=_text(event, "external_id"),
            credentials_secret_arn=_text(event, "credentials_secret_arn"),
            notify=_flag(event, "notify", default=True),
        )
        if request.role_arn and request.credentials_secret_arn:
            raise InvalidRequest("credentials_secret_arn", "cannot be given beside role_arn")
        if request.external_id and not request.role_arn:
            raise InvalidRequest("external_id", "needs role_arn")
        return request


@dataclass(frozen=True, slots=True)
class Service:
    """What DescribeServices says, as far as it matters here."""

    arn: str
    status: str
    desired_count: int
    deployment: str
    """Id of the PRIMARY deployment, which is the `startedBy` of its tasks."""
    deployments: int
    """1 when none is in progress."""
    scheduling_strategy: str = "REPLICA"
    deployment_controller: str = "ECS"


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
    deployment: str = ""
    """Id of the deployment that started it."""
    zone: str = ""
    """Availability Zone."""
    reachable: bool = True
    """Healthy in every target group of the service; True when it has none."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at the tasks of a service."""

    tasks: tuple[Task, ...]
    draining: int = 0
    """Targets in the service's target groups that still finish their connections."""


class Bounds(TypedDict):
    """What Application Auto Scaling may make of the desired count."""

    lowest: int
    highest: int


class Services(Protocol):
    """One service. What `ecs_ops.aws.ecs_services.EcsService` does, and the simulator.

    Every method may raise Transient, which passes, and AwsFailure, which does not.
    """

    def describe(self) -> Service:
        """Return the service; raise NotFound when the cluster or the service does not exist."""
        ...

    def look(self) -> Sighting:
        """Return the tasks that ECS means to keep, in any order."""
        ...

    def deregistration_delay(self) -> int:
        """Return the longest of its target groups, in seconds; 0 without any."""
        ...

    def protected(self, task_arns: Sequence[str]) -> frozenset[str]:
        """Return those of the tasks that are under task protection now."""
        ...

    def ringing(self, alarm_names: Sequence[str]) -> list[str]:
        """Return those alarms that are in ALARM; raise NotFound, which names one that is not."""
        ...

    def bounds(self) -> Bounds | None:
        """Return the bounds of its scalable target; None when Auto Scaling has none."""
        ...

    def change_bounds(self, expected: Bounds, wanted: Bounds) -> Bounds | None:
        """Compare and set each bound by itself; return both as they are afterwards."""
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


class Strength(TypedDict):
    """What decides how many tasks run."""

    desired_count: int
    bounds: Bounds | None


class Changes(TypedDict):
    """What a recycle changed at the service, so that whoever ends it can put it back."""

    before: Strength
    made: Strength
    made_earlier: list[Bounds]
    """Bounds it had made before it made these: a crash may have kept these from coming true."""


class Survey(TypedDict):
    """The service before anything is done to it; a step's result, so JSON."""

    service: dict[str, Any]
    """The fields of Service."""
    strength: Strength
    tasks: str
    """TaskSurvey of each, oldest first, packed."""
    arn_prefix: str
    """What the ARNs of its tasks have in common."""
    ringing: list[str]
    in_service: int
    reports_health: bool
    deregistration_delay: int
    at: float


class TaskSurvey(TypedDict):
    """One task."""

    id: str
    zone: str
    since: int
    protected: bool
    """Whether it is under task protection."""


class Look(TypedDict):
    """What a poll leaves for the next one."""

    passed: int
    """Looks in a row that found the service as it should be."""
    in_service: int
    lowest: int
    """Fewest tasks in service on any look of this wait."""
    new: str
    """Ids of the new tasks that are in service, packed: a further execution knows none of them."""
    trouble: str
    """Why waiting on makes no sense; '' as long as it does."""


class Stop(TypedDict):
    """What became of one attempt to stop tasks; a step's result."""

    verdict: Literal["stop", "weak", "grown", "halt"]
    """`weak`: too few tasks are in service now. `grown`: somebody asks for more tasks.
    `halt`: the plan does not fit the service."""
    why: str
    in_service: int
    desired_count: int
    stopped: list[str]
    """Ids."""
    left: list[TaskNote]
    """Tasks that were not stopped, and never will be."""


class TaskNote(TypedDict):
    """Why a task, by its id, was left alone."""

    id: str
    why: str


class TaskReport(TypedDict):
    """A task that was not recycled, or failed to be."""

    task_arn: str
    why: str


class Change(TypedDict):
    """The desired count, before and after."""

    before: int
    after: int | None


class Capacity(TypedDict):
    """Tasks in service: before, at the lowest moment seen, and after."""

    before: int
    during: int
    after: int | None
    """None when ECS gave no answer in the end."""


class Report(TypedDict):
    """The function's result. Every task that was there at the start is in one of four lists."""

    outcome: Literal["succeeded", "failed", "planned"]
    problem: str | None
    """Why recycling ended early."""
    cluster_name: str
    service_name: str
    planned: list[str]
    """What a dry run would recycle, in order."""
    recycled: list[str]
    skipped: list[TaskReport]
    failed: list[TaskReport]
    capacity: Capacity
    desired_count: Change
    next_execution: None
    """No other execution goes on."""


class Continued(TypedDict):
    """The result of an execution that another one goes on from; the last one names the tasks."""

    outcome: Literal["continued"]
    cluster_name: str
    service_name: str
    tasks: Counts
    next_execution: str
    """ARN."""


class Counts(TypedDict):
    """How many tasks became what until now."""

    planned: int
    """That are left."""
    recycled: int
    skipped: int
    failed: int


class Plan(TypedDict):
    """What is going to be done. JSON, so that one execution can hand it to the next."""

    arn_prefix: str
    tasks: list[str]
    """Ids, in the order in which they are recycled."""
    batch_size: int
    asked: int
    """Tasks in service that somebody asked for."""
    surge: int
    """Tasks that are asked for on top of them."""
    deployment: str
    reports_health: bool
    deregistration_delay: int
    changes: Changes


class Done(TypedDict):
    """How far a recycle has come; JSON for the same reason."""

    recycled: list[str]
    skipped: list[TaskNote]
    failed: list[TaskNote]
    in_service_before: int
    lowest: int
    """Fewest tasks that were seen in service."""


def survey(
    service: Service,
    sighting: Sighting,
    *,
    bounds: Bounds | None,
    protected: Collection[str],
    ringing: Sequence[str],
    deregistration_delay: int,
    at: float,
) -> Survey:
    """Sum up what is there at the start."""
    oldest_first = sorted(sighting.tasks, key=lambda task: (task.since, task.arn))
    return {
        "service": {name: getattr(service, name) for name in Service.__slots__},
        "strength": {"desired_count": service.desired_count, "bounds": bounds},
        "tasks": pack(
            [
                {
                    "id": task_id(task.arn),
                    "zone": task.zone,
                    "since": int(task.since),
                    "protected": task.arn in protected,
                }
                for task in oldest_first
            ]
        ),
        "arn_prefix": oldest_first[0].arn.rpartition("/")[0] + "/" if oldest_first else "",
        "ringing": list(ringing),
        "in_service": len(in_service(oldest_first)),
        "reports_health": _report_health(oldest_first),
        "deregistration_delay": deregistration_delay,
        "at": at,
    }


def check(request: RecycleRequest, surveyed: Survey) -> None:
    """Raise InvalidRequest when this service cannot be recycled, or not now."""
    service, name = Service(**surveyed["service"]), request.service_name
    refused = [
        (service.status != "ACTIVE", f"{name} is {service.status}, not ACTIVE"),
        (
            service.scheduling_strategy == "DAEMON",
            f"{name} is a DAEMON service; only REPLICA services are recycled",
        ),
        (
            service.deployment_controller != "ECS",
            f"{name} is deployed by {service.deployment_controller}, not by ECS itself",
        ),
        (service.deployments > 1, f"{name} has a deployment in progress"),
        (service.desired_count < 1, f"{name} has a desired count of 0"),
    ]
    for applies, why in refused:
        if applies:
            raise InvalidRequest("service_name", why)
    if surveyed["ringing"]:
        raise InvalidRequest("alarm_names", f"in ALARM already: {', '.join(surveyed['ringing'])}")


def plan(
    request: RecycleRequest, surveyed: Survey, left_over: Changes | None = None
) -> tuple[Plan, Done]:
    """Say what will be done.

    Args:
        request: what was asked for.
        surveyed: what is there.
        left_over: what an earlier recycle of the service changed and never put back: what is
            still as it made it is not what the service was asked to be.
    """
    before = _before(surveyed["strength"], left_over)
    skipped: list[TaskNote] = []
    kept: list[TaskSurvey] = []
    tasks: list[TaskSurvey] = unpack(surveyed["tasks"])
    for task in tasks:
        if task["protected"]:
            skipped.append({"id": task["id"], "why": "it is under task protection"})
        elif surveyed["at"] - task["since"] < request.min_age:
            skipped.append({"id": task["id"], "why": f"it is younger than {request.min_age} s"})
        else:
            kept.append(task)
    surge = min(request.batch_size, len(kept)) if request.maintain_service_state else 0
    made = strengthened(before, before["desired_count"], surge)
    return {
        "arn_prefix": surveyed["arn_prefix"],
        "tasks": [task["id"] for task in spread(kept)],
        "batch_size": request.batch_size,
        "asked": before["desired_count"],
        "surge": surge,
        "deployment": Service(**surveyed["service"]).deployment,
        "reports_health": surveyed["reports_health"],
        "deregistration_delay": surveyed["deregistration_delay"],
        "changes": {"before": before, "made": made, "made_earlier": []},
    }, {
        "recycled": [],
        "skipped": skipped,
        "failed": [],
        "in_service_before": surveyed["in_service"],
        "lowest": surveyed["in_service"],
    }


def pack(rows: object) -> str:
    """Return JSON as a text that takes little space in what a step stores."""
    return b85encode(zlib.compress(json.dumps(rows, separators=(",", ":")).encode())).decode()


def unpack(packed: str) -> Any:
    """Return what was packed."""
    return json.loads(zlib.decompress(b85decode(packed)))


def spread(tasks: Iterable[TaskSurvey]) -> list[TaskSurvey]:
    """Order tasks: oldest first, but no zone twice while another one has had fewer turns."""
    zones: defaultdict[str, list[TaskSurvey]] = defaultdict(list)
    for task in sorted(tasks, key=lambda task: (task["since"], task["id"])):
        zones[task["zone"]].append(task)
    turns = [
        (turn, task["since"], task["id"], task)
        for queue in zones.values()
        for turn, task in enumerate(queue)
    ]
    return [task for *_, task in sorted(turns, key=lambda turn: turn[:3])]


def strengthened(before: Strength, asked: int, surge: int) -> Strength:
    """Return the strength with which `asked` tasks and the surge run, changed as little as can be.

    The maximum is raised where it is in the way; the minimum, so that Auto Scaling does not take
    the surge away again.
    """
    goal, bounds = asked + surge, before["bounds"]
    if bounds and surge:
        bounds = {
            "lowest": max(bounds["lowest"], goal),
            "highest": max(bounds["highest"], goal),
        }
    return {"desired_count": goal, "bounds": bounds}


def _before(now: Strength, left_over: Changes | None) -> Strength:
    """Return the strength somebody asked for, where an earlier recycle is still to be undone."""
    if left_over is None:
        return now
    made, before = left_over["made"], left_over["before"]
    bounds = now["bounds"]
    if bounds and made["bounds"] and before["bounds"]:
        bounds = {
            "lowest": before["bounds"]["lowest"]
            if bounds["lowest"] == made["bounds"]["lowest"]
            else bounds["lowest"],
            "highest": before["bounds"]["highest"]
            if bounds["highest"] == made["bounds"]["highest"]
            else bounds["highest"],
        }
    ours = now["desired_count"] == made["desired_count"]
    return {
        "desired_count": before["desired_count"] if ours else now["desired_count"],
        "bounds": bounds,
    }


def in_service(
    tasks: Iterable[Task], *, reports_health: bool = False, stopped: Collection[str] = ()
) -> list[Task]:
    """Return the tasks that do their work.

    Args:
        tasks: of the service.
        reports_health: whether a task of this service is known to have reported its health.
            UNKNOWN then means "not healthy yet"; otherwise that there is no health check.
        stopped: ids that do not count, whatever a lagging answer says about them.
    """
    tasks = list(tasks)
    healthy = {"HEALTHY"} if reports_health or _report_health(tasks) else {"UNKNOWN"}
    return [
        task
        for task in tasks
        if task.status == "RUNNING"
        and task.health in healthy
        and task.reachable
        and task_id(task.arn) not in stopped
    ]


def _report_health(tasks: Iterable[Task]) -> bool:
    return any(task.health in {"HEALTHY", "UNHEALTHY"} for task in tasks)


def task_id(task_arn: str) -> str:
    """Return the last part of a task's ARN."""
    return task_arn.rpartition("/")[2]


@dataclass(slots=True)
class Progress:
    """How far a recycle has come. It is made anew at every replay, from stored results only."""

    plan: Plan
    done: Done
    stopped: set[str] = field(default_factory=set)
    """Ids of the tasks that were stopped: they do not count, whatever ECS still says."""
    known: set[str] = field(default_factory=set)
    """Ids of tasks that replace nothing: they were there before, or replaced one already."""
    at_hand: list[str] = field(default_factory=list)
    """Ids of the tasks that are being replaced."""
    growths: int = 0
    """How often somebody has asked for more tasks."""
    queue: list[str] = field(init=False)
    """Ids of the tasks whose turn has not come, in order."""

    def __post_init__(self) -> None:
        """What was planned was there before."""
        self.known.update(self.plan["tasks"], self.done["recycled"])
        self.known.update(note["id"] for note in self._notes())
        self.stopped.update(self.done["recycled"])
        over = {*self.done["recycled"], *(note["id"] for note in self._notes())}
        self.queue = [task for task in self.plan["tasks"] if task not in over]

    @property
    def goal(self) -> int:
        """Tasks in service without which none is stopped."""
        return self.plan["asked"] + self.plan["surge"]

    @property
    def owed(self) -> int:
        """Tasks that were stopped and are not replaced yet."""
        return len(self.stopped.intersection(self.at_hand))

    def in_service(self, tasks: Iterable[Task]) -> list[Task]:
        """Return those of the tasks that do their work and are not stopped by us."""
        return in_service(tasks, reports_health=self.plan["reports_health"], stopped=self.stopped)

    def look(
        self,
        sighting: Sighting,
        alarm: str,
        last: Look | None,
        *,
        since: float,
        now: float,
    ) -> Look:
        """Judge one look: is the service at its goal, with a new task for each that was stopped?

        A look that finds it is not begins the count of looks again.

        Args:
            sighting: what there is.
            alarm: what is wrong with the alarms; '' when nothing is.
            last: what the look before this one left.
            since: epoch seconds of the stop, or of the raise.
            now: epoch seconds.
        """
        working = self.in_service(sighting.tasks)
        count = len(working)
        new = [
            task_id(task.arn)
            for task in working
            if task_id(task.arn) not in self.known and task.deployment == self.plan["deployment"]
        ]
        drained = not sighting.draining or now >= since + self.plan["deregistration_delay"]
        good = count >= self.goal and len(new) >= self.owed and drained
        before = last or {"passed": 0, "lowest": count}
        return {
            "passed": before["passed"] + 1 if good else 0,
            "in_service": count,
            "lowest": min(count, before["lowest"]),
            "new": pack(new),
            "trouble": self._trouble(sighting, alarm),
        }

    def _trouble(self, sighting: Sighting, alarm: str) -> str:
        if alarm:
            return alarm
        if any(
            task.deployment != self.plan["deployment"] and task_id(task.arn) not in self.known
            for task in sighting.tasks
        ):
            return "a deployment has begun"
        return ""

    def may_stop(
        self,
        service: Service,
        sighting: Sighting,
        *,
        protected: Collection[str],
        alarm: str,
        already: Collection[str] = (),
    ) -> Stop:
        """Judge whether the tasks at hand may be stopped now, and which of them.

        Those that are stopped already, ids, count as stopped whatever the verdict is. It answers
        and raises nothing, because an exception's type does not survive a step.
        """
        count = len(self.in_service(sighting.tasks))
        stop: Stop = {
            "verdict": "stop",
            "why": "",
            "in_service": count,
            "desired_count": service.desired_count,
            "stopped": list(already),
            "left": [],
        }
        if why := self._obstacle(service) or self._trouble(sighting, alarm):
            return {**stop, "verdict": "halt", "why": why}
        if service.desired_count > self.goal:
            return {**stop, "verdict": "grown"}
        if count < self.goal:
            why = f"tasks keep failing: {count} of {self.goal} are in service"
            return {**stop, "verdict": "weak", "why": why}
        present = {task_id(task.arn) for task in sighting.tasks}
        safe = set(map(task_id, protected))
        for task in self.at_hand:
            if task in already:
                continue
            if task not in present:
                stop["left"].append({"id": task, "why": "it was gone already"})
            elif task in safe:
                stop["left"].append({"id": task, "why": "it is under task protection"})
            else:
                stop["stopped"].append(task)
        return stop

    def _obstacle(self, service: Service) -> str:
        if service.status != "ACTIVE":
            return f"the service is {service.status}, not ACTIVE any more"
        if service.deployments > 1 or service.deployment != self.plan["deployment"]:
            return "a deployment has begun"
        if service.desired_count < self.goal:
            return f"the desired count was lowered from {self.goal} to {service.desired_count}"
        return ""

    def begin(self) -> list[str]:
        """Take the next tasks in hand and return them."""
        size = self.plan["batch_size"]
        self.at_hand, self.queue = self.queue[:size], self.queue[size:]
        return self.at_hand

    def follow(self, theirs: Strength, ours: Bounds | None = None) -> None:
        """Take over what somebody asks for: that is what to keep, and to leave.

        Args:
            theirs: what it is.
            ours: the bounds as they were made for this recycle; None when they were not.
        """
        self.growths += 1
        if self.growths > MOST_GROWTHS:
            raise RecycleHalted(f"somebody asked for more tasks {self.growths} times")
        made_earlier = self.plan["changes"]["made_earlier"]
        if ours and ours not in made_earlier:
            made_earlier = [*made_earlier, ours]
        self.plan["asked"] = theirs["desired_count"]
        self.plan["changes"] = {
            "before": theirs,
            "made": strengthened(theirs, self.plan["asked"], self.plan["surge"]),
            "made_earlier": made_earlier,
        }

    def saw(self, look: Look | None) -> None:
        """Remember how low it went, and which tasks there were by then.

        Only those that nobody had seen before a stop can replace what it stopped. When they started
        says less: a step that was cut off may have stopped a task long before it says so.
        """
        if look:
            self.done["lowest"] = min(self.done["lowest"], look["lowest"])
            # As many as replace what is stopped at hand stay new until that is accounted for: the
            # wait for them may be yet to come, when a stop was cut off and is tried again.
            self.known.update(unpack(look["new"])[self.owed :])

    def tried(self, stop: Stop) -> None:
        """Remember an attempt to stop the tasks at hand."""
        self.done["lowest"] = min(self.done["lowest"], stop["in_service"])
        self.stopped.update(stop["stopped"])
        self.done["skipped"] += stop["left"]
        left = {note["id"] for note in stop["left"]}
        self.at_hand = [task for task in self.at_hand if task not in left]

    def replaced(self, look: Look) -> None:
        """Account for the tasks at hand, whose replacements are in service."""
        self.known.update(unpack(look["new"]))
        self.done["recycled"] += self.at_hand
        self.at_hand = []

    def lost(self, why: str) -> None:
        """Account for the tasks at hand, which may have been stopped or not."""
        self.done["failed"] += [{"id": task, "why": why} for task in self.at_hand]
        self.at_hand = []

    def give_up(self, why: str) -> None:
        """Account for the tasks at hand and for those that were not begun."""
        untouched = "recycling ended before its turn"
        for task in self.at_hand:
            kind: Literal["failed", "skipped"] = "failed" if task in self.stopped else "skipped"
            self.done[kind].append({"id": task, "why": why if kind == "failed" else untouched})
        self.done["skipped"] += [{"id": task, "why": untouched} for task in self.queue]
        self.at_hand, self.queue = [], []

    def report(
        self,
        request: RecycleRequest,
        outcome: Literal["succeeded", "failed", "planned"],
        *,
        problem: str | None = None,
        after: int | None = None,
        desired_count: int | None = None,
    ) -> Report:
        """Tell what was done; `after` and `desired_count` are as last seen."""
        return {
            "outcome": outcome,
            "problem": problem,
            "cluster_name": request.cluster_name,
            "service_name": request.service_name,
            "planned": [self._arn(task) for task in self.queue],
            "recycled": [self._arn(task) for task in self.done["recycled"]],
            "skipped": [self._note(note) for note in self.done["skipped"]],
            "failed": [self._note(note) for note in self.done["failed"]],
            "capacity": {
                "before": self.done["in_service_before"],
                "during": self.done["lowest"],
                "after": after,
            },
            "desired_count": {
                "before": self.plan["changes"]["before"]["desired_count"],
                "after": desired_count,
            },
            "next_execution": None,
        }

    def continued(self, request: RecycleRequest, next_execution: str) -> Continued:
        """Tell how far it has come; with thousands of tasks each name would be told many times."""
        return {
            "outcome": "continued",
            "cluster_name": request.cluster_name,
            "service_name": request.service_name,
            "tasks": {
                "planned": len(self.queue),
                "recycled": len(self.done["recycled"]),
                "skipped": len(self.done["skipped"]),
                "failed": len(self.done["failed"]),
            },
            "next_execution": next_execution,
        }

    def _notes(self) -> list[TaskNote]:
        return [*self.done["skipped"], *self.done["failed"]]

    def _arn(self, task: str) -> str:
        return f"{self.plan['arn_prefix']}{task}"

    def _note(self, note: TaskNote) -> TaskReport:
        return {"task_arn": self._arn(note["id"]), "why": note["why"]}


def is_over(look: Look, looks: int = LOOKS_IN_A_ROW) -> bool:
    """Tell whether there is nothing to wait for: the service is at its goal, or in trouble."""
    return look["passed"] >= looks or bool(look["trouble"])


def _text(event: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    text = event.get(name)
    if text is None and not required:
        return ""
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(name, "is required, a text" if required else "must be a text")
    return text


def _texts(event: Mapping[str, Any], name: str) -> tuple[str, ...]:
    texts = event.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest(name, "must be a list of texts")
    return tuple(texts)


def _flag(event: Mapping[str, Any], name: str, *, default: bool) -> bool:
    flag = event.get(name, default)
    if not isinstance(flag, bool):
        raise InvalidRequest(name, "must be true or false")
    return flag


def _whole(event: Mapping[str, Any], name: str, least: int, most: int, *, default: int) -> int:
    number = event.get(name, default)
    # To isinstance, True is an int.
    if type(number) is not int or not least <= number <= most:
        raise InvalidRequest(name, f"must be a whole number from {least} to {most}")
    return number
