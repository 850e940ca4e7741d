"""Durable executions run side by side, each until it ends or its time is up.

ministack resumes all of them from one thread, one after another. Here each execution has a thread,
which invokes the function, never twice at a time, and sleeps until a timer is due or there is news.
Rules: executor.py of aws-durable-execution-sdk-python-testing 1.4.
"""

from __future__ import annotations

import contextvars
import functools
import json
import math
import os
import threading
import time
import uuid
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import lambda_durable, lambda_svc

# Seconds before an invocation that failed is repeated.
RETRY_SECONDS = float(os.environ.get("ECS_OPS_SANDBOX_DURABLE_RETRY_SECONDS", "1"))
_FAILURES_IN_A_ROW = 5
_IDLE_ANSWERS_IN_A_ROW = 3
_INVALID = "InvalidParameterValueException"
# What must not happen to an execution at the same time.
_CHANGES = (
    "handle_checkpoint",
    "handle_stop",
    "handle_callback_success",
    "handle_callback_failure",
    "mark_execution_completed",
    "_time_out_execution",
    "_append_chained_result",
)
_NEWS = {"CallbackSucceeded", "CallbackFailed", "ChainedInvokeSucceeded", "ChainedInvokeFailed"}

type Json = dict[str, Any]

_one_at_a_time = threading.RLock()
_drivers: dict[str, _Driver] = {}


class _Driver:
    """Invokes the function until its execution ends."""

    def __init__(self, record: Json) -> None:
        self.news = threading.Event()
        self._record = record
        self._arn: str = record["DurableExecutionArn"]
        self._failures = 0
        threading.Thread(target=self._run, daemon=True, name=f"durable-{self._arn[-36:]}").start()

    def _run(self) -> None:
        region, account = self._arn.split(":")[3:5]
        with request_scope(account, region):
            timer = self._arm_timeout()
            while self._is_running():
                self.news.clear()
                _settle(self._record)
                self._judge(self._invoke())
            timer.cancel()
            del _drivers[self._arn]

    def _is_running(self) -> bool:
        known = lambda_durable._executions.get(self._arn) is self._record
        return known and self._record["Status"] == "RUNNING"

    def _arm_timeout(self) -> threading.Timer:
        """End the execution at its deadline, even while an invocation is under way."""
        time_out = functools.partial(lambda_durable._time_out_execution, self._record)
        deadline = self._record.get("_TimeoutDeadline", threading.TIMEOUT_MAX)
        in_scope = contextvars.copy_context().run
        timer = threading.Timer(deadline - time.time(), in_scope, (time_out,))
        timer.daemon = True
        timer.start()
        return timer

    def _invoke(self) -> Json:
        record = self._record
        function, config, _ = lambda_svc._get_func_record_for_ref(record["FunctionArn"])
        if function is None:
            message = f"Function not found: {record['FunctionArn']}"
            missing = _error(message, "ResourceNotFoundException")
            return {"body": {"Status": "FAILED", "Error": missing}}
        record["CheckpointToken"] = token = lambda_durable.new_checkpoint_token()
        operations = lambda_durable._serialize_operations(record["Operations"], for_event=True)
        event = {
            "DurableExecutionArn": self._arn,
            "CheckpointToken": token,
            "InitialExecutionState": {"Operations": operations, "NextMarker": ""},
        }
        target = lambda_svc._execution_record_for_config(function, config)
        started = time.time()
        own = {"arn": self._arn, "token": token, "name": record["DurableExecutionName"]}
        reset = lambda_svc._durable_ctx.set(own)
        try:
            result: Json = lambda_svc._execute_function(target, event)
        finally:
            lambda_svc._durable_ctx.reset(reset)
            # What is left of the invocation must not checkpoint any more.
            record["CheckpointToken"] = lambda_durable.new_checkpoint_token()
        error = _error_of(result) if result.get("error") else None
        lambda_durable.record_invocation_completed(self._arn, started, str(uuid.uuid4()), error)
        return result

    def _judge(self, result: Json) -> None:
        """End the execution, repeat the invocation, or sleep."""
        if not self._is_running():
            return  # It was stopped or timed out meanwhile: the answer comes too late.
        answer = result.get("body")
        answer = answer if isinstance(answer, dict) else {}
        status = answer.get("Status")
        if result.get("throttle"):
            self.news.wait(RETRY_SECONDS)
        elif result.get("error"):
            self._repeat(_error_of(result), _FAILURES_IN_A_ROW)
        elif status == "SUCCEEDED":
            lambda_durable.mark_execution_completed(self._arn, answer.get("Result"), None)
        elif status == "FAILED":
            self._fail(answer.get("Error") or _error("The execution failed.", "Error"))
        elif status != "PENDING":
            self._fail(_error("Invalid Status in invocation output.", _INVALID))
        elif self.news.is_set() or any(map(_waits, self._record["Operations"])):
            self._failures = 0
            self._sleep()
        else:
            idle = "Cannot return PENDING status with no pending operations."
            self._repeat(_error(idle, _INVALID), _IDLE_ANSWERS_IN_A_ROW)

    def _repeat(self, error: Json, limit: int) -> None:
        self._failures += 1
        if self._failures >= limit:
            self._fail(error)
        else:
            self.news.wait(RETRY_SECONDS)

    def _fail(self, error: Json) -> None:
        lambda_durable.mark_execution_completed(self._arn, None, error)

    def _sleep(self) -> None:
        # A heartbeat moves a timer that was slept for: look again.
        while self._is_running() and not _settle(self._record):
            due = min(filter(None, map(_due, self._record["Operations"])), default=None)
            if self.news.wait(due and max(0, due - time.time())):
                return


