"""Requests as Lambda hands them over, and the answers they get."""

import base64
import dataclasses
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from ecs_ops.errors import AwsFailure, Conflict, InvalidRequest, NotFound, Throttled, Transient
from ecs_ops.launch_api import (
    BODY_LIMIT,
    NotThere,
    Reply,
    Request,
    TooLarge,
    Unauthorized,
    description,
    methods_at,
    no_route,
    page,
    problem_of,
)
from ecs_ops.launch_profile import BrokenProfile
from ecs_ops.settings import MissingSettings

REPOSITORY = Path(__file__).parents[2]
EVENTS = REPOSITORY / "events/launch_task"
OPENAPI = (REPOSITORY / "functions/launch_task/openapi.json").read_text()
ALICE = "arn:aws:sts::111122223333:assumed-role/Developer/alice"


def content(reply: Reply) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(reply.body)
    return document


def request(body: str, *, is_base64: bool = False) -> Request:
    event = json.loads((EVENTS / "post.json").read_text())
    return dataclasses.replace(Request.parse(event), content=body, is_base64=is_base64)


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_event_is_understood_when_it_is_one_of_the_samples(path: Path) -> None:
    event = json.loads(path.read_text())

    parsed = Request.parse(event)

    assert parsed.method == event["requestContext"]["http"]["method"]
    assert parsed.path == event["requestContext"]["http"]["path"]
    assert parsed.id == "8f6f0d6c-0000-4000-8000-000000000001"
    assert parsed.headers == event["headers"]


@pytest.mark.parametrize("authorizer", [None, {}, {"iam": None}, {"iam": {"userArn": None}}])
def test_nobody_has_signed_when_aws_says_so(authorizer: Any) -> None:
    event = json.loads((EVENTS / "post.json").read_text())
    assert Request.parse(event).iam_arn == ALICE

    event["requestContext"]["authorizer"] = authorizer

    assert Request.parse(event).iam_arn == ""


class TestBody:
    def test_text_is_decoded_when_lambda_encoded_it(self) -> None:
        sent = base64.b64encode('{"a": "ä"}'.encode()).decode()

        assert request(sent, is_base64=True).text() == request('{"a": "ä"}').text()

    @pytest.mark.parametrize("body", ["not base64!", base64.b64encode(b"\xff\xfe").decode()])
    def test_body_is_refused_when_it_is_not_text(self, body: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            request(body, is_base64=True).text()

        assert refused.value.field == "body"

    @pytest.mark.parametrize("size", [BODY_LIMIT, BODY_LIMIT + 1])
    @pytest.mark.parametrize("is_base64", [True, False])
    def test_body_is_refused_when_it_is_too_large(self, size: int, is_base64: bool) -> None:  # noqa: FBT001
        body = base64.b64encode(b"x" * size).decode() if is_base64 else "x" * size
        sent = request(body, is_base64=is_base64)

        if size > BODY_LIMIT:
            with pytest.raises(TooLarge):
                sent.body()
        else:
            assert len(sent.body()) == size


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("MODE", "is wrong"), 400),
        (Unauthorized(), 401),
        (NotThere("There is no such run."), 404),
        (Conflict("taken"), 409),
        (TooLarge("body", "is too large"), 413),
        (Throttled("slow down"), 429),
        (Transient("busy"), 503),
        (AwsFailure("RunTask", "AccessDenied", "arn:aws:iam::1:role/x"), 500),
        (NotFound("no cluster shop"), 500),
        (BrokenProfile("profile x"), 500),
        (MissingSettings("LAUNCH_CONTAINER"), 500),
        (KeyError("x"), 500),
    ],
)
def test_problem_has_the_shape_of_rfc_9457_whatever_went_wrong(
    error: Exception, status: int
) -> None:
    reply = problem_of(error, "ref-1", "TOKEN")

    told = content(reply)
    assert reply.status == told["status"] == status
    assert reply.content_type == "application/problem+json"
    assert told["type"] == "about:blank"
    assert told["title"] == HTTPStatus(status).phrase
    assert told["detail"]
    assert ("field" in told) is (status in {400, 404, 409, 413})
    assert ("reference" in told) is (status in {429, 500, 503})
    assert ("Retry-After" in reply.headers) is (status in {429, 503})
    assert ("WWW-Authenticate" in reply.headers) is (status == 401)


@pytest.mark.parametrize(
    ("auth", "challenge"),
    [("AWS_IAM", "AWS4-HMAC-SHA256"), ("TOKEN", "Bearer"), ("HMAC", "HMAC-SHA256")],
)
def test_nobody_is_told_to_bring_what_is_of_no_use_here(auth: str, challenge: str) -> None:
    reply = problem_of(Unauthorized(), "ref-1", auth)

    assert reply.headers["WWW-Authenticate"] == challenge


def test_field_is_named_when_the_caller_can_mend_it() -> None:
    told = content(problem_of(InvalidRequest("MODE", "is wrong"), "ref-1", "TOKEN"))

    assert (told["field"], told["detail"]) == ("MODE", "is wrong")


def test_answer_stays_small_when_the_name_of_a_field_is_not() -> None:
    assert len(problem_of(InvalidRequest("X" * BODY_LIMIT, "is wrong"), "r", "TOKEN").body) < 1000


def test_only_a_reference_is_told_when_the_caller_cannot_mend_it() -> None:
    refused = AwsFailure("RunTask", "AccessDenied", "arn:aws:iam::1:role/x")
    reply = problem_of(refused, "ref-1", "TOKEN")

    assert content(reply)["reference"] == "ref-1"
    assert "arn:aws" not in reply.body
    assert "AccessDenied" not in reply.body


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, POST"),
        ("/runs", "GET, POST"),
        ("/runs/0123", "DELETE, GET"),
        ("/runs/0123/logs", "GET"),
        ("/openapi.json", "GET"),
        ("/openapi_json", ""),
        ("/runs/", ""),
        ("/runs/1/2", ""),
        ("/nothing", ""),
    ],
)
def test_methods_are_those_of_the_document(path: str, methods: str) -> None:
    found = methods_at(path, OPENAPI)

    assert found == methods
    assert no_route("PUT", found).status == (405 if methods else 404)
    assert no_route("PUT", found).headers.get("Allow", "") == methods
    assert no_route(methods.partition(",")[0], found).status == 404


@pytest.mark.parametrize(
    ("auth", "scheme"), [("AWS_IAM", "iam"), ("TOKEN", "token"), ("HMAC", "hmac")]
)
def test_document_names_the_way_in_that_there_is(auth: str, scheme: str) -> None:
    assert content(description(OPENAPI, auth))["security"] == [{scheme: []}]


def test_page_may_run_its_own_script_and_nothing_else() -> None:
    policy = page("<style>a{}</style><script>go()</script>").headers["Content-Security-Policy"]

    # printf %s 'go()' | openssl dgst -sha256 -binary | base64
    assert "script-src 'sha256-5KYv+PUboo5h+0+YAtGRPbwv5d/QxzHslP4YGnUaxRw=';" in policy
    assert "style-src 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk=';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_document_holds_no_stray_key() -> None:
    def stray(part: Any) -> list[str]:
        if isinstance(part, dict):
            return [key for key, value in part.items() if value is None] + stray([*part.values()])
        return [key for item in part for key in stray(item)] if isinstance(part, list) else []

    assert stray(json.loads(OPENAPI)) == []
