"""AWS's errors become types; what a caller passed is in none of their texts."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.session import get_session

from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.errors import AwsFailure, Conflict, NotFound, Throttled, Transient


def _client_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "RunTask")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (_client_error("ThrottlingException"), Throttled),
        (_client_error("ThrottlingException", 500), Throttled),
        (_client_error("Whatever", 503), Transient),
        (_client_error("Whatever", 429), Throttled),
        (_client_error("Throttling"), Throttled),
        (_client_error("RequestLimitExceeded"), Throttled),
        (_client_error("ProvisionedThroughputExceededException"), Throttled),
        (_client_error("KMSThrottling"), Throttled),
        (_client_error("LimitExceededException"), Transient),
        (_client_error("RequestTimeout"), Transient),
        (_client_error("ClusterNotFoundException"), NotFound),
        (_client_error("ConflictException"), Conflict),
        (_client_error("AccessDeniedException"), AwsFailure),
        (ConnectTimeoutError(endpoint_url="https://ecs"), Transient),
        (ReadTimeoutError(endpoint_url="https://ecs"), Transient),
        (NoCredentialsError(), AwsFailure),
        (ParamValidationError(report="value: hunter2"), AwsFailure),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_type_is_what_a_caller_can_act_on_when_aws_fails(
    raised: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught, aws_errors("RunTask"):
        raise raised

    assert caught.type is expected
    assert "RunTask" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_throttling_is_worth_another_try_as_all_that_passes_is() -> None:
    assert issubclass(Throttled, Transient)


@pytest.mark.parametrize(("service", "most"), [("dynamodb", 25), ("ecs", 45), ("ssm", 45)])
def test_time_is_left_of_a_functions_minute_when_one_call_hangs_at_each_try(
    service: str, most: int
) -> None:
    session = get_session()
    session.set_credentials("key", "secret")
    config: Any = client(service, "eu-west-1", session).meta.config

    tries = config.retries["total_max_attempts"]
    assert tries * (config.connect_timeout + config.read_timeout) <= most
