"""A caller can do in ECS what its policy says, on the resources AWS checks, and nothing else."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.sandbox.conftest import Cluster
    from tests.sandbox.account import Account

_ARN = "arn:aws:ecs:us-east-1:000000000000"
_ROLE = "arn:aws:iam::000000000000:role/app"


def _allow(action: str, resource: str, **condition: object) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


@pytest.fixture
def ecs_as(account: Account) -> Callable[..., Any]:
    """Return an ECS client of a new user who has just these statements."""

    def make(*statements: dict[str, Any]) -> Any:
        iam, name = account.client("iam"), f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return boto3.client(
            "ecs",
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            region_name=account.env["AWS_REGION"],
            endpoint_url=account.url,
            verify=str(account.ca_bundle),
        )

    return make


def _refused(call: Callable[[], object]) -> str:
    """Message of the AccessDenied that `call` meets; '' when it is let through."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise
        return error.response["Error"]["Message"]
    return ""


def test_run_task_is_allowed_on_the_task_definition_when_policy_names_it(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    definition = cluster.define("exit 0")
    other = cluster.define("exit 0")
    ecs = ecs_as(_allow("ecs:RunTask", definition))

    assert not _refused(lambda: ecs.run_task(cluster=cluster.name, taskDefinition=definition))
    assert "ecs:RunTask" in _refused(
        lambda: ecs.run_task(cluster=cluster.name, taskDefinition=other)
    )


def test_pass_role_is_needed_when_a_task_is_given_a_role(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    request = {
        "cluster": cluster.name,
        "taskDefinition": cluster.define("exit 0"),
        "overrides": {"taskRoleArn": _ROLE},
    }
    run = _allow("ecs:RunTask", "*")
    to_ecs = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    without, wrong, right = (
        ecs_as(run),
        ecs_as(run, _allow("iam:PassRole", _ROLE, StringEquals=to_ec2)),
        ecs_as(run, _allow("iam:PassRole", _ROLE, StringEquals=to_ecs)),
    )

    assert "iam:PassRole" in _refused(lambda: without.run_task(**request))
    assert "iam:PassRole" in _refused(lambda: wrong.run_task(**request))
    assert not _refused(lambda: right.run_task(**request))


def test_tag_resource_is_needed_when_a_task_is_run_with_tags(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    request = {
        "cluster": cluster.name,
        "taskDefinition": cluster.define("exit 0"),
        "tags": [{"key": "team", "value": "a"}],
    }
    run = _allow("ecs:RunTask", "*")

    assert "ecs:TagResource" in _refused(lambda: ecs_as(run).run_task(**request))
    tag = _allow("ecs:TagResource", f"{_ARN}:task/*")
    assert not _refused(lambda: ecs_as(run, tag).run_task(**request))


def test_stop_task_is_allowed_on_the_task_when_policy_names_its_cluster(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    arn = cluster.run(cluster.define("sleep 60"))
    elsewhere = ecs_as(_allow("ecs:StopTask", f"{_ARN}:task/other/*"))
    here = ecs_as(_allow("ecs:StopTask", f"{_ARN}:task/{cluster.name}/*"))

    assert "ecs:StopTask" in _refused(lambda: elsewhere.stop_task(cluster=cluster.name, task=arn))
    assert not _refused(lambda: here.stop_task(cluster=cluster.name, task=arn.rpartition("/")[2]))
