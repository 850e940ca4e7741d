"""What launch_task reads to let callers in, and what it keeps; nothing of a secret gets out."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from ecs_ops.aws.launch_access import ProfilesParameter, Secret, SeenSignatures
from ecs_ops.errors import AwsFailure, NotFound, Throttled, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "eu-west-1"
TABLE = "ecs-ops-launch-signatures"
SIGNATURE = "sha256=0f1e2d3c"
TEXT = '{"default": "hunter2"}'


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ---------------------------------------------------------------- the secret
@pytest.fixture
def secrets() -> Any:
    return boto3.client("secretsmanager", region_name=REGION)


@pytest.fixture
def arn(secrets: Any) -> str:
    created = secrets.create_secret(Name="launcher", SecretString=TEXT)
    return str(created["ARN"])


def failing(secrets: Any, code: str, status: int = 400) -> Stubber:
    stub = Stubber(secrets)
    stub.add_client_error("get_secret_value", code, "why", status)
    return stub


def test_secret_is_read_when_it_is_asked_for_first(secrets: Any, arn: str, clock: Clock) -> None:
    assert Secret(lambda: secrets, arn, clock).read(at_most_seconds_old=60) == TEXT


def test_client_is_not_made_until_the_secret_is_asked_for(arn: str) -> None:
    def unwanted() -> Any:
        pytest.fail("nobody has asked yet")

    Secret(unwanted, arn)


def test_secret_is_read_again_only_when_its_copy_is_too_old(
    secrets: Any, arn: str, clock: Clock
) -> None:
    secret = Secret(lambda: secrets, arn, clock)
    secret.read(at_most_seconds_old=60)
    secrets.put_secret_value(SecretId=arn, SecretString="{}")

    clock.now += 30
    assert secret.read(at_most_seconds_old=60) == TEXT
    assert secret.read(at_most_seconds_old=30) == TEXT
    assert secret.read(at_most_seconds_old=10) == "{}"
    # And that is the copy from now on.
    clock.now += 60
    assert secret.read(at_most_seconds_old=60) == "{}"


@pytest.mark.parametrize("failure", [("ThrottlingException", 400), ("InternalServiceError", 500)])
def test_copy_does_for_a_quarter_of_an_hour_when_aws_has_no_answer(
    secrets: Any,
    arn: str,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    failure: tuple[str, int],
) -> None:
    secret = Secret(lambda: secrets, arn, clock)
    secret.read(at_most_seconds_old=60)
    clock.now += 900

    with caplog.at_level(logging.DEBUG, "ecs_ops"), failing(secrets, *failure):
        assert secret.read(at_most_seconds_old=60) == TEXT

    assert len(caplog.records) == 1
    assert "hunter2" not in caplog.text
    clock.now += 1
    with failing(secrets, *failure), pytest.raises(Transient) as failed:
        secret.read(at_most_seconds_old=60)
    assert "hunter2" not in repr(failed.value)


def test_secret_is_read_again_when_aws_answers_once_more(
    secrets: Any, arn: str, clock: Clock
) -> None:
    secret = Secret(lambda: secrets, arn, clock)
    secret.read(at_most_seconds_old=60)
    clock.now += 100
    with failing(secrets, "InternalServiceError", 500):
        secret.read(at_most_seconds_old=60)
    secrets.put_secret_value(SecretId=arn, SecretString="{}")

    # Not for every request of a stranger.
    assert secret.read(at_most_seconds_old=60) != "{}"
    clock.now += 11
    assert secret.read(at_most_seconds_old=60) == "{}"


def test_error_passes_when_there_is_no_copy(secrets: Any, arn: str, clock: Clock) -> None:
    with failing(secrets, "ThrottlingException"), pytest.raises(Throttled):
        Secret(lambda: secrets, arn, clock).read(at_most_seconds_old=60)


def test_no_copy_is_used_when_aws_refuses(secrets: Any, arn: str, clock: Clock) -> None:
    secret = Secret(lambda: secrets, arn, clock)
    secret.read(at_most_seconds_old=60)
    clock.now += 100

    with failing(secrets, "AccessDeniedException"), pytest.raises(AwsFailure):
        secret.read(at_most_seconds_old=60)
    with pytest.raises(AwsFailure):
        secret.read(at_most_seconds_old=60)
    clock.now += 11
    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    with pytest.raises(NotFound):
        secret.read(at_most_seconds_old=60)


def test_nothing_of_it_is_told_when_the_secret_is_binary(secrets: Any, clock: Clock) -> None:
    created = secrets.create_secret(Name="binary", SecretBinary=b"hunter2")

    with pytest.raises(AwsFailure) as failed:
        Secret(lambda: secrets, created["ARN"], clock).read(at_most_seconds_old=60)

    assert "hunter2" not in repr(failed.value)


# ---------------------------------------------------------------- the profiles
@pytest.mark.parametrize("kind", ["String", "SecureString"])
def test_profiles_are_read_in_clear_when_they_are_stored_in_either_way(
    clock: Clock, kind: Any
) -> None:
    ssm = boto3.client("ssm", region_name=REGION)
    ssm.put_parameter(Name="/ecs-ops/profiles", Value="{}", Type=kind)
    profiles = ProfilesParameter(lambda: ssm, "/ecs-ops/profiles", clock)
    assert profiles.read(at_most_seconds_old=60) == "{}"

    ssm.put_parameter(Name="/ecs-ops/profiles", Value='{"a": {}}', Overwrite=True)

    assert profiles.read(at_most_seconds_old=60) == "{}"
    clock.now += 61
    assert profiles.read(at_most_seconds_old=60) == '{"a": {}}'


def test_code_says_so_when_the_parameter_is_missing(clock: Clock) -> None:
    ssm = boto3.client("ssm", region_name=REGION)

    with pytest.raises(AwsFailure) as failed:
        ProfilesParameter(lambda: ssm, "/nothing", clock).read(at_most_seconds_old=60)

    assert failed.value.code == "ParameterNotFound"


# ---------------------------------------------------------------- signatures
@pytest.fixture
def dynamodb() -> Any:
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "signature", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "signature", "KeyType": "HASH"}],
    )
    return dynamodb


def test_signature_is_good_once(dynamodb: Any) -> None:
    seen = SeenSignatures(lambda: dynamodb, TABLE)

    assert seen.claim(SIGNATURE, 1_767_225_600)
    assert not seen.claim(SIGNATURE, 1_767_225_600)
    assert not SeenSignatures(lambda: dynamodb, TABLE).claim(SIGNATURE, 1_767_225_601)
    assert seen.claim(SIGNATURE.upper(), 1_767_225_600)


def test_only_its_digest_is_stored_when_a_signature_is_used(dynamodb: Any) -> None:
    SeenSignatures(lambda: dynamodb, TABLE).claim(SIGNATURE, 1_767_225_600)

    (item,) = dynamodb.scan(TableName=TABLE)["Items"]
    assert item["signature"] == {"S": hashlib.sha256(SIGNATURE.encode()).hexdigest()}
    assert item["ttl"] == {"N": "1767225600"}
    assert SIGNATURE not in repr(item)


def test_signature_is_good_when_an_answer_was_lost_and_the_call_made_again(dynamodb: Any) -> None:
    def lose(*, model: Any, params: Any, **_: Any) -> None:
        """Make the call beforehand, as if botocore made it twice."""
        del model
        made.append(params["body"])
        if len(made) == 1:
            twin = boto3.client("dynamodb", region_name=REGION)
            twin.meta.events.register("before-call.dynamodb.PutItem", same_body)
            twin.put_item(TableName=TABLE, Item={"signature": {"S": "x"}})

    def same_body(*, params: Any, **_: Any) -> None:
        params["body"] = made[0]

    made: list[bytes] = []
    dynamodb.meta.events.register("before-call.dynamodb.PutItem", lose)
    seen = SeenSignatures(lambda: dynamodb, TABLE)

    assert seen.claim(SIGNATURE, 1_767_225_600)
    assert not seen.claim(SIGNATURE, 1_767_225_600)


@pytest.mark.parametrize(
    ("code", "error"),
    [("ThrottlingException", Transient), ("AccessDeniedException", AwsFailure)],
)
def test_no_signature_is_good_when_the_table_has_no_answer(
    dynamodb: Any, code: str, error: type[Exception]
) -> None:
    with Stubber(dynamodb) as stub:
        stub.add_client_error("put_item", code)
        with pytest.raises(error):
            SeenSignatures(lambda: dynamodb, TABLE).claim(SIGNATURE, 1_767_225_600)
