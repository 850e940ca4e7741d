"""A recycle from survey to report, over as many invocations as it takes.

For each task: one step (stop it), one wait for its replacement, one pause. A handler is replayed
from the top at every resumption, so all that is not a rule happens inside these operations.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypedDict

from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.exceptions import UnrecoverableError

from ecs_ops.aws.durable import explain, run_step, wait_until
from ecs_ops.errors import AwsFailure, InvalidRequest, NotFound
from ecs_ops.recycle import (
    REPLACEMENT_TIMEOUT,
    Plan,
    Progress,
    RecycleHalted,
    Stop,
    passed,
    survey,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.recycle import RecycleRequest, Report, Services, Survey

_LONGEST_DELAY: Final = 5
"""Seconds between two looks; the first delay is one second."""
_ATTEMPTS: Final = 5
"""Attempts to stop one task, when others fail at the same time."""
_SETTLING_TIME: Final = 120
"""Seconds ECS is given to take the additional task away, so that the report shows the end."""


class _Surveyed(TypedDict):
    found: Survey | None
    missing: str
    """What does not exist; an error's type would not survive a step."""


class _Resized(TypedDict):
    desired_count: int
    at: float


class _Stopped(Stop):
    at: float


def recycle(
    request: RecycleRequest,
    context: DurableContext,
    service: Services,
    clock: Callable[[], float] = time.time,
) -> Report:
    """Replace the service's tasks, oldest first, and tell what became of each.

    What goes wrong after the desired count may have been raised ends the recycle early, is put
    right, and comes back in the report.

    Args:
        request: what to recycle.
        context: of the durable handler.
        service: the service.
        clock: epoch seconds; read inside operations only.

    Raises:
        InvalidRequest: there is no such service, or it cannot be recycled; nothing was done.
        aws_durable_execution_sdk_python.StepError: the survey failed, and nothing was done; or the
            desired count could not be restored, which must not look like success.
    """
    surveyed = run_step(context, "survey", lambda: _survey(service))
    if not surveyed["found"]:
        raise InvalidRequest("cluster_name and service_name", surveyed["missing"])
    run = _Recycle(request, Plan.of(request, surveyed["found"]), context, service, clock)
    problem = None
    try:
        run.strengthen()
        for number, task_arn in enumerate(run.plan.tasks, 1):
            run.replace(number, task_arn)
    except UnrecoverableError:
        # The SDK's own: it ends this invocation, and a later one takes up the thread.
        raise
    except Exception as error:
        context.logger.exception("Recycling ended early")
        problem = explain(error)
        run.progress.give_up(problem)
    report = run.restore(problem)
    context.logger.info(
        "Recycling %s: %d of %d tasks recycled",
        report["outcome"],
        len(report["recycled"]),
        len(run.plan.tasks),
    )
    return report


def _survey(service: Services) -> _Surveyed:
    try:
        return {"found": survey(service.describe(), service.tasks()), "missing": ""}
    except NotFound as error:
        return {"found": None, "missing": str(error)}


class _Recycle:
    """The operations of one recycle, in the order of their use."""

    def __init__(
        self,
        request: RecycleRequest,
        plan: Plan,
        context: DurableContext,
        service: Services,
        clock: Callable[[], float],
    ) -> None:
        self.plan = plan
        self.progress = Progress.begin(plan)
        self._request = request
        self._context = context
        self._service = service
        self._clock = clock

    def strengthen(self) -> None:
        """Have as many tasks in service as the goal, before the first one is stopped."""
        resized = self._resize("raise", self.plan.before, self.plan.goal)
        if resized["desired_count"] != self.plan.goal:
            raise RecycleHalted(f"somebody changed the desired count to {resized['desired_count']}")
        self._wait_for_strength("strength", since=resized["at"])

    def replace(self, number: int, task_arn: str) -> None:
        """Stop one task and wait until another one has taken its place."""
        count = len(self.plan.tasks)
        self._context.logger.info("Recycling task %d/%d: %s", number, count, task_arn)
        self.progress.at_hand = task_arn
        stopped = self._stop(f"stop-{number}", task_arn)
        for attempt in range(1, _ATTEMPTS):
            if stopped["verdict"] != "weak":
                break
            # Another task failed during the pause, and ECS is replacing that one.
            self._wait_for_strength(f"recovery-{number}-{attempt}", since=stopped["at"])
            stopped = self._stop(f"stop-{number}-{attempt + 1}", task_arn)
        match stopped["verdict"]:
            case "weak" | "halt":
                raise RecycleHalted(stopped["why"])
            case "gone":
                self.progress.skip(task_arn, stopped["why"])
                return
        self._wait_for_strength(f"replacement-{number}", since=stopped["at"])
        self.progress.replaced(task_arn)
        if number < count and self._request.wait_time:
            self._context.wait(Duration(seconds=self._request.wait_time), name=f"pause-{number}")

    def restore(self, problem: str | None) -> Report:
        """Set the desired count back, unless somebody else has changed it, and report."""
        resized = self._resize("restore", self.plan.goal, self.plan.before)
        desired_count = resized["desired_count"]
        settled = wait_until(
            self._context,
            "settle",
            lambda _: self._count(),
            lambda count: count is None or count <= desired_count,
            deadline=resized["at"] + _SETTLING_TIME,
            max_delay=_LONGEST_DELAY,
            clock=self._clock,
        )
        return self.progress.report(
            self._request, problem=problem, after=settled.seen, desired_count=desired_count
        )

    def _count(self) -> int | None:
        try:
            return len(self.progress.in_service(self._service.tasks()))
        except (AwsFailure, NotFound):
            # A last look that is refused must not cost the report.
            return None

    def _resize(self, name: str, expected: int, wanted: int) -> _Resized:
        def resize() -> _Resized:
            count = self._service.change_desired_count(expected, wanted)
            return {"desired_count": count, "at": self._clock()}

        return run_step(self._context, name, resize)

    def _stop(self, name: str, task_arn: str) -> _Stopped:
        stopped = run_step(self._context, name, lambda: self._stop_if_strong(task_arn))
        self.progress.tried(stopped, task_arn)
        return stopped

    def _stop_if_strong(self, task_arn: str) -> _Stopped:
        stop = self.progress.may_stop(self._service.describe(), self._service.tasks(), task_arn)
        if stop["verdict"] == "stop":
            try:
                self._service.stop(task_arn)
            except NotFound as error:
                stop["verdict"], stop["why"] = "gone", str(error)
        elif stop["verdict"] == "gone" and self._service.was_recycled(task_arn):
            # An earlier attempt of this step stopped it, and was cut off before saying so.
            stop["verdict"] = "stop"
        return {**stop, "at": self._clock()}

    def _wait_for_strength(self, name: str, *, since: float) -> None:
        waited = wait_until(
            self._context,
            name,
            lambda last: self.progress.look(self._service.tasks(), last),
            passed,
            deadline=since + REPLACEMENT_TIMEOUT,
            max_delay=_LONGEST_DELAY,
            clock=self._clock,
        )
        self.progress.saw(waited.seen)
        if not waited.met:
            seen = waited.seen["in_service"] if waited.seen else "unknown"
            raise RecycleHalted(
                f"no replacement within {REPLACEMENT_TIMEOUT} seconds:"
                f" {seen} of {self.plan.goal} tasks are in service"
            )
