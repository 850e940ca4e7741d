"""Durable executions that ended without a result, as Lambda reports them to EventBridge.

Nothing of our own runs after an execution is stopped or times out. What it left undone - an
answer to CloudFormation, the state of a service - is picked up from this event:

    {"source": "aws.lambda", "detail-type": "Durable Execution Status Change",
     "detail": {"durableExecutionArn": ..., "durableExecutionName": ..., "functionArn": ...,
                "status": "RUNNING" | "SUCCEEDED" | "FAILED" | "STOPPED" | "TIMED_OUT",
                "startTimestamp": ..., "endTimestamp": ...}}

https://docs.aws.amazon.com/lambda/latest/dg/durable-monitoring.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import InvalidRequest

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from ecs_ops.aws.metrics import Put

_WITHOUT_A_RESULT = ("FAILED", "STOPPED", "TIMED_OUT")


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """A durable execution that ended, and not by returning."""

    arn: str
    status: str
    """FAILED, STOPPED or TIMED_OUT."""
    input: dict[str, Any]
    """The event it was started with."""
    error: str
    """Why, where Lambda knows: the exception's text, or what the one who stopped it gave; or ''."""
    error_type: str = ""
    """Qualified name of the exception's type, as the SDK tells Lambda; or ''."""


class EndedExecutions:
    """Looks up what an ended execution was about."""

    def __init__(self, lambda_client: LambdaClient) -> None:
        self._lambda = lambda_client

    def read(self, event: Mapping[str, Any]) -> EndedExecution | None:
        """Return the execution of a status change; None when there is nothing to pick up.

        That is the case when it still runs or has a result, when it was not started with a JSON
        object, and when it was itself started to pick up another: that must not go round in
        circles.

        Raises:
            InvalidRequest: the event names no execution.
            EcsOpsError: what `aws_errors` raises; NotFound when it is past its retention.
        """
        named = detail_of(event)
        arn = named.get("durableExecutionArn")
        if not isinstance(arn, str) or not arn:
            raise InvalidRequest("detail.durableExecutionArn", "is required")
        if named.get("status") not in _WITHOUT_A_RESULT:
            return None
        with aws_errors("GetDurableExecution"):
            # The input is what counts here. AWS's pages do not agree on what is the default.
            answer = self._lambda.get_durable_execution(
                DurableExecutionArn=arn, IncludeExecutionData=True
            )
        # Lambda's word, not the event's: whoever may invoke the function can send it one.
        status = answer["Status"]
        given = _object(answer.get("InputPayload", ""))
        if status not in _WITHOUT_A_RESULT or given is None or is_status_change(given):
            return None
        error = answer.get("Error", {})
        kind = error.get("ErrorType") or ""
        told = error.get("ErrorMessage") or kind
        return EndedExecution(arn=arn, status=status, input=given, error=told, error_type=kind)


def detail_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the event's own part; an empty one when it has none, as one sent by hand may."""
    detail = event.get("detail")
    return detail if isinstance(detail, Mapping) else {}


def ended_arn(event: Mapping[str, Any]) -> str:
    """Return the ARN that a status change names; '' for any other event."""
    return str(detail_of(event).get("durableExecutionArn") or "")


def count(event: Mapping[str, Any], put: Put) -> None:
    """Count an execution that ended without a result, by the status that its event names."""
    status = detail_of(event).get("status")
    put({"ExecutionsWithoutResult": 1}, Status=status if status in _WITHOUT_A_RESULT else "OTHER")


def is_status_change(event: object) -> bool:
    """Whether an event of the function reports on a durable execution, and is not a request."""
    return (
        isinstance(event, Mapping)
        and event.get("source") == "aws.lambda"
        and event.get("detail-type") == "Durable Execution Status Change"
    )


def _object(payload: str) -> dict[str, Any] | None:
    """Parse what must be a JSON object; None when it is something else."""
    try:
        parsed = json.loads(payload)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
