"""Whose credentials a request is made with, seen where it would leave the process."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from ecs_ops.aws import sessions
from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.aws.sessions import clients_for
from ecs_ops.errors import AwsFailure, EcsOpsError, InvalidRequest, NotFound
from ecs_ops.recycle import RecycleRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROLE = "arn:aws:iam::444455556666:role/recycled/shop"
OWN = RecycleRequest("shop", "web")
ELSEWHERE = replace(OWN, role_arn=ROLE)


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with mock_aws():
        for warm in (client, sessions._assumed, sessions._with_keys):
            warm.cache_clear()
        yield
        client.cache_clear()


def ask(request: RecycleRequest, **allowed: Any) -> Callable[[str], Any]:
    allowed = {"allowed_role_arns": [ROLE], "allowed_secret_arns": ["*"], **allowed}
    return clients_for(request, session_name="ecs-ops-recycle-service", **allowed)


def keys(made: Any) -> tuple[str, str | None]:
    """Return the access key and the token that a client signs with."""
    frozen = made._request_signer._credentials.get_frozen_credentials()
    return frozen.access_key, frozen.token


def secret(content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    made = boto3.client("secretsmanager").create_secret(Name="keys", SecretString=text)
    return made["ARN"]


@pytest.fixture
def assumed() -> list[dict[str, Any]]:
    """Return what AssumeRole is asked, as it goes on."""
    asked: list[dict[str, Any]] = []
    client("sts").meta.events.register(
        "provide-client-params.sts.AssumeRole", lambda params, **_: asked.append(dict(params))
    )
    return asked


def let_pass(monkeypatch: pytest.MonkeyPatch, made: Any, minutes: int) -> None:
    """Have the credentials of a client see a later time."""
    later = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr(made._request_signer._credentials, "_time_fetcher", lambda: later)


def test_clients_are_the_functions_own_when_nothing_else_is_asked_for() -> None:
    assert ask(OWN)("ecs") is client("ecs")


def test_client_is_of_another_region_when_it_is_asked_for() -> None:
    made = ask(replace(OWN, region_name="eu-west-1"))("ecs")

    assert made.meta.region_name == "eu-west-1"
    assert keys(made) == keys(client("ecs"))


def test_role_is_assumed_when_the_first_call_is_made(assumed: list[dict[str, Any]]) -> None:
    clients = ask(replace(ELSEWHERE, external_id="shop-1", region_name="eu-west-1"))
    made = clients("ecs")
    assert assumed == []

    made.list_clusters()

    assert keys(made) != keys(client("ecs"))
    assert made.meta.region_name == "eu-west-1"
    # The configuration of the function's own clients.
    assert made.meta.config.retries == client("ecs").meta.config.retries
    assert assumed == [
        {
            "RoleArn": ROLE,
            "RoleSessionName": "ecs-ops-recycle-service",
            "ExternalId": "shop-1",
        }
    ]


def test_role_is_assumed_once_when_several_clients_use_it(assumed: list[dict[str, Any]]) -> None:
    ask(ELSEWHERE)("ecs").list_clusters()
    ask(ELSEWHERE)("elbv2").describe_target_groups()

    assert len(assumed) == 1
    assert "ExternalId" not in assumed[0]


def test_role_is_assumed_by_itself_when_the_external_id_differs() -> None:
    first = ask(replace(ELSEWHERE, external_id="shop-1"))("ecs")
    second = ask(replace(ELSEWHERE, external_id="shop-2"))("ecs")

    assert keys(first) != keys(second)


def test_role_is_assumed_again_when_its_credentials_are_about_to_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ask(ELSEWHERE)("ecs")
    first = keys(made)

    let_pass(monkeypatch, made, 40)
    assert keys(made) == first
    let_pass(monkeypatch, made, 49)
    assert keys(made) != first


def test_error_names_assume_role_when_it_is_refused() -> None:
    """What the call that needed the credentials raises, though it is another that failed."""
    wrong = replace(ELSEWHERE, role_arn="short")
    made = ask(wrong, allowed_role_arns=["*"])("ecs")

    with pytest.raises(AwsFailure) as caught, aws_errors("ListClusters"):
        made.list_clusters()

    assert caught.value.operation == "AssumeRole"


@pytest.mark.parametrize(
    "allowed",
    [
        [],
        ["arn:aws:iam::444455556666:role/other"],
        ["arn:aws:iam::444455556666:role/recycled"],
        ["arn:aws:iam::111122223333:role/*"],
        [ROLE.upper()],
    ],
)
def test_role_is_refused_before_any_call_when_it_is_not_allowed(
    assumed: list[dict[str, Any]], allowed: list[str]
) -> None:
    with pytest.raises(InvalidRequest, match=r"^role_arn: .*/shop is not among") as caught:
        ask(ELSEWHERE, allowed_role_arns=allowed)

    assert caught.value.field == "role_arn"
    assert assumed == []


@pytest.mark.parametrize("pattern", [ROLE, "arn:aws:iam::*:role/recycled/*", "*"])
def test_role_is_allowed_when_a_pattern_fits(pattern: str) -> None:
    clients = ask(ELSEWHERE, allowed_role_arns=["arn:aws:iam::1:role/other", pattern])

    assert keys(clients("ecs")) != keys(client("ecs"))


def test_role_is_checked_again_when_it_was_allowed_a_moment_ago() -> None:
    ask(ELSEWHERE)

    with pytest.raises(InvalidRequest):
        ask(ELSEWHERE, allowed_role_arns=[])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"access_key": "AKIA1", "secret_key": "s"}, ("AKIA1", None)),
        ({"access_key": "AKIA1", "secret_key": "s", "session_token": ""}, ("AKIA1", None)),
        ({"access_key": "AKIA1", "secret_key": "s", "session_token": "t"}, ("AKIA1", "t")),
    ],
)
def test_keys_of_a_secret_are_used_when_it_is_named(
    content: dict[str, str], expected: tuple[str, str | None]
) -> None:
    request = replace(OWN, credentials_secret_arn=secret(content), region_name="eu-west-1")

    made = ask(request)("ecs")

    assert keys(made) == expected
    assert made.meta.region_name == "eu-west-1"


def test_secret_is_read_anew_when_an_hour_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = secret({"access_key": "AKIA1", "secret_key": "s"})
    made = ask(replace(OWN, credentials_secret_arn=arn))("ecs")
    assert keys(made) == ("AKIA1", None)
    boto3.client("secretsmanager").put_secret_value(
        SecretId=arn, SecretString=json.dumps({"access_key": "AKIA2", "secret_key": "s"})
    )
    assert keys(made) == ("AKIA1", None)

    let_pass(monkeypatch, made, 49)
    assert keys(made) == ("AKIA2", None)


@pytest.mark.parametrize(
    "content",
    [
        "hunter2",
        "",
        '{"access_key": "hunter2"',
        {"access_key": "hunter2"},
        {"secret_key": "hunter2"},
        {"access_key": "AKIA1", "secret_key": ["hunter2"]},
        {"access_key": "", "secret_key": "hunter2"},
        ["hunter2"],
    ],
)
def test_secret_is_never_quoted_when_it_holds_no_keys(content: object) -> None:
    made = ask(replace(OWN, credentials_secret_arn=secret(content or " ")))("ecs")

    with pytest.raises(InvalidRequest) as caught, aws_errors("ListClusters"):
        made.list_clusters()

    assert caught.value.field == "credentials_secret_arn"
    error: BaseException | None = caught.value
    while error:
        assert "hunter2" not in "".join(traceback.format_exception_only(error))
        assert "hunter2" not in repr(vars(error))
        error = error.__cause__ or error.__context__


def test_error_names_the_call_when_there_is_no_such_secret() -> None:
    arn = "arn:aws:secretsmanager:us-west-2:123456789012:secret:nowhere-abcdef"
    made = ask(replace(OWN, credentials_secret_arn=arn))("ecs")

    with pytest.raises(NotFound, match="GetSecretValue"), aws_errors("ListClusters"):
        made.list_clusters()


def test_secret_is_refused_when_it_is_not_allowed() -> None:
    request = replace(OWN, credentials_secret_arn="arn:aws:secretsmanager:us-west-2:1:secret:keys")

    with pytest.raises(EcsOpsError, match=r"^credentials_secret_arn: .*:keys is not among"):
        ask(request, allowed_secret_arns=["arn:aws:secretsmanager:us-west-2:1:secret:other-*"])
