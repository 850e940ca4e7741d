"""A recycle from survey to report, over as many invocations and executions as it takes.

For each batch: one step (stop it), one wait for its replacements, one pause. A handler is replayed
from the top at every resumption, so all that is not a rule happens inside these operations.

Before anything is changed it is written down, in the lease that keeps a second recycle of the
service away: see `recycle_lease`. So whoever ends the recycle can put the service back.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.exceptions import StepError, UnrecoverableError

from ecs_ops.aws.durable import attempt, explain, run_step, wait_until
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.aws.recycle_lease import Holder
from ecs_ops.errors import AwsFailure, Conflict, InvalidRequest, NotFound, Transient
from ecs_ops.recycle import (
    LARGEST_SURVEY,
    LOOKS_IN_A_ROW,
    MOST_OPERATIONS,
    Done,
    NoReplacement,
    Plan,
    Progress,
    RecycleHalted,
    check,
    is_over,
    plan,
    survey,
    task_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.metrics import Put
    from ecs_ops.aws.recycle_lease import Lease, Leases
    from ecs_ops.recycle import (
        Bounds,
        Changes,
        Continued,
        Look,
        RecycleRequest,
        Report,
        Services,
        Stop,
        Strength,
        Survey,
    )

PASSING: Final = (Transient, AwsFailure)
"""What AWS refuses now may be allowed soon."""
MENDABLE: Final = (*PASSING, InvalidRequest)
"""Putting a service back is tried again after these: a secret that holds no keys gets some."""
_UNANSWERED: Final = (*MENDABLE, NotFound)
"""No reason to leave a service half-way: a wait for its tasks has an end of its own."""
CONTINUATION: Final = "continuation"
"""Member of the input by which one execution hands over to the next. Not for people."""
_LONGEST_DELAY: Final = 5
"""Seconds between two looks in the first minute of a wait."""
_FIRST_DELAY: Final = 10
"""Seconds in which hardly any task comes into service; while nobody knows how long it takes."""
_NOT_YET: Final = 0.9
"""Part of the quickest replacement so far before which looking for another one is in vain."""
_ATTEMPTS: Final = 5
"""Attempts to stop one batch, when other tasks fail at the same time."""
_SETTLING_TIME: Final = 120
"""Seconds ECS is given to take the additional tasks away, so that the report shows the end."""
_PATIENCE: Final = 3600
"""Seconds for which putting the service back is tried."""
_LONGEST_DRAIN: Final = 3600
"""Seconds: the longest deregistration delay that a target group can have."""
_MARGIN: Final = 900
"""Seconds a lease outlives the longest pause between two of its renewals."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a recycle works with besides its durable context."""

    service: Services
    leases: Leases
    go_on: Callable[[str, Mapping[str, Any]], str]
    """Start a further execution, by name and input; return its ARN. Twice is once."""
    tell: Callable[[Report, str], None]
    """Send the report, with the execution's ARN, to people. Raises nothing."""
    clock: Callable[[], float] = time.time
    """Epoch seconds; read inside operations only."""
    put: Put = unmeasured
    """Writes metrics; inside operations only."""
    most_operations: int = MOST_OPERATIONS


class Continuation(TypedDict):
    """What one execution hands to the next."""

    run: str
    number: int
    service_arn: str
    plan: Plan
    done: Done


type _Seen = Look | Literal[False]
"""What a poll for strength leaves; False when it came too early for a look."""


class _Surveyed(TypedDict):
    found: Survey | None
    field: str
    problem: str
    """Why there is none; an error's type would not survive a step."""


class _Leased(TypedDict):
    held_by: str
    """Execution that recycles this service already; '' when the lease is ours."""
    left_over: Changes | None


class _Resized(TypedDict):
    desired_count: int | None
    """As it is afterwards; None when it was not looked at."""
    at: float
    theirs: Strength | None
    """What somebody asks for by now instead; nothing was changed then."""


class _Stopped(TypedDict):
    stop: Stop
    at: float


