"""Puts a service back whose recycle cannot: it was stopped by an operator, failed or timed out.

None of the three runs any code of ours in that execution. Lambda tells EventBridge, a rule brings
the event back to the same function, and a new execution undoes what the lease says was changed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypedDict

from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.exceptions import StepError

from ecs_ops.aws.durable import GaveUp, attempt, run_step
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.aws.recycle_lease import Holder
from ecs_ops.aws.service_recycle import (
    CONTINUATION,
    MENDABLE,
    PASSING,
    holder_of,
    put_back,
    without_continuation,
)
from ecs_ops.errors import InvalidRequest, NotFound
from ecs_ops.recycle import RecycleRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.ended_execution import EndedExecution
    from ecs_ops.aws.metrics import Put
    from ecs_ops.aws.service_recycle import Outside
    from ecs_ops.errors import EcsOpsError

_PATIENCE: Final = 3600
"""Seconds for which putting the service back is tried."""
_REFUSALS: Final = tuple(
    f"{kind.__module__}.{kind.__name__}" for kind in (InvalidRequest, StepError)
)
"""What an execution that was refused fails with: in the handler, or inside its survey."""
_LIFE: Final = 60
"""Seconds for which an invocation of the ended execution may still work: the function's timeout."""


class Rescue(TypedDict):
    """What became of a recycle whose execution ended without a result."""

    execution: str
    """ARN of the execution that ended."""
    status: str
    """FAILED, STOPPED or TIMED_OUT."""
    error: str
    cluster_name: str
    service_name: str
    put_back: bool
    """Whether the recycle had changed the service, and that is undone."""
    desired_count: int | None


def rescue(
    context: DurableContext,
    find: Callable[[], EndedExecution | None],
    outside_of: Callable[[RecycleRequest], Outside],
    tell: Callable[[Rescue, str], None],
    clock: Callable[[], float],
    *,
    put: Put = unmeasured,
    count: Callable[[], None] = lambda: None,
) -> Rescue | None:
    """Undo what an ended recycle left changed, and tell.

    Args:
        context: of the durable handler.
        find: reads what the ended execution was given; None when there is nothing to pick up.
        outside_of: what a recycle of this request works with.
        tell: tells people, and why the service could not be put back, if so; raises nothing.
        clock: epoch seconds.
        put: writes metrics.
        count: counts the execution that ended.

    Returns:
        What was found and done; None when the execution was no recycle.

    Raises:
        GaveUp: the service could not be put back.
    """

    def begin() -> float:
        count()
        return clock()

    deadline = run_step(context, "begin", begin) + _PATIENCE

    def try_to[T](
        name: str, func: Callable[[], T], passing: tuple[type[EcsOpsError], ...] = MENDABLE
    ) -> T:
        return attempt(context, name, func, deadline=deadline, passing=passing, clock=clock)

    found = try_to("find", lambda: _found(find()), PASSING)
    if found is None:
        return None
    request, found_so_far = RecycleRequest.parse(found["request"]), found["rescue"]

    def report(done: Rescue, problem: str) -> None:
        put({"Recycles": 1}, Outcome=done["status"].lower())
        if request.notify:
            tell(done, problem)

    def end(done: Rescue, problem: str = "") -> Rescue:
        run_step(context, "report", lambda: report(done, problem))
        return done

    def undo() -> Rescue:
        return _undo(outside_of, request, found)

    try:
        done = try_to("restore", undo)
        if done["put_back"]:
            # An invocation that was under way may have changed it once more in the same moment.
            context.wait(Duration(seconds=_LIFE), name="grace")
            done = try_to("restore-again", undo)
        try_to("release", lambda: _let_go(outside_of, request, found))
    except GaveUp as error:
        end(found_so_far, str(error))
        raise
    return end(done)


class _Found(TypedDict):
    """What an execution was about that ended."""

    request: dict[str, Any]
    run: str
    number: int
    refused: str
    """Why it never began, if so."""
    rescue: Rescue


def _found(ended: EndedExecution | None) -> _Found | None:
    if ended is None:
        return None
    given = without_continuation(ended.input)
    try:
        request = RecycleRequest.parse(given)
        holder = holder_of(ended.input, ended.arn)
    except InvalidRequest:
        # Refused, for the same reason: it never began.
        return None
    return {
        "request": given,
        "run": holder.run,
        "number": holder.number,
        "refused": _refusal(ended),
        "rescue": {
            "execution": ended.arn,
            "status": ended.status,
            "error": ended.error,
            "cluster_name": request.cluster_name,
            "service_name": request.service_name,
            "put_back": False,
            "desired_count": None,
        },
    }


def _refusal(ended: EndedExecution) -> str:
    """Return the text of what may have refused it before it began; '' when it had begun.

    What says the same while a service is put back is of another type, or of a further execution.
    """
    began = CONTINUATION in ended.input or ended.error_type not in _REFUSALS
    return "" if began or ended.status != "FAILED" else ended.error


def _undo(
    outside_of: Callable[[RecycleRequest], Outside], request: RecycleRequest, found: _Found
) -> Rescue:
    so_far = found["rescue"]
    ended = Holder(found["run"], found["number"], so_far["execution"])
    try:
        outside = outside_of(request)
        service_arn = outside.service.describe().arn
        # From here on, what is left of the ended execution may not touch the service any more.
        changes = outside.leases.seize(service_arn, ended, by=_rescuer(found).run)
        if not changes:
            return so_far
        return {**so_far, "put_back": True, "desired_count": put_back(outside.service, changes)}
    except NotFound:
        return so_far
    except InvalidRequest as error:
        if str(error) == found["refused"]:
            return so_far
        raise


def _let_go(
    outside_of: Callable[[RecycleRequest], Outside], request: RecycleRequest, found: _Found
) -> None:
    with suppress(InvalidRequest, NotFound):
        outside = outside_of(request)
        outside.leases.release(outside.service.describe().arn, _rescuer(found))


def _rescuer(found: _Found) -> Holder:
    return Holder(f"rescue of {found['run']}", found["number"], found["rescue"]["execution"])
