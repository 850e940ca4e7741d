"""What launch_task goes by to tell who may do what: its secret, its profiles, used signatures.

Nothing of a secret is in any log or error: what AWS's answers hold is never part of either.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, EcsOpsError, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

_STALE_SECONDS: Final = 900
"""How old a copy may be that is used because AWS gives no newer one."""

_RETRY_SECONDS: Final = 10
"""For how long a failure is believed: strangers must not make us ask for each of their requests."""

_logger = logging.getLogger(__name__)


class Cached:
    """A text that is read from AWS again when its copy gets old."""

    def __init__(self, name: str, read: Callable[[], str], clock: Callable[[], float]) -> None:
        """Keep what `read` returns; `name` is for the log, `clock` gives seconds."""
        self._name = name
        self._read = read
        self._clock = clock
        self._copy: tuple[float, str] | None = None
        self._failure: tuple[float, EcsOpsError] | None = None

    def read(self, *, at_most_seconds_old: float) -> str:
        """Return the text.

        When AWS has no answer, a copy that is up to 15 minutes old is returned all the same.

        Raises:
            Transient: there is no such copy.
            EcsOpsError: what `aws_errors` raises.
        """
        now = self._clock()
        # Of the moment before the call: what changes while it is made is not in the copy.
        age, text = (now - self._copy[0], self._copy[1]) if self._copy else (float("inf"), "")
        if age <= at_most_seconds_old:
            return text
        if not self._failure or now - self._failure[0] > _RETRY_SECONDS:
            try:
                self._copy, self._failure = (now, self._read()), None
            except EcsOpsError as error:
                self._failure = now, error
                _logger.warning("Reading %s failed, the copy is %.0f s old", self._name, age)
            else:
                return self._copy[1]
        if age <= _STALE_SECONDS and isinstance(self._failure[1], Transient):
            return text
        raise self._failure[1]


class Secret(Cached):
    """The text of a secret. Needs secretsmanager:GetSecretValue on it."""

    def __init__(
        self,
        secretsmanager: Callable[[], SecretsManagerClient],
        arn: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def read() -> str:
            with aws_errors("GetSecretValue"):
                answer: Mapping[str, Any] = secretsmanager().get_secret_value(SecretId=arn)
            if "SecretString" not in answer:
                raise AwsFailure("GetSecretValue", "NoSecretString", f"{arn} holds no text")
            return str(answer["SecretString"])

        super().__init__(f"secret {arn}", read, clock)


class ProfilesParameter(Cached):
    """The value of an SSM parameter. Needs ssm:GetParameter, and kms:Decrypt for a SecureString."""

    def __init__(
        self,
        ssm: Callable[[], SSMClient],
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def read() -> str:
            with aws_errors("GetParameter"):
                answer = ssm().get_parameter(Name=name, WithDecryption=True)
            return answer["Parameter"].get("Value", "")

        super().__init__(f"parameter {name}", read, clock)


class SeenSignatures:
    """Signatures that were used, in a table of their own. Needs dynamodb:PutItem on it."""

    def __init__(self, dynamodb: Callable[[], DynamoDBClient], table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def claim(self, signature: str, until: int) -> bool:
        """Use a signature up; say whether it was still unused.

        Args:
            signature: only its digest is stored.
            until: epoch seconds after which the table may forget it.

        Raises:
            EcsOpsError: what `aws_errors` raises; the signature may have been used up.
        """
        dynamodb = self._dynamodb()
        claim = uuid4().hex
        with aws_errors("PutItem"):
            try:
                dynamodb.put_item(
                    TableName=self._table,
                    Item={
                        "signature": {"S": hashlib.sha256(signature.encode()).hexdigest()},
                        "ttl": {"N": str(until)},
                        "claim": {"S": claim},
                    },
                    ConditionExpression="attribute_not_exists(signature)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except dynamodb.exceptions.ConditionalCheckFailedException as error:
                answer: Mapping[str, Any] = error.response
                # An answer was lost, and botocore asked again: it was our own claim that refused.
                return bool(answer.get("Item", {}).get("claim") == {"S": claim})
        return True