def recycle(
    request: RecycleRequest,
    context: DurableContext,
    outside: Outside,
    continuation: Continuation | None = None,
) -> Report | Continued:
    """Replace the service's tasks, oldest first, and tell what became of each.

    What goes wrong after something may have been changed ends the recycle early, is put right, and
    comes back in the report.

    Args:
        request: what to recycle.
        context: of the durable handler.
        outside: the service, and all else.
        continuation: what the execution before this one left to do.

    Raises:
        InvalidRequest: there is no such service, or it cannot be recycled, or not now; nothing was
            done.
        aws_durable_execution_sdk_python.StepError: the survey failed, and nothing was done.
        GaveUp: the service could not be put back, which must not look like success.
    """
    execution = context.execution_context.durable_execution_arn
    if continuation is None:
        continuation = _begin(request, context, outside, execution)
    run = _Recycle(request, context, outside, execution, continuation)
    if request.dry_run:
        return run.progress.report(request, "planned")
    problem = None
    try:
        if run.progress.queue:
            run.strengthen()
        while run.progress.queue:
            run.replace_batch()
            if run.progress.queue and run.operations > outside.most_operations:
                return run.hand_over()
    except UnrecoverableError:
        # The SDK's own: it ends this invocation, and a later one takes up the thread.
        raise
    except Exception as error:
        context.logger.exception("Recycling ended early")
        problem = explain(error)
        run.progress.give_up(problem)
        if run.progress.done["failed"] or not isinstance(error, NoReplacement):
            run.recover()
    return run.finish(problem)


def holder_of(event: Mapping[str, Any], execution: str) -> Holder:
    """Return which execution of which run this is; a run is named by its first one.

    Args:
        event: the execution's input.
        execution: its ARN.

    Raises:
        InvalidRequest: it was not an execution before it that handed over to it.
    """
    if CONTINUATION not in event:
        return Holder(execution, 1, execution)
    match event[CONTINUATION]:
        case {"run": str(run), "number": int(number)} if number > 1 and _name_in(
            execution
        ) == _further_name(run, number):
            return Holder(run, number, execution)
    raise InvalidRequest(CONTINUATION, "is not for people: one execution hands it to the next")


def continuation_of(event: Mapping[str, Any], execution: str) -> Continuation | None:
    """Return what the execution before this one handed over; None when this is the first.

    Raises:
        InvalidRequest: it was made up, or is of a version that wrote down something else.
    """
    holder_of(event, execution)
    match event.get(CONTINUATION):
        case None:
            return None
        case {"service_arn": str(), "plan": dict(plan), "done": dict(done), **others} if (
            others.keys() == {"run", "number"}
            and plan.keys() == Plan.__required_keys__
            and done.keys() == Done.__required_keys__
        ):
            return cast("Continuation", event[CONTINUATION])
    raise InvalidRequest(CONTINUATION, "is not as this version of the function writes it")


