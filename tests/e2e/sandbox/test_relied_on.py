"""What the bundle relies on and ministack does by itself: roles, alarms, conditional writes."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.e2e.sandbox.conftest import allow, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.account import Account


def _make_role(account: Account, trusted: str, external_id: str, *statements: Any) -> str:
    """Make a role that `trusted` may assume with the external id; return its ARN."""
    iam, name = account.client("iam"), f"role-{uuid.uuid4().hex[:8]}"
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": trusted},
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    documents = [
        json.dumps({"Version": "2012-10-17", "Statement": statement})
        for statement in ([trust], list(statements))
    ]
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=documents[0])
    iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=documents[1])
    return str(made["Role"]["Arn"])


def test_role_is_assumed_when_policy_trust_and_external_id_agree(
    account: Account, client_as: Callable[..., Any]
) -> None:
    sts = client_as("sts", allow("sts:AssumeRole", "arn:aws:iam::000000000000:role/role-*"))
    stranger = client_as("sts", allow("sns:Publish"))
    user = sts.get_caller_identity()["Arn"]
    account_root = "arn:aws:iam::000000000000:root"
    role = _make_role(account, user, "secret", allow("ecs:ListClusters"))
    any_of_account = _make_role(account, account_root, "secret", allow("ecs:ListClusters"))

    def attempt(client: Any, arn: str, **more: str) -> str:
        return refused(lambda: client.assume_role(RoleArn=arn, RoleSessionName="recycle", **more))

    assert not attempt(sts, role, ExternalId="secret")
    assert "sts:AssumeRole" in attempt(sts, role)
    assert "sts:AssumeRole" in attempt(sts, role, ExternalId="other")
    assert "sts:AssumeRole" in attempt(stranger, role, ExternalId="secret")
    assert "sts:AssumeRole" in attempt(stranger, any_of_account, ExternalId="secret")


def test_session_may_do_what_its_role_may_when_a_role_was_assumed(
    account: Account, client_as: Callable[..., Any]
) -> None:
    sts = client_as("sts", allow("sts:AssumeRole"), allow("ecs:CreateCluster"))
    role = _make_role(account, sts.get_caller_identity()["Arn"], "x1", allow("ecs:ListClusters"))
    session = sts.assume_role(RoleArn=role, RoleSessionName="recycle", ExternalId="x1")

    def ecs(token: str) -> Any:
        return boto3.client(
            "ecs",
            aws_access_key_id=session["Credentials"]["AccessKeyId"],
            aws_secret_access_key=session["Credentials"]["SecretAccessKey"],
            aws_session_token=token,
            region_name=account.env["AWS_REGION"],
            endpoint_url=account.url,
            verify=str(account.ca_bundle),
        )

    client = ecs(session["Credentials"]["SessionToken"])

    assert "clusterArns" in client.list_clusters()
    assert "ecs:CreateCluster" in refused(lambda: client.create_cluster(clusterName="other"))
    with pytest.raises(ClientError, match="security token"):
        ecs("another").list_clusters()


def test_alarms_are_told_with_their_state_when_they_are_asked_for_by_name(
    account: Account, client_as: Callable[..., Any]
) -> None:
    admin, name = account.client("cloudwatch"), f"alarm-{uuid.uuid4().hex[:8]}"
    admin.put_metric_alarm(
        AlarmName=name,
        Namespace="Test",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    admin.put_composite_alarm(AlarmName=f"{name}-any", AlarmRule=f"ALARM({name})")
    reader = client_as("cloudwatch", allow("cloudwatch:DescribeAlarms"))
    stranger = client_as("cloudwatch", allow("ecs:*"))

    def states() -> dict[str, str]:
        answer = reader.describe_alarms(
            AlarmNames=[name, f"{name}-any", "absent"],
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        )
        found = answer["MetricAlarms"] + answer["CompositeAlarms"]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}

    before = states()
    admin.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")

    assert before[name] != "ALARM"
    assert states() == {name: "ALARM", f"{name}-any": "ALARM"}
    assert "cloudwatch:DescribeAlarms" in refused(
        lambda: stranger.describe_alarms(AlarmNames=[name])
    )


def test_index_secret_and_parameter_are_read_when_policy_names_them(
    account: Account, client_as: Callable[..., Any]
) -> None:
    name = f"read-{uuid.uuid4().hex[:8]}"
    secret = account.client("secretsmanager").create_secret(Name=name, SecretString="s")["ARN"]
    account.client("ssm").put_parameter(Name=f"/{name}/text", Value="p", Type="String")
    key = [{"AttributeName": "owner", "KeyType": "HASH"}]
    account.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": "S"} for attribute in ("id", "owner")
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": "by-owner", "KeySchema": key, "Projection": {"ProjectionType": "ALL"}}
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    prefix = "us-east-1:000000000000"
    table = f"arn:aws:dynamodb:{prefix}:table/{name}"
    parameter = f"arn:aws:ssm:{prefix}:parameter/{name}"

    def reads(
        service: str, action: str, right: str, wrong: str, read: Callable[[Any], object]
    ) -> tuple[str, str]:
        """Return what is refused to who may do it there, and to who may do it elsewhere."""
        here, elsewhere = (client_as(service, allow(action, arn)) for arn in (right, wrong))
        return refused(lambda: read(here)), refused(lambda: read(elsewhere))

    def query(db: Any) -> object:
        values = {":owner": {"S": "a"}}
        return db.query(
            TableName=name,
            IndexName="by-owner",
            KeyConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues=values,
        )

    for service, action, right, wrong, read in (
        ("dynamodb", "dynamodb:Query", f"{table}/index/by-owner", table, query),
        (
            "secretsmanager",
            "secretsmanager:GetSecretValue",
            secret,
            f"{secret[:-6]}000000",
            lambda client: client.get_secret_value(SecretId=secret),
        ),
        (
            "ssm",
            "ssm:GetParameter",
            f"{parameter}/text",
            parameter,
            lambda client: client.get_parameter(Name=f"/{name}/text", WithDecryption=True),
        ),
    ):
        let_in, kept_out = reads(service, action, right, wrong, read)
        assert not let_in
        assert action in kept_out


@pytest.mark.parametrize("write", ["put_item", "update_item", "delete_item"])
def test_item_is_told_when_the_condition_of_a_write_fails(
    account: Account, client_as: Callable[..., Any], write: str
) -> None:
    table = f"table-{uuid.uuid4().hex[:8]}"
    account.client("dynamodb").create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "service", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "service", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}"
    actions = ("PutItem", "UpdateItem", "DeleteItem", "GetItem")
    db = client_as("dynamodb", *(allow(f"dynamodb:{action}", arn) for action in actions))
    key = {"service": {"S": "web"}}
    item = {**key, "run": {"S": "first"}, "expires": {"N": "100"}}
    db.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(service)")
    requests: dict[str, dict[str, Any]] = {
        "put_item": {"Item": {**item, "run": {"S": "second"}}},
        "update_item": {"Key": key, "UpdateExpression": "SET #run = :run"},
        "delete_item": {"Key": key},
    }

    with pytest.raises(db.exceptions.ConditionalCheckFailedException) as failure:
        getattr(db, write)(
            TableName=table,
            **requests[write],
            ConditionExpression="#run = :run OR expires < :now",
            ExpressionAttributeNames={"#run": "run"},
            ExpressionAttributeValues={":run": {"S": "second"}, ":now": {"N": "100"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    assert failure.value.response["Item"] == item
    assert db.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"] == item