def _error(message: str, kind: str) -> Json:
    return {"ErrorMessage": message, "ErrorType": kind}


def _error_of(result: Json) -> Json:
    body = result.get("body")
    body = body if isinstance(body, dict) else {"errorMessage": str(body)}
    return _error(body.get("errorMessage", ""), body.get("errorType", "Error"))


def _waits(operation: Json) -> bool:
    if operation["Type"] == "STEP":
        return bool(operation["Status"] == "PENDING")
    waiting = {"WAIT", "CALLBACK", "CHAINED_INVOKE"}
    return operation["Type"] in waiting and operation["Status"] == "STARTED"


def _due(operation: Json) -> float | None:
    """When the operation's timer fires, if it waits for one; seconds since the epoch."""
    if not _waits(operation):
        return None
    details = operation.get(f"{operation['Type'].title()}Details") or {}
    names = "NextAttemptTimestamp", "ScheduledEndTimestamp", "TimeoutDeadline", "HeartbeatDeadline"
    return min(filter(None, map(details.get, names)), default=None)


def _settle(record: Json) -> bool:
    """Complete every operation whose timer is due; whether there was one."""
    now = time.time()
    with _one_at_a_time:
        fired = [o for o in record["Operations"] if (due := _due(o)) is not None and due <= now]
        for operation in fired:
            emit = functools.partial(
                lambda_durable._emit_history_event,
                record,
                event_id=operation["Id"],
                name=operation.get("Name"),
            )
            if operation["Type"] == "STEP":
                operation["Status"] = "READY"
            elif operation["Type"] == "WAIT":
                operation.update(Status="SUCCEEDED", EndTimestamp=now)
                emit("WaitSucceeded", "WaitSucceededDetails", {})
            else:
                details = operation["CallbackDetails"]
                overall = details.get("TimeoutDeadline", math.inf) <= now
                kind = "Timeout" if overall else "Heartbeat"
                details["Error"] = _error("Callback timed out", f"Callback.{kind}")
                operation.update(Status="TIMED_OUT", EndTimestamp=now)
                error = {"Error": {"Payload": details["Error"]}}
                emit("CallbackTimedOut", "CallbackTimedOutDetails", error)
    return bool(fired)


def _drive(arn: str, *_scope: str) -> bool:
    """See that somebody drives the execution."""
    with _one_at_a_time:
        record = lambda_durable._executions.get(arn)
        if record and record["Status"] == "RUNNING" and arn not in _drivers:
            _drivers[arn] = _Driver(record)
        return arn in _drivers


def install() -> None:
    """Take the place of ministack's scheduler, and hear what happens to an execution."""
    emit, checkpoint = lambda_durable._emit_history_event, lambda_durable.handle_checkpoint

    def emit_and_wake(record: Json, event_type: str, *args: Any, **more: Any) -> None:
        emit(record, event_type, *args, **more)
        driver = _drivers.get(record["DurableExecutionArn"])
        if driver and (event_type in _NEWS or record["Status"] != "RUNNING"):
            driver.news.set()

    def settle_and_checkpoint(arn: str, body: bytes) -> Any:
        # This is how the SDK, busy with another branch, asks whether a wait is over.
        record, _ = lambda_durable._require_execution(arn)
        if record and record["CheckpointToken"] == json.loads(body).get("CheckpointToken"):
            _settle(record)
        return checkpoint(arn, body)

    def alone(change: Any) -> Any:
        @functools.wraps(change)
        def change_alone(*args: Any, **more: Any) -> Any:
            with _one_at_a_time:
                return change(*args, **more)

        return change_alone

    lambda_durable.schedule_resume = _drive
    lambda_durable._emit_history_event = emit_and_wake
    lambda_durable.handle_checkpoint = settle_and_checkpoint
    for name in _CHANGES:
        setattr(lambda_durable, name, alone(getattr(lambda_durable, name)))
