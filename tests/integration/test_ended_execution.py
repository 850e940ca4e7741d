"""What an ended durable execution was about, by way of GetDurableExecution."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ecs_ops.aws.ended_execution import EndedExecution, EndedExecutions, is_status_change
from ecs_ops.errors import AwsFailure, InvalidRequest, NotFound, Transient

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:ecs-ops-run-task:1"
ARN = f"{FUNCTION}/durable-execution/run/0f1e2d3c"
REQUEST = {"RequestType": "Create", "LogicalResourceId": "Migration"}


class Lambda:
    """The real adapter on a client that answers as it is told, and checks what it is asked."""

    def __init__(self) -> None:
        client = boto3.client(
            "lambda",
            region_name="eu-west-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self.stub = Stubber(client)
        self.executions = EndedExecutions(client)

    def knows(self, status: str, payload: str | None, error: dict[str, Any] | None = None) -> None:
        execution: dict[str, Any] = {
            "DurableExecutionArn": ARN,
            "DurableExecutionName": "run",
            "FunctionArn": FUNCTION,
            "StartTimestamp": datetime(2024, 5, 2, tzinfo=UTC),
            "Status": status,
        }
        execution |= {} if payload is None else {"InputPayload": payload}
        execution |= {} if error is None else {"Error": error}
        asked = {"DurableExecutionArn": ARN, "IncludeExecutionData": True}
        self.stub.add_response("get_durable_execution", execution, asked)


@pytest.fixture
def aws() -> Iterator[Lambda]:
    stubbed = Lambda()
    with stubbed.stub:
        yield stubbed
        stubbed.stub.assert_no_pending_responses()


def change(status: str) -> dict[str, Any]:
    return {
        "source": "aws.lambda",
        "detail-type": "Durable Execution Status Change",
        "detail": {"durableExecutionArn": ARN, "functionArn": FUNCTION, "status": status},
    }


@pytest.mark.parametrize("status", ["FAILED", "STOPPED", "TIMED_OUT"])
def test_input_is_read_when_an_execution_ended_without_a_result(aws: Lambda, status: str) -> None:
    aws.knows(status, json.dumps(REQUEST))

    assert aws.executions.read(change(status)) == EndedExecution(ARN, status, REQUEST, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"ErrorMessage": "why", "ErrorType": "X"}, "why"),
        ({"ErrorType": "X"}, "X"),
        ({}, ""),
    ],
)
def test_error_says_what_lambda_knows_when_it_knows_something(
    aws: Lambda, error: dict[str, Any], told: str
) -> None:
    aws.knows("FAILED", "{}", error)

    ended = aws.executions.read(change("FAILED"))

    assert ended is not None
    assert (ended.error, ended.error_type) == (told, error.get("ErrorType", ""))


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "PAUSED", "", None])
def test_lambda_is_not_asked_when_an_execution_did_not_end_badly(aws: Lambda, status: Any) -> None:
    assert aws.executions.read(change(status)) is None


def test_nothing_is_picked_up_when_the_event_lies(aws: Lambda) -> None:
    aws.knows("RUNNING", json.dumps(REQUEST))

    assert aws.executions.read(change("FAILED")) is None


@pytest.mark.parametrize("payload", [None, "", "[1]", "null", "no json", '"text"'])
def test_nothing_is_picked_up_when_the_input_is_not_an_object(
    aws: Lambda, payload: str | None
) -> None:
    aws.knows("FAILED", payload)

    assert aws.executions.read(change("FAILED")) is None


def test_it_does_not_go_round_when_picking_up_has_itself_failed(aws: Lambda) -> None:
    aws.knows("FAILED", json.dumps(change("TIMED_OUT")))

    assert aws.executions.read(change("FAILED")) is None


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ResourceNotFoundException", 404, NotFound),
        ("TooManyRequestsException", 429, Transient),
        ("ServiceException", 500, Transient),
        ("AccessDeniedException", 403, AwsFailure),
    ],
)
def test_error_is_one_of_ours_when_lambda_does_not_tell(
    aws: Lambda, code: str, status: int, error: type[Exception]
) -> None:
    aws.stub.add_client_error("get_durable_execution", code, "why", http_status_code=status)

    with pytest.raises(error):
        aws.executions.read(change("FAILED"))


@pytest.mark.parametrize("detail", [None, "text", {}, {"durableExecutionArn": 1}])
def test_event_is_refused_when_it_names_no_execution(aws: Lambda, detail: Any) -> None:
    with pytest.raises(InvalidRequest, match="durableExecutionArn"):
        aws.executions.read({**change("FAILED"), "detail": detail})


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (change("FAILED"), True),
        ({**change("FAILED"), "source": "mine"}, False),
        ({**change("FAILED"), "detail-type": "Something else"}, False),
        (REQUEST, False),
        ({}, False),
    ],
)
def test_status_change_is_told_from_a_request(event: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    assert is_status_change(event) is expected
