"""The one place that makes AWS clients, and the one that translates their errors.

They are botocore's, and just what `boto3.client` returns. What boto3 has besides, resources and
transfers to S3, nobody here uses, and to import it takes a twelfth of a cold start.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from ecs_ops.errors import AwsFailure, Conflict, NotFound, Throttled, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.session import Session

# "standard" retries throttling and 5xx with jitter. Three attempts are for a hiccup; a longer
# outage belongs to whoever waits without being billed: durable execution, or the queue. A call that
# hangs each time takes 39 of the 60 seconds that a function has; run_task has 180.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="ecs-ops",
)

# Checking arguments by the model takes a quarter of what an event costs, an eighth of a RunTask.
# What is sent is ours, and typed; AWS checks it too.
_UNCHECKED = _CONFIG.merge(Config(parameter_validation=False))
# A table answers in milliseconds, and several calls of it may be part of one request.
_QUICK = _UNCHECKED.merge(Config(read_timeout=4))
_CONFIGS = {"dynamodb": _QUICK, "ecs": _UNCHECKED}

# Those of botocore's own list (`botocore.retries.standard`) that count calls, and what KMS says
# through other services. LimitExceededException, there too, mostly is a quota of things.
_THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KMSThrottling",
        "KmsThrottled",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# What else botocore tries again, what services call a 5xx, and Auto Scaling's word for a change
# that is still being made.
_TRANSIENT_CODES = frozenset(
    {
        "ConcurrentUpdateException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "InternalServiceError",
        "InternalServiceException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServerException",
        "ServiceException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "TransactionInProgressException",
    }
)
_NOT_FOUND_CODES = frozenset(
    {"ClusterNotFoundException", "ResourceNotFoundException", "ServiceNotFoundException"}
)
_CONFLICT_CODES = frozenset({"ConflictException"})
_SERVER_ERROR = 500
_TOO_MANY = 429


_own_session = cache(botocore.session.get_session)


@cache
def client(service: str, region: str = "", session: Session | None = None) -> Any:
    """Return the function's client of this service: made on first use, kept while warm.

    Args:
        service: as boto3 calls it.
        region: '' for the function's own.
        session: whose credentials it uses; None for the function's own.
    """
    return (session or _own_session()).create_client(
        service, region_name=region or None, config=_CONFIGS.get(service, _CONFIG)
    )


class _Later:
    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(client(self._service), name)


def later(service: str) -> Any:
    """Return the function's client of this service, to be made when it is first asked for anything.

    To make one takes some ten milliseconds, and not every invocation needs every client.
    """
    return _Later(service)


@contextmanager
def aws_errors(operation: str) -> Iterator[None]:
    """Turn what botocore raises inside into the types of `ecs_ops.errors`.

    Raises:
        Throttled: by its code, or a 429.
        Transient: a 5xx, or no answer at all.
        NotFound: a cluster, service, table or stack that is not there.
        Conflict: one client token with two different requests.
        AwsFailure: anything else; `code` is the service's own.
    """
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        message = error.response["Error"].get("Message", "")
        text = f"{operation} failed: {code}: {message}"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _THROTTLING_CODES or status == _TOO_MANY:
            raise Throttled(text) from error
        if code in _TRANSIENT_CODES or status >= _SERVER_ERROR:
            raise Transient(text) from error
        if code in _NOT_FOUND_CODES:
            raise NotFound(text) from error
        if code in _CONFLICT_CODES:
            raise Conflict(text) from error
        raise AwsFailure(operation, code, message) from error
    except (HTTPClientError, NoConnection) as error:
        raise Transient(f"{operation} got no answer: {type(error).__name__}") from error
    except BotoCoreError as error:
        # Not its text: that of a ParamValidationError repeats what the caller passed.
        raise AwsFailure(operation, type(error).__name__, "the call was not sent") from error