def without_continuation(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a function's input what a person asked for."""
    return {name: value for name, value in event.items() if name != CONTINUATION}


def place_of(request: RecycleRequest) -> dict[str, str]:
    """Return the dimensions of a recycle's metrics, with names where the request has ARNs."""
    return {
        "Cluster": request.cluster_name.rpartition("/")[2],
        "Service": request.service_name.rpartition("/")[2],
    }


def put_back(service: Services, changes: Changes) -> int | None:
    """Undo a recycle's changes where they are still its own; return the desired count.

    The bounds come first: a minimum that is still raised would raise the desired count again.
    """
    try:
        found = service.describe()
    except NotFound:
        return None
    if found.status != "ACTIVE":
        return found.desired_count
    before, made = changes["before"], changes["made"]
    if before["bounds"]:
        for bounds in [made["bounds"], *reversed(changes["made_earlier"])]:
            if bounds:
                service.change_bounds(bounds, before["bounds"])
    count = service.change_desired_count(made["desired_count"], before["desired_count"])
    if before["bounds"] and count == min(made["desired_count"], before["bounds"]["highest"]):
        # An attempt was cut off between the two, and Auto Scaling has cut the surge since.
        count = service.change_desired_count(count, before["desired_count"])
    return count


def _further_name(run: str, number: int) -> str:
    """Return the name of an execution of a run: twice the same name is one execution."""
    return f"{hashlib.sha256(run.encode()).hexdigest()[:32]}-{number}"


def _name_in(execution: str) -> str:
    # arn:…:function:<function>:<version>/durable-execution/<name>/<id>
    return execution.partition("/durable-execution/")[2].partition("/")[0]


def _begin(
    request: RecycleRequest, context: DurableContext, outside: Outside, execution: str
) -> Continuation:
    """Look, refuse what cannot be recycled, and take the lease: the run is named by this one."""
    surveyed = run_step(context, "survey", lambda: _survey(request, outside))
    found = surveyed["found"]
    if not found:
        raise InvalidRequest(surveyed["field"], surveyed["problem"])
    check(request, found)
    service_arn = found["service"]["arn"]
    left_over = None
    if not request.dry_run:

        def lease() -> _Leased:
            now = outside.clock()
            taken = outside.leases.take(
                service_arn,
                Holder(execution, 1, execution),
                now=now,
                expires=now + _term(request),
            )
            return {
                "held_by": "" if taken["ok"] else taken["execution"],
                "left_over": taken["left_over"],
            }

        leased = run_step(context, "lease", lease)
        if leased["held_by"]:
            raise InvalidRequest(
                "service_name",
                f"{request.service_name} is being recycled already, by {leased['held_by']}",
            )
        left_over = leased["left_over"]
        if left_over:
            # Of a run that could not put the service back. It stays noted until this run's changes
            # take its place, so a crash here loses nothing.
            attempt(
                context,
                "put-back-left-over",
                lambda: put_back(outside.service, left_over),
                deadline=found["at"] + _PATIENCE,
                passing=MENDABLE,
                clock=outside.clock,
            )
    planned, done = plan(request, found, left_over)
    return {
        "run": execution,
        "number": 1,
        "service_arn": service_arn,
        "plan": planned,
        "done": done,
    }


def _term(request: RecycleRequest) -> int:
    """Return for how many seconds a lease is taken.

    It is renewed at each stop. The longest way from there: the replacements and the old tasks'
    connections take their time, then the pause, the next stop is refused before it renews, so ECS
    is given time for replacements once more, and putting back is tried until patience ends.
    """
    waits = request.replacement_timeout + _LONGEST_DRAIN + request.wait_time
    return waits + request.replacement_timeout + _PATIENCE + _MARGIN


def _survey(request: RecycleRequest, outside: Outside) -> _Surveyed:
    field = "cluster_name and service_name"
    service = outside.service
    try:
        described = service.describe()
        sighting = service.look()
        field = "alarm_names"
        ringing = service.ringing(request.alarm_names) if request.alarm_names else []
        field = "service_name"
        found = survey(
            described,
            sighting,
            bounds=service.bounds(),
            protected=service.protected([task.arn for task in sighting.tasks]),
            ringing=ringing,
            deregistration_delay=service.deregistration_delay(),
            at=outside.clock(),
        )
    except NotFound as error:
        return {"found": None, "field": field, "problem": str(error)}
    if len(found["tasks"]) > LARGEST_SURVEY:
        problem = f"{request.service_name} has more tasks than can be recycled, some 6,000"
        return {"found": None, "field": field, "problem": problem}
    return {"found": found, "field": "", "problem": ""}


class _Recycle:
    """The operations of one execution, in the order of their use."""

    def __init__(
        self,
        request: RecycleRequest,
        context: DurableContext,
        outside: Outside,
        execution: str,
        continuation: Continuation,
    ) -> None:
        self.progress = Progress(continuation["plan"], continuation["done"])
        self.operations = 4
        """How many of this execution's 3,000 are used, as Lambda counts them."""
        self._continuation = continuation
        self._request = request
        self._context = context
        self._service = outside.service
        self._outside = outside
        self._clock = outside.clock
        self._put = outside.put
        self._place = place_of(request)
        self._service_arn = continuation["service_arn"]
        self._holder = Holder(continuation["run"], continuation["number"], execution)
        self._batch = 0
        self._quickest = 0.0
        self._most_executions = len(self.progress.known)
        self._total = len(self.progress.plan["tasks"]) + len(self.progress.done["recycled"])

    def strengthen(self, ours: Bounds | None = None) -> None:
        """Have as many tasks in service as the goal, before the next one is stopped.

        Args:
            ours: the bounds as this run has made them; None as long as it has not.
        """
        resized = self._step("raise", lambda: self._raise(ours))
        count, theirs = resized["desired_count"] or 0, resized["theirs"]
        if count < (self.progress.plan["asked"] if theirs else self.progress.goal):
            raise RecycleHalted(f"somebody changed the desired count to {count}")
        if theirs:
            self._follow(theirs, ours)
        elif count > self.progress.goal:
            self._grow(count)
        else:
            self._wait_for_strength("strength", since=resized["at"])

    def _grow(self, desired_count: int) -> None:
        """Go on with the count somebody asks for of what this run has made."""
        changes = self.progress.plan["changes"]
        bounds = changes["before"]["bounds"]
        self._follow(
            {"desired_count": desired_count, "bounds": bounds}, ours=changes["made"]["bounds"]
        )

    def _follow(self, theirs: Strength, ours: Bounds | None) -> None:
        self.progress.follow(theirs, ours)
        self.strengthen(ours)

    def replace_batch(self) -> None:
        """Stop the next tasks and wait until others have taken their place."""
        tasks = self.progress.begin()
        self._batch += 1
        number = self._total - len(self.progress.queue)
        self._context.logger.info("Recycling task %d/%d: %s", number, self._total, " ".join(tasks))
        stopped = self._stop(str(self._batch))
        for again in range(2, _ATTEMPTS + 1):
            if stopped["stop"]["verdict"] == "grown":
                self._grow(stopped["stop"]["desired_count"])
            elif stopped["stop"]["verdict"] == "weak":
                # Another task failed during the pause, and ECS is replacing that one.
                self._wait_for_strength(f"recovery-{self._batch}", since=stopped["at"])
            else:
                break
            stopped = self._stop(f"{self._batch}-{again}")
        match stopped["stop"]["verdict"]:
            case "weak" | "halt":
                raise RecycleHalted(stopped["stop"]["why"])
            case "grown":
                raise RecycleHalted("the desired count keeps growing")
        if not self.progress.at_hand:
            return
        pauses = bool(self.progress.queue and self._request.wait_time)
        look = self._wait_for_strength(
            f"replacement-{self._batch}",
            since=stopped["at"],
            # The second look in a row is that of the next stop.
            looks=1 if pauses else LOOKS_IN_A_ROW,
        )
        self.progress.replaced(look)
        if pauses:
            self.operations += 1
            self._context.wait(
                Duration(seconds=self._request.wait_time), name=f"pause-{self._batch}"
            )

    def hand_over(self) -> Continued:
        """Have a further execution go on, and tell which.

        Raises:
            RecycleHalted: there have been as many executions as tasks, and each takes one in hand.
        """
        number = self._continuation["number"] + 1
        if number > self._most_executions:
            raise RecycleHalted(f"{number - 1} executions did not get to the end")
        further: Continuation = {
            **self._continuation,
            "number": number,
            "plan": {**self.progress.plan, "tasks": self.progress.queue},
            "done": self.progress.done,
        }
        name = _further_name(further["run"], number)
        execution = self._step(
            "continue", lambda: self._outside.go_on(name, {CONTINUATION: further})
        )
        return self.progress.continued(self._request, execution)

    def recover(self) -> None:
        """Give ECS time to replace what was stopped, before the desired count is lowered.

        ECS does not say whether it then takes a task that has not started or one that works.
        """
        began = self._step("trouble", self._clock)

        def look(_last: list[int] | None) -> list[int]:
            count = len(self.progress.in_service(self._service.look().tasks))
            return [count, self._service.describe().desired_count]

        waited = wait_until(
            self._context,
            "recovery",
            look,
            # Nor is there anything to wait for when somebody wants fewer.
            lambda seen: seen[0] >= self.progress.goal or seen[1] < self.progress.goal,
            deadline=began + self._request.replacement_timeout,
            max_delay=_LONGEST_DELAY,
            backs_off=True,
            passing=_UNANSWERED,
            clock=self._clock,
        )
        self.operations += 1 + waited.polls

    def finish(self, problem: str | None) -> Report:
        """Put the service back, give up the lease, and tell."""
        began = self._step("ending", self._clock)
        resized = self._attempt("restore", self._restore, deadline=began + _PATIENCE)
        desired_count = resized["desired_count"]
        settled = wait_until(
            self._context,
            "settle",
            lambda _: self._count(),
            lambda count: count is None or desired_count is None or count <= desired_count,
            deadline=resized["at"] + _SETTLING_TIME,
            max_delay=_LONGEST_DELAY,
            first_delay=_LONGEST_DELAY,
            clock=self._clock,
        )
        self._attempt(
            "release",
            lambda: self._outside.leases.release(self._service_arn, self._holder),
            deadline=began + _PATIENCE,
        )
        report = self.progress.report(
            self._request,
            "failed" if problem else "succeeded",
            problem=problem,
            after=settled.seen,
            desired_count=desired_count,
        )
        self._context.logger.info(
            "Recycling %s: %d of %d tasks recycled",
            report["outcome"],
            len(report["recycled"]),
            self._total,
        )
        self._step("report", lambda: self._tell(report))
        return report

    def _tell(self, report: Report) -> None:
        self._put({"Recycles": 1}, Outcome=report["outcome"])
        self._put({"TasksReplaced": len(report["recycled"])}, **self._place)
        if self._request.notify:
            self._outside.tell(report, self._holder.execution)

    def _step[T](self, name: str, func: Callable[[], T]) -> T:
        self.operations += 1
        return run_step(self._context, name, func)

    def _attempt[T](self, name: str, func: Callable[[], T], *, deadline: float) -> T:
        return attempt(
            self._context, name, func, deadline=deadline, passing=MENDABLE, clock=self._clock
        )

    def _raise(self, ours: Bounds | None) -> _Resized:
        lease = self._hold()
        changes = self.progress.plan["changes"]
        before, made = changes["before"], changes["made"]
        if (lease["changed_by"], lease["changes"]) != (self._holder.run, changes):
            # Nothing of it can have been done yet. So what is there is somebody's own, even where
            # it is just what is about to be made.
            count = self._service.describe().desired_count
            theirs: Strength = {
                "desired_count": count,
                "bounds": before["bounds"] if ours else self._service.bounds(),
            }
            if theirs != before:
                return {"desired_count": count, "at": self._clock(), "theirs": theirs}
            # Written down first: a crash right after this leaves a note of more than was done.
            self._outside.leases.record(self._service_arn, self._holder, changes)
        bounds = ours or before["bounds"]
        if bounds and made["bounds"]:
            found = self._service.change_bounds(bounds, made["bounds"])
            if found and found["highest"] < made["desired_count"]:
                # Auto Scaling would take the surge away, and nobody could tell that from a wish.
                raise Conflict(
                    f"somebody set the maximum of Auto Scaling to {found['highest']},"
                    f" and {made['desired_count']} tasks are needed"
                )
        count = self._service.change_desired_count(before["desired_count"], made["desired_count"])
        return {"desired_count": count, "at": self._clock(), "theirs": None}

    def _hold(self) -> Lease:
        """Make sure that the service is still ours to change, and for a while.

        Raises:
            Conflict: somebody else has taken over, or has put the service back.
        """
        return self._outside.leases.renew(
            self._service_arn, self._holder, expires=self._clock() + _term(self._request)
        )

    def _restore(self) -> _Resized:
        leases, run, number = self._outside.leases, self._holder.run, self._holder.number
        lease = leases.read(self._service_arn)
        count = None
        if lease is None:
            # Somebody deleted the item.
            count = put_back(self._service, self.progress.plan["changes"])
        elif lease["run"] != run or lease["number"] > number:
            # Whoever took over has put it back, or will.
            pass
        elif lease["changes"]:
            if lease["changed_by"] != run:
                # Left by an earlier run; nothing more was changed since. Now it is ours to undo.
                leases.record(self._service_arn, self._holder, lease["changes"])
            count = put_back(self._service, lease["changes"])
        else:
            with suppress(NotFound):
                count = self._service.describe().desired_count
        return {"desired_count": count, "at": self._clock(), "theirs": None}

    def _count(self) -> int | None:
        try:
            return len(self.progress.in_service(self._service.look().tasks))
        except (AwsFailure, NotFound, InvalidRequest):
            # A last look that is refused must not cost the report.
            return None

    def _stop(self, name: str) -> _Stopped:
        try:
            stopped = self._step(f"stop-{name}", self._stop_if_strong)
        except StepError as error:
            # Nobody knows any more how many of them it had stopped by then.
            self.progress.lost(explain(error))
            raise
        self.progress.tried(stopped["stop"])
        return stopped

    def _stop_if_strong(self) -> _Stopped:
        self._hold()
        service, sighting = self._service.describe(), self._service.look()
        present = {task_id(task.arn) for task in sighting.tasks}
        stop = self.progress.may_stop(
            service,
            sighting,
            protected=self._service.protected(
                [self._arn(task) for task in self.progress.at_hand if task in present]
            ),
            alarm=self._alarm(),
            # An earlier attempt of this step stopped them, and was cut off before saying so.
            already=[
                task
                for task in self.progress.at_hand
                if task not in present and self._service.was_recycled(self._arn(task))
            ],
        )
        if stop["verdict"] == "stop":
            for task in list(stop["stopped"]):
                try:
                    self._service.stop(self._arn(task))
                except NotFound as error:
                    if task in present:
                        stop["stopped"].remove(task)
                        stop["left"].append({"id": task, "why": str(error)})
            self._put({"TasksBeingReplaced": len(stop["stopped"])}, **self._place)
        return {"stop": stop, "at": self._clock()}

    def _arn(self, task: str) -> str:
        return f"{self.progress.plan['arn_prefix']}{task}"

    def _alarm(self) -> str:
        """Say what is wrong with the alarms; '' when nothing is."""
        names = self._request.alarm_names
        try:
            ringing = self._service.ringing(names) if names else []
        except NotFound as error:
            # Somebody deleted one: nobody knows any more whether all is well.
            return str(error)
        return f"in ALARM: {', '.join(ringing)}" if ringing else ""

    def _wait_for_strength(self, name: str, *, since: float, looks: int = LOOKS_IN_A_ROW) -> Look:
        timeout = self._request.replacement_timeout
        longest = timeout + self.progress.plan["deregistration_delay"]
        in_vain = min(int(_NOT_YET * self._quickest) or _FIRST_DELAY, longest)

        def check(last: _Seen | None) -> _Seen:
            if last is None and self._clock() < since + in_vain / 2:
                # The first poll follows the change at once, unless the process has died.
                return False
            sighting, alarm = self._service.look(), self._alarm()
            return self.progress.look(sighting, alarm, last or None, since=since, now=self._clock())

        waited = wait_until(
            self._context,
            name,
            check,
            lambda look: bool(look and is_over(look, looks)),
            deadline=since + longest,
            max_delay=_LONGEST_DELAY,
            backs_off=True,
            first_delay=in_vain,
            soon=lambda look: bool(look and 0 < look["passed"] < looks),
            passing=_UNANSWERED,
            clock=self._clock,
        )
        self.operations += 1 + waited.polls
        look = waited.seen or None
        self.progress.saw(look)
        if look and look["trouble"]:
            raise RecycleHalted(look["trouble"])
        if not look or not waited.met:
            seen = look["in_service"] if look else "unknown"
            raise NoReplacement(
                f"no replacement within {timeout} seconds:"
                f" {seen} of {self.progress.goal} tasks are in service"
            )
        if self.progress.owed or look["lowest"] < self.progress.goal:
            # It was not there all the time.
            self._quickest = min(self._quickest or waited.took, waited.took)
        return look
