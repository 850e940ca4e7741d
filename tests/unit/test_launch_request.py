"""What a caller of launch_task may ask for, and how they are told it went wrong."""

import base64
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import AwsFailure, Conflict, InvalidRequest, NotFound, Transient
from ecs_ops.launch_request import (
    LaunchRequest,
    Reply,
    launch_arguments,
    launch_token,
    no_route,
    problem_of,
    read_environment,
)
from ecs_ops.settings import LaunchTaskSettings, MissingSettings

EVENTS = Path(__file__).parents[2] / "events/launch_task"
ALICE = "arn:aws:sts::111122223333:assumed-role/Developer/alice"
SETTINGS = LaunchTaskSettings(
    cluster="shop",
    task_definition="nightly",
    container="job",
    subnets=("subnet-1", "subnet-2"),
    security_groups=("sg-1",),
    assign_public_ip="DISABLED",
    allowed_environment=("JOB_*", "MODE"),
)


def environment(body: str | None, *, is_base64: bool = False) -> dict[str, str]:
    return read_environment(body, is_base64=is_base64, allowed=("JOB_*", "MODE"))


def refusal(body: str, *, is_base64: bool = False) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        environment(body, is_base64=is_base64)
    return refused.value


def document(reply: Reply) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(reply.body)
    return content


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_event_is_understood_when_it_is_one_of_the_samples(path: Path) -> None:
    event = json.loads(path.read_text())

    request = LaunchRequest.parse(event)

    assert request.caller == ALICE
    assert request.request_id == "8f6f0d6c-0000-4000-8000-000000000001"
    assert request.idempotency_key == event["headers"].get("idempotency-key")


@pytest.mark.parametrize("authorizer", [None, {}, {"iam": None}, {"iam": {"userArn": None}}])
def test_caller_is_nobody_when_the_request_was_not_signed(authorizer: Any) -> None:
    event = json.loads((EVENTS / "post.json").read_text())
    event["requestContext"]["authorizer"] = authorizer

    assert LaunchRequest.parse(event).caller == ""


def test_values_become_the_text_they_are_written_as_when_they_are_no_strings() -> None:
    body = '{"JOB_A": 1.10, "JOB_B": 1e400, "JOB_C": true, "JOB_D": -0, "MODE": "x"}'

    assert environment(body) == {
        "JOB_A": "1.10",
        "JOB_B": "1e400",
        "JOB_C": "true",
        "JOB_D": "-0",
        "MODE": "x",
    }


@given(
    st.dictionaries(
        st.from_regex(r"\AJOB_[A-Z0-9_]{0,20}\Z"),
        st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    ),
    st.booleans(),
)
def test_strings_arrive_unchanged_when_names_are_allowed(
    values: dict[str, str],
    is_base64: bool,  # noqa: FBT001
) -> None:
    body = json.dumps(values)
    sent = base64.b64encode(body.encode()).decode() if is_base64 else body

    assert environment(sent, is_base64=is_base64) == values


@pytest.mark.parametrize("body", [None, "", "  \n", "{}"])
def test_environment_is_empty_when_the_body_is(body: str | None) -> None:
    assert environment(body) == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("not json", "body"),
        ('{"MODE": "x"', "body"),
        ('"MODE"', "body"),
        ("[]", "body"),
        ('[["MODE", "x"]]', "body"),
        ("3", "body"),
        ("null", "body"),
        ('{"MODE": NaN}', "body"),
        ("[" * 200_000, "body"),
        ('{"MODE":' * 200_000, "body"),
        ('{"MODE": null}', "MODE"),
        ('{"MODE": {}}', "MODE"),
        ('{"MODE": {"A": "b"}}', "MODE"),
        ('{"MODE": ["a"]}', "MODE"),
        ('{"MODE": "a", "MODE": "b"}', "MODE"),
        ('{"PATH": "/tmp"}', "PATH"),
        ('{"MODE2": "a"}', "MODE2"),
        ('{"mode": "a"}', "mode"),
        ('{"": "a"}', ""),
        ('{"JOB_=": "a"}', "JOB_="),
    ],
)
def test_body_is_refused_by_name_when_it_is_wrong(body: str, field: str) -> None:
    assert refusal(body).field == field


@pytest.mark.parametrize("body", ["not base64!", base64.b64encode(b"\xff\xfe").decode()])
def test_body_is_refused_when_it_is_not_text(body: str) -> None:
    assert refusal(body, is_base64=True).field == "body"


