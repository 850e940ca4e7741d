"""CheckpointDurableExecution takes a retry, a large result and a stale token as Lambda does.

Rules: aws-durable-execution-sdk-python-testing 1.4, checkpoint/processors and executor.py.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_durable

type Json = dict[str, Any]


def _put_off(record: Json, update: Json) -> None:
    """A step to be retried is PENDING; its attempt is counted, a poll's state kept."""
    operation = next(o for o in record["Operations"] if o["Id"] == update["Id"])
    details = operation["StepDetails"]
    operation["Status"] = "PENDING"
    details.update(
        Attempt=details["Attempt"] + 1, Result=update.get("Payload"), Error=update.get("Error")
    )
    event = "StepFailed" if details["Error"] else "StepSucceeded"
    outcome = {"Error": {"Payload": details["Error"]}} if details["Error"] else {"Result": {}}
    retry = {"CurrentAttempt": details["Attempt"], **(update.get("StepOptions") or {})}
    lambda_durable._emit_history_event(
        record,
        event,
        f"{event}Details",
        {**outcome, "RetryDetails": retry},
        name=operation["Name"],
        event_id=operation["Id"],
    )


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def install() -> None:
    """Wrap the handler, and what it does with one update."""
    apply_update, checkpoint = lambda_durable._apply_update, lambda_durable.handle_checkpoint

    def apply(record: Json, update: Json) -> None:
        # The SDK says 0 for "no timeout".
        options = update.get("CallbackOptions") or {}
        update["CallbackOptions"] = {name: value for name, value in options.items() if value}
        apply_update(record, update)
        if (update["Type"], update["Action"]) == ("STEP", "RETRY"):
            _put_off(record, update)
        elif update["Type"] == "EXECUTION":
            # How a result that is too large for the answer of an invocation arrives.
            lambda_durable.mark_execution_completed(
                record["DurableExecutionArn"], update.get("Payload"), update.get("Error")
            )

    def refuse_stale(arn: str, body: bytes) -> Any:
        record, _ = lambda_durable._require_execution(arn)
        token = json.loads(body).get("CheckpointToken")
        if record and (record["Status"] != "RUNNING" or token != record["CheckpointToken"]):
            # By this beginning the SDK tells an invocation that came late from one that is broken.
            message = "Invalid checkpoint token"
            return error_response_json("InvalidParameterValueException", message, 400)
        return checkpoint(arn, body)

    lambda_durable._apply_update = apply
    lambda_durable.handle_checkpoint = refuse_stale
    # Told whole seconds, the SDK looks early for a timer that is not due, again and again.
    lambda_durable._to_unix_seconds = _milliseconds
