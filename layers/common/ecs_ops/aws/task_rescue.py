"""Answers for an execution that cannot: it failed, was stopped by an operator, or timed out.

None of the three runs any code of ours in that execution. Lambda tells EventBridge, a rule brings
the event back to the same function, and a new execution does what is left: stop the task, and tell
CloudFormation, which would wait for the rest of its hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecs_ops.aws.durable import GaveUp, attempt, run_step
from ecs_ops.aws.ended_execution import count, detail_of
from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.task_run import look_at_stack, measure, stop_tasks
from ecs_ops.custom_resource import CustomResourceRequest, work_of
from ecs_ops.errors import EcsOpsError, InvalidRequest, Transient
from ecs_ops.event_record import utc_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.ended_execution import EndedExecution
    from ecs_ops.aws.task_run import Outside
    from ecs_ops.custom_resource import Answer

    type Find = Callable[[], EndedExecution | None]

# Seconds. CloudFormation may have a minute left, or most of an hour; an answer that comes too late
# does no harm, and one that waits for ECS does.
_PATIENCE_WITH_ECS = 15
_PATIENCE_WITH_STATUS = 15
_PATIENCE_WITH_ANSWER = 900

_ENDED = {"STOPPED": "was stopped by an operator", "TIMED_OUT": "timed out", "FAILED": "failed"}


def rescue(
    event: Mapping[str, Any],
    context: DurableContext,
    outside: Outside,
    find: Find,
) -> Answer | None:
    """Stop the task of an execution that ended without an answer, and answer in its place.

    Args:
        event: the status change.
        context: of the durable handler.
        outside: where tasks run and answers go.
        find: reads what the ended execution was given; None when that is nobody's to answer.

    Returns:
        The answer; None when nobody waits for one.

    Raises:
        GaveUp: CloudFormation could not be told.
    """
    started = utc_moment(str(detail_of(event).get("startTimestamp")))
    since = started.timestamp() if started else 0

    def begin() -> float:
        count(event, outside.put)
        return outside.clock()

    began = run_step(context, "begin", begin)

    told = _stop(context, outside, find, began, since)
    skipped = _was_to_be_skipped(context, outside, find, began)

    def tell() -> Answer | None:
        ended = find()
        request = _request_of(ended)
        if ended is None or request is None:
            return None
        answer = request.skipped() if skipped else _failure(request, ended, told)
        try:
            outside.answers.answer(ended.input, answer, context.lambda_context)
        except EcsOpsError as error:
            raise _hidden(error, request) from error
        measure(answer, outside, since=since or began)
        return answer

    return attempt(
        context, "answer", tell, deadline=began + _PATIENCE_WITH_ANSWER, clock=outside.clock
    )


def _stop(context: DurableContext, outside: Outside, find: Find, began: float, since: float) -> str:
    """Stop what the ended execution ran; say what came of that."""

    def stop() -> list[str]:
        request = _request_of(find())
        if request is None:
            return []
        try:
            return stop_tasks(
                request,
                outside.tasks,
                kinds=request.own_kinds,
                since=since,
                reason="Custom::ECSRunTask: its execution has ended",
            )
        except EcsOpsError as error:
            raise _hidden(error, request) from error

    try:
        stopped = attempt(
            context, "stop-task", stop, deadline=began + _PATIENCE_WITH_ECS, clock=outside.clock
        )
    except GaveUp as error:
        return f"Its task could not be stopped and may still be running: {error}"
    return f"Stopped: {', '.join(stopped)}." if stopped else "No task of it was running."


def _was_to_be_skipped(context: DurableContext, outside: Outside, find: Find, began: float) -> bool:
    """Say whether the request was to run nothing.

    A failure would stop what waits for no task: a rollback, which ends in UPDATE_ROLLBACK_FAILED.
    """

    def see() -> bool:
        request = _request_of(find())
        if request is None:
            return False
        work = None
        try:
            work = work_of(request)
            if work is None:
                return True
        except InvalidRequest:
            pass  # Refused, unless the stack rolls back.
        if not request.is_left_out_of_rollbacks(work):
            return False
        try:
            stack = look_at_stack(request, outside.stacks, outside.clock)
        except EcsOpsError as error:
            raise _hidden(error, request) from error
        return stack["phase"] == "rolling back"

    deadline = began + _PATIENCE_WITH_ECS + _PATIENCE_WITH_STATUS
    try:
        return attempt(context, "stack-status", see, deadline=deadline, clock=outside.clock)
    except GaveUp:
        return False  # It is logged.


def _request_of(ended: EndedExecution | None) -> CustomResourceRequest | None:
    """Return the request that has no answer; None when nobody waits for one."""
    if ended is None:
        return None
    try:
        request = CustomResourceRequest.parse(ended.input)
    except InvalidRequest:
        return None
    if request.is_test:
        return None
    correlate(request.request_id)
    return request


def _hidden(error: EcsOpsError, request: CustomResourceRequest) -> EcsOpsError:
    kind = Transient if isinstance(error, Transient) else GaveUp
    return kind(request.hide_in_error(str(error)))


def _failure(request: CustomResourceRequest, ended: EndedExecution, told: str) -> Answer:
    why = f": {request.hide(ended.error)}" if ended.error else ""
    how = f"{_ENDED.get(ended.status, ended.status)}{why}".rstrip(".")
    return request.failed(
        f"The execution of run_task that ran the task {how}. {told} Execution {ended.arn}."
    )