def test_nothing_may_be_set_when_nothing_is_allowed() -> None:
    with pytest.raises(InvalidRequest):
        read_environment('{"MODE": "x"}', is_base64=False, allowed=())


def test_no_value_is_repeated_when_a_body_is_refused() -> None:
    assert "hunter2" not in str(refusal('{"SECRET": "hunter2"}'))
    assert "hunter2" not in str(refusal('{"MODE": ["hunter2"]}'))


def token(caller: str = ALICE, key: str | None = "k", request_id: str = "1") -> str:
    return launch_token(caller=caller, key=key, request_id=request_id)


def test_token_is_the_same_when_the_caller_repeats_the_key() -> None:
    assert token(request_id="1") == token(request_id="2")


def test_token_differs_when_another_caller_uses_the_key() -> None:
    assert token(caller=ALICE) != token(caller="arn:aws:iam::111122223333:user/bob")


def test_token_differs_when_requests_have_no_key() -> None:
    assert token(key=None, request_id="1") != token(key=None, request_id="2")


def test_key_cannot_be_another_ones_request_id() -> None:
    assert token(caller="", key="1") != token(caller="", key=None, request_id="1")


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_key_is_refused_when_its_length_is_wrong(key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        token(key=key)

    assert refused.value.field == "Idempotency-Key"


def test_default_profile_is_launched_on_fargate() -> None:
    sent = launch_arguments(
        SETTINGS, container="job", environment={"MODE": "x"}, caller=ALICE, token="t"
    )

    assert sent == {
        "cluster": "shop",
        "taskDefinition": "nightly",
        "clientToken": "t",
        "startedBy": "launch_task/assumed-role/Developer/alice",
        "count": 1,
        "launchType": "FARGATE",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["subnet-1", "subnet-2"],
                "securityGroups": ["sg-1"],
                "assignPublicIp": "DISABLED",
            }
        },
        "overrides": {
            "containerOverrides": [{"name": "job", "environment": [{"name": "MODE", "value": "x"}]}]
        },
    }


def test_started_by_says_so_when_the_caller_is_nobody() -> None:
    sent = launch_arguments(SETTINGS, container="job", environment={}, caller="", token="t")

    assert sent["startedBy"] == "launch_task/anonymous"


def test_body_is_blamed_when_the_environment_is_too_large() -> None:
    with pytest.raises(InvalidRequest) as refused:
        launch_arguments(
            SETTINGS, container="job", environment={"MODE": "x" * 9000}, caller="", token="t"
        )

    assert refused.value.field == "body"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("MODE", "is wrong"), 400),
        (Conflict("taken"), 409),
        (Transient("busy"), 503),
        (AwsFailure("RunTask", "AccessDenied", "arn:aws:iam::1:role/x"), 500),
        (NotFound("no cluster shop"), 500),
        (MissingSettings("LAUNCH_CONTAINER"), 500),
        (KeyError("x"), 500),
    ],
)
def test_problem_has_the_shape_of_rfc_9457_whatever_went_wrong(
    error: Exception, status: int
) -> None:
    reply = problem_of(error, "ref-1")

    assert reply.status == status
    assert reply.content_type == "application/problem+json"
    assert document(reply)["type"] == "about:blank"
    assert document(reply)["title"] == HTTPStatus(status).phrase
    assert document(reply)["status"] == status
    assert document(reply)["detail"]


def test_field_is_named_when_the_caller_can_mend_it() -> None:
    reply = problem_of(InvalidRequest("MODE", "is wrong"), "ref-1")

    assert document(reply)["field"] == "MODE"
    assert document(reply)["detail"] == "is wrong"


def test_caller_is_told_when_to_come_back_when_ecs_is_busy() -> None:
    assert int(problem_of(Transient("busy"), "ref-1").headers["Retry-After"]) > 0


def test_only_a_reference_is_told_when_the_caller_cannot_mend_it() -> None:
    reply = problem_of(AwsFailure("RunTask", "AccessDenied", "arn:aws:iam::1:role/x"), "ref-1")

    assert document(reply)["reference"] == "ref-1"
    assert "arn:aws" not in reply.body
    assert "AccessDenied" not in reply.body


def test_method_is_refused_when_the_path_has_another() -> None:
    reply = no_route("/")

    assert reply.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert reply.headers["Allow"] == "POST"


def test_path_is_not_found_when_nothing_is_there() -> None:
    assert no_route("/nothing").status == HTTPStatus.NOT_FOUND
