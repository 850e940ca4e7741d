"""What reaches CloudFormation, and what must not reach the log."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ecs_ops.aws.cloudformation import CloudFormation
from ecs_ops.custom_resource import Answer, CustomResourceRequest, attributes
from tests.answer_server import SECRET, AnswerServer

EVENTS = Path(__file__).parents[2] / "events/run_task"


class Context:
    """What crhelper uses of Lambda's context."""

    aws_request_id = "1"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def send(server: AnswerServer, case: str, reason: str | None = None) -> tuple[Answer, Any]:
    """Send an answer to a sample event; return it, and what CloudFormation got."""
    event = json.loads((EVENTS / f"{case}.json").read_text()) | {"ResponseURL": server.url}
    request = CustomResourceRequest.parse(event)
    answer = (
        request.succeeded(attributes("Succeeded", exit_code=0))
        if reason is None
        else request.failed(reason)
    )
    context: Any = Context()
    CloudFormation().answer(event, answer, context)
    (received,) = server.answers
    return answer, received


@pytest.mark.parametrize("case", ["create", "update", "delete"])
def test_cloudformation_gets_all_attributes_when_the_task_succeeded(
    cloudformation: AnswerServer, case: str
) -> None:
    answer, received = send(cloudformation, case)

    event = json.loads((EVENTS / f"{case}.json").read_text())
    assert received == {
        **answer,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "NoEcho": False,
    }
    assert received["Status"] == "SUCCESS"


@pytest.mark.parametrize("case", ["create", "update", "delete"])
def test_physical_id_and_reason_are_ours_when_the_task_failed(
    cloudformation: AnswerServer, case: str
) -> None:
    answer, received = send(cloudformation, case, "Task failed: exited with 3.")

    assert received["Status"] == "FAILED"
    assert received["Reason"] == "Task failed: exited with 3."
    assert received["PhysicalResourceId"] == answer["PhysicalResourceId"]
    assert received["Data"] == {}


def test_reason_begins_with_the_verdict_when_it_is_far_too_long(
    cloudformation: AnswerServer,
) -> None:
    _, received = send(cloudformation, "create", "Task failed: " + "🎉 why " * 5000)

    assert received["Reason"].startswith("Task failed: ? why")
    assert cloudformation.sizes[0] <= 4096


def test_second_answer_is_not_mixed_up_when_the_sandbox_is_warm(
    cloudformation: AnswerServer,
) -> None:
    answers = CloudFormation()
    context: Any = Context()
    for case in ("create", "update"):
        event = json.loads((EVENTS / f"{case}.json").read_text())
        event["ResponseURL"] = cloudformation.url
        request = CustomResourceRequest.parse(event)
        answer = request.succeeded({"Only": case}) if case == "create" else request.failed("why")
        answers.answer(event, answer, context)

    first, second = cloudformation.answers
    assert first["Data"] == {"Only": "create"}
    assert second["Data"] == {}
    assert second["Reason"] == "why"
    assert second["PhysicalResourceId"] == "ECSRunTask-Migration-e3b0c44298fc"


@pytest.mark.parametrize("reason", [None, "Task failed: exited with 3."])
def test_no_secret_is_logged_when_everything_is(
    cloudformation: AnswerServer, caplog: pytest.LogCaptureFixture, reason: str | None
) -> None:
    # An operator may set this level to find a fault.
    with caplog.at_level(logging.DEBUG):
        send(cloudformation, "create", reason)

    assert SECRET not in caplog.text
    assert "orders" not in caplog.text


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING])
def test_log_level_stays_when_an_answer_is_sent(cloudformation: AnswerServer, level: int) -> None:
    root = logging.getLogger()
    before = root.level
    root.setLevel(level)
    try:
        send(cloudformation, "create")
        assert root.level == level
    finally:
        root.setLevel(before)
