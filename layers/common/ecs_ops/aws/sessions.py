"""Clients for a service elsewhere: in another Region, or with other credentials.

| asked for | what is called, with the function's own credentials |
| --- | --- |
| `role_arn`, `external_id` | sts:AssumeRole on that role |
| `credentials_secret_arn` | secretsmanager:GetSecretValue on that secret |

Nothing is called before a client needs to sign its first request, so that what goes wrong is met
where API errors are met. Credentials are fetched anew before they expire; those of a secret once
an hour, in case somebody has changed them.

The secret is a JSON object with `access_key`, `secret_key` and, for temporary ones,
`session_token`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)

from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from botocore.session import Session
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef

    from ecs_ops.recycle import RecycleRequest

_REREAD: Final = 3_600
"""Seconds after which the keys of a secret count as expired."""
_LONGEST_NAME: Final = 64
"""Characters of a role session's name: the API's own limit."""


def clients_for(
    request: RecycleRequest,
    *,
    allowed_role_arns: Iterable[str],
    allowed_secret_arns: Iterable[str],
    session_name: str,
) -> Callable[[str], Any]:
    """Return what makes the clients for a request: from a service, as boto3 calls it.

    Args:
        request: what was asked for.
        allowed_role_arns: ARNs of roles that may be assumed; `*` stands for anything.
        allowed_secret_arns: ARNs of secrets that may be read; likewise.
        session_name: what CloudTrail shows as the role session: the function's name.

    Raises:
        InvalidRequest: the role or the secret is not allowed. Of what the clients do, the first
            call raises it too, when the secret holds no keys; and what `aws_errors` raises.
    """
    if request.role_arn:
        _check("role_arn", request.role_arn, allowed_role_arns)
        session = _assumed(request.role_arn, request.external_id, session_name[:_LONGEST_NAME])
    elif request.credentials_secret_arn:
        _check("credentials_secret_arn", request.credentials_secret_arn, allowed_secret_arns)
        session = _with_keys(request.credentials_secret_arn)
    elif request.region_name:
        session = None
    else:
        return client
    return partial(client, region=request.region_name, session=session)


def _check(field: str, arn: str, allowed: Iterable[str]) -> None:
    if not any(fnmatchcase(arn, pattern) for pattern in allowed):
        raise InvalidRequest(field, f"{arn} is not among those that the stack's parameters allow")


@cache
def _assumed(role_arn: str, external_id: str, session_name: str) -> Session:
    def fetch() -> dict[str, Any]:
        sts: STSClient = client("sts")
        asked: AssumeRoleRequestTypeDef = {"RoleArn": role_arn, "RoleSessionName": session_name}
        if external_id:
            asked["ExternalId"] = external_id
        with aws_errors("AssumeRole"):
            credentials = sts.assume_role(**asked)["Credentials"]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": credentials["Expiration"].isoformat(),
        }

    return _session(fetch)


@cache
def _with_keys(secret_arn: str) -> Session:
    # arn:partition:secretsmanager:region:account:secret:name
    region = secret_arn.split(":")[3] if secret_arn.count(":") > 3 else ""  # noqa: PLR2004

    def fetch() -> dict[str, Any]:
        secrets: SecretsManagerClient = client("secretsmanager", region)
        with aws_errors("GetSecretValue"):
            text = secrets.get_secret_value(SecretId=secret_arn).get("SecretString", "")
        expires = datetime.fromtimestamp(time.time() + _REREAD, UTC)
        return {**_keys(text), "expiry_time": expires.isoformat()}

    return _session(fetch)


def _keys(text: str) -> dict[str, str | None]:
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    match keys:
        case {"access_key": str(access_key), "secret_key": str(secret_key)} if (
            access_key and secret_key
        ):
            token = keys.get("session_token") or None
            return {"access_key": access_key, "secret_key": secret_key, "token": token}
        case _:
            # Without the text, and not from what failed to read it: both hold the secret.
            raise InvalidRequest(
                "credentials_secret_arn", "must hold a JSON object with access_key and secret_key"
            )


class _Provider(CredentialProvider):
    """Hands botocore credentials that fetch themselves, on first use and before they expire."""

    METHOD = "ecs-ops"

    def __init__(self, fetch: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._fetch = fetch

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._fetch, method=self.METHOD)


def _session(fetch: Callable[[], dict[str, Any]]) -> Session:
    session = botocore.session.get_session()
    session.register_component("credential_provider", CredentialResolver([_Provider(fetch)]))
    return session
