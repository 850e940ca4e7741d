"""What reaches CloudFormation, and what must not reach the log."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import example, given
from hypothesis import strategies as st

from ecs_ops.aws.cloudformation import BODY_LIMIT, CloudFormation, Stacks, response_body
from ecs_ops.custom_resource import Answer, CustomResourceRequest, attributes
from ecs_ops.errors import AwsFailure, NotFound, Transient
from tests.answer_server import SECRET, AnswerServer

EVENTS = Path(__file__).parents[2] / "events/run_task"


def request(server: AnswerServer, case: str) -> tuple[dict[str, Any], CustomResourceRequest]:
    event = json.loads((EVENTS / f"{case}.json").read_text()) | {"ResponseURL": server.url}
    return event, CustomResourceRequest.parse(event)


def send(server: AnswerServer, case: str, reason: str | None = None) -> tuple[Answer, Any]:
    """Send an answer to a sample event; return it, and what CloudFormation got."""
    event, asked = request(server, case)
    answer = asked.succeeded(attributes("Succeeded", exit_code=0))
    if reason is not None:
        # Not through `failed`, which would shorten it.
        answer = {**answer, "Status": "FAILED", "Reason": reason, "Data": {}}
    CloudFormation(sleep=lambda _: None).answer(event, answer, None)
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


@pytest.mark.parametrize("filler", ["w", "🎉 why ", "任务失败", '"', "\x00", "\ud83c"])
def test_reason_begins_with_the_verdict_when_it_is_far_too_long(
    cloudformation: AnswerServer, filler: str
) -> None:
    _, received = send(cloudformation, "create", "Task failed: " + filler * 5000)

    assert received["Reason"].startswith("Task failed: ")
    assert received["Reason"].endswith("(cut)")
    assert 0.95 * BODY_LIMIT < cloudformation.sizes[0] <= BODY_LIMIT


def test_content_type_is_empty_when_the_signature_covers_it(cloudformation: AnswerServer) -> None:
    send(cloudformation, "create")

    assert cloudformation.content_types == [""]


def test_one_answer_is_taken_when_the_server_is_busy_at_first(
    cloudformation: AnswerServer,
) -> None:
    cloudformation.refusals = [503, 429]

    _, received = send(cloudformation, "create")

    assert received["Status"] == "SUCCESS"
    assert cloudformation.attempts == 3


def test_it_may_be_tried_again_when_every_attempt_meets_a_server_error(
    cloudformation: AnswerServer,
) -> None:
    cloudformation.refusals = [500] * 9

    with pytest.raises(Transient) as failed:
        send(cloudformation, "create")

    assert SECRET not in str(failed.value)
    assert cloudformation.attempts == 3


def test_nothing_is_sent_in_its_place_when_a_success_is_refused(
    cloudformation: AnswerServer, caplog: pytest.LogCaptureFixture
) -> None:
    cloudformation.refusals = [403]

    with caplog.at_level(logging.DEBUG), pytest.raises(AwsFailure) as failed:
        send(cloudformation, "create")

    assert failed.value.code == "403"
    assert "AccessDenied" in str(failed.value)
    assert cloudformation.attempts == 1
    assert cloudformation.answers == []
    assert SECRET not in str(failed.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"https://localhost:1/answer?{SECRET}", Transient),
        (f"https://localhost:many/answer?{SECRET}", AwsFailure),
        (f"https://localhost/an\x00swer?{SECRET}", AwsFailure),
        (f"https://localhost/änswer?{SECRET}", AwsFailure),
    ],
)
def test_error_is_one_of_ours_and_keeps_the_url_secret_when_nobody_is_there(
    cloudformation: AnswerServer,
    caplog: pytest.LogCaptureFixture,
    url: str,
    error: type[Exception],
) -> None:
    event, asked = request(cloudformation, "create")
    pauses: list[float] = []

    with caplog.at_level(logging.DEBUG), pytest.raises(error) as failed:
        CloudFormation(pauses.append).answer(
            event | {"ResponseURL": url}, asked.succeeded({}), None
        )

    told = "".join(traceback.format_exception(failed.value)) + caplog.text
    assert "0123456789abcdef" not in told
    assert pauses == ([0.5, 1.0] if error is Transient else [])


def test_it_may_be_tried_again_when_the_server_is_not_trusted(
    cloudformation: AnswerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(Transient):
        send(cloudformation, "create")

    assert cloudformation.answers == []


def test_a_failure_does_not_stick_when_the_next_answer_is_taken(
    cloudformation: AnswerServer,
) -> None:
    cloudformation.refusals = [403]
    answers = CloudFormation()
    event, asked = request(cloudformation, "create")
    with pytest.raises(AwsFailure):
        answers.answer(event, asked.succeeded({}), None)

    answers.answer(event, asked.succeeded({}), None)

    assert [one["Status"] for one in cloudformation.answers] == ["SUCCESS"]


@pytest.mark.parametrize("missing", ["StackId", "RequestId", "LogicalResourceId", "RequestType"])
def test_nothing_is_sent_when_the_event_is_broken(
    cloudformation: AnswerServer, missing: str
) -> None:
    event, asked = request(cloudformation, "create")
    del event[missing]

    with pytest.raises(AwsFailure):
        CloudFormation().answer(event, asked.succeeded({}), None)

    assert cloudformation.attempts == 0


TEXTS = st.text(st.characters(), max_size=60).flatmap(
    lambda text: st.integers(1, 200).map(lambda times: text * times)
)
ATTRIBUTES = list(attributes("Succeeded"))


@given(
    status=st.sampled_from(["SUCCESS", "FAILED"]),
    reason=TEXTS,
    data=st.dictionaries(st.sampled_from(ATTRIBUTES), TEXTS),
    physical_id=st.text("abcdefghij-", min_size=1, max_size=1024),
)
@example("SUCCESS", "", dict.fromkeys(ATTRIBUTES, "🎉" * 999), "id")
@example("FAILED", "🎉" * 9999, dict.fromkeys(ATTRIBUTES, "\ud83c" * 9999), "i" * 1024)
def test_body_fits_and_loses_nothing_but_ends_of_texts_when_anything_is_answered(
    status: str, reason: str, data: dict[str, str], physical_id: str
) -> None:
    ids = {"PhysicalResourceId": physical_id, "StackId": "s" * 300, "RequestId": "r" * 36}
    whole = {**ids, "LogicalResourceId": "l" * 255, "Status": status, "NoEcho": False}

    body = response_body({**whole, "Reason": reason, "Data": data})

    received = json.loads(body)
    assert len(body) <= BODY_LIMIT
    assert received == {**whole, "Reason": received["Reason"], "Data": received["Data"]}
    assert received["Data"].keys() == data.keys()
    for sent, got in [
        (reason, received["Reason"]),
        *((data[k], received["Data"][k]) for k in data),
    ]:
        readable = sent.encode(errors="replace").decode()
        assert readable.startswith(got.removesuffix(" ... (cut)"))
    # What had room was not cut.
    if len(json.dumps([reason, data])) < 1500:
        assert "(cut)" not in body.decode() or "(cut)" in reason + "".join(data.values())
    # FAILED without a reason would be refused.
    assert bool(received["Reason"]) == bool(reason)


def test_only_the_longest_attribute_is_cut_when_attributes_are_too_long() -> None:
    data = {"TaskArn": "a" * 150, "StoppedReason": "why " * 2000, "LogGroup": "/shop"}

    received = json.loads(response_body({"Status": "SUCCESS", "Reason": "", "Data": data}))

    assert received["Data"]["StoppedReason"].endswith("(cut)")
    assert {**received["Data"], "StoppedReason": ""} == {**data, "StoppedReason": ""}


class TestStacks:
    """What DescribeStacks says of a stack."""

    def test_status_is_read_when_the_stack_exists(self) -> None:
        with stubbed() as (stub, stacks):
            stack = {"StackName": "shop", "CreationTime": 0, "StackStatus": "ROLLBACK_IN_PROGRESS"}
            stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "arn"})

            assert stacks.stack_status("arn") == "ROLLBACK_IN_PROGRESS"

    def test_statuses_above_are_read_when_the_stack_is_nested(self) -> None:
        with stubbed() as (stub, stacks):
            for name, status, above in [
                ("leaf", "DELETE_IN_PROGRESS", {"ParentId": "branch", "RootId": "root"}),
                ("branch", "DELETE_IN_PROGRESS", {"ParentId": "root", "RootId": "root"}),
                ("root", "ROLLBACK_IN_PROGRESS", {}),
            ]:
                stack = {"StackName": name, "CreationTime": 0, "StackStatus": status, **above}
                stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": name})

            assert stacks.statuses_above("leaf") == ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"]

    @pytest.mark.parametrize(
        ("code", "error"),
        [("ValidationError", NotFound), ("Throttling", Transient), ("AccessDenied", AwsFailure)],
    )
    def test_error_is_one_of_ours_when_it_is_not_read(
        self, code: str, error: type[Exception]
    ) -> None:
        with stubbed() as (stub, stacks):
            stub.add_client_error("describe_stacks", code, "Stack with id arn does not exist")

            with pytest.raises(error):
                stacks.stack_status("arn")


@contextmanager
def stubbed() -> Iterator[tuple[Stubber, Stacks]]:
    """Yield the adapter on a client that answers as it is told, and that client's stub."""
    client = boto3.client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    with Stubber(client) as stub:
        yield stub, Stacks(client)


def test_second_answer_is_not_mixed_up_when_the_sandbox_is_warm(
    cloudformation: AnswerServer,
) -> None:
    answers = CloudFormation()
    for case in ("create", "update"):
        event, asked = request(cloudformation, case)
        answer = asked.succeeded({"Only": case}) if case == "create" else asked.failed("why")
        answers.answer(event, answer, None)

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
