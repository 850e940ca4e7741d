"""What goes wrong on demand goes wrong as it does on AWS, as often as asked, for nobody else."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.e2e.faults import ANSWER, REQUEST, Faults
from tests.e2e.stacks import UserStack
from tests.sandbox.stack import trust
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.sandbox.conftest import Cluster
    from tests.sandbox.account import Account

# Answers CloudFormation, trying three times; asks S3 for a bucket when anybody else calls.
_CODE = """
import json, os, urllib.error, urllib.request

def handler(event, context):
    if "bucket" in event:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/" + event["bucket"])
        return
    names = "StackId", "RequestId", "LogicalResourceId"
    answer = {"Status": "SUCCESS", "PhysicalResourceId": "made", **{n: event[n] for n in names}}
    for _ in range(3):
        request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode())
        request.method = "PUT"
        try:
            urllib.request.urlopen(request)
            return
        except urllib.error.HTTPError:
            pass
"""
_STACK = """\
Parameters: {Token: {Type: String}}
Resources:
  Thing: {Type: Custom::Thing, Properties: {ServiceToken: !Ref Token, ServiceTimeout: 30}}
"""


@pytest.fixture(scope="module")
def function(account: Account) -> str:
    """ARN of a function that does as `_CODE` says."""
    name = f"unlucky-{uuid.uuid4().hex[:8]}"
    role = account.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=trust("lambda")
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("unlucky.py", _CODE)
    client = account.client("lambda")
    created = client.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="unlucky.handler",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": archive.getvalue()},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return str(created["FunctionArn"])


def _impatient(account: Account, service: str) -> Any:
    """Return a client that does not repeat a call by itself."""
    session = boto3.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    return session.client(
        service,  # type: ignore[call-overload]
        endpoint_url=account.url,
        verify=str(account.ca_bundle),
        config=Config(retries={"total_max_attempts": 1}),
    )


def _tasks(cluster: Cluster) -> list[str]:
    return list(cluster.ecs.list_tasks(cluster=cluster.name)["taskArns"])


@pytest.mark.parametrize(
    ("service", "action", "arguments"),
    [
        ("ecs", "ecs:ListTasks", "cluster"),
        ("cloudformation", "cloudformation:DescribeStacks", "StackName"),
    ],
)
def test_call_is_refused_as_often_as_asked_when_it_mentions_the_name(
    account: Account, cluster: Cluster, service: str, action: str, arguments: str
) -> None:
    client = _impatient(account, service)
    call = getattr(client, "list_tasks" if service == "ecs" else "describe_stacks")
    with Faults(account, cluster.name) as faults:
        faults.refuse(action, "Throttling", times=2, skip=1)
        codes = []
        for _ in range(4):
            try:
                call(**{arguments: cluster.name})
                codes.append("")
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])

    assert [code == "Throttling" for code in codes] == [False, True, True, False]


@pytest.mark.parametrize(
    ("action", "request_with"),
    [
        (
            "application-autoscaling:DescribeScalableTargets",
            {"ServiceNamespace": "ecs", "ResourceIds": ["NAME"]},
        ),
        ("cloudwatch:DescribeAlarms", {"AlarmNames": ["NAME"]}),
        ("dynamodb:DescribeTable", {"TableName": "NAME"}),
        ("elasticloadbalancing:DescribeTargetHealth", {"TargetGroupArn": "NAME"}),
        ("sns:Publish", {"TopicArn": "NAME", "Message": "hello"}),
        ("sts:AssumeRole", {"RoleArn": "arn:aws:iam::1:role/a", "RoleSessionName": "NAME"}),
    ],
)
def test_refusal_is_understood_whatever_the_protocol_of_the_service(
    account: Account, action: str, request_with: dict[str, Any]
) -> None:
    name = f"refused-{uuid.uuid4().hex[:8]}"
    service, _, operation = action.partition(":")
    client = account.client("elbv2" if service == "elasticloadbalancing" else service)

    with Faults(account, name) as faults:
        faults.refuse(action, "OutOfLuck")
        with pytest.raises(ClientError) as refusal:
            getattr(client, xform_name(operation))(
                **json.loads(json.dumps(request_with).replace("NAME", name))
            )

    assert refusal.value.response["Error"]["Code"] == "OutOfLuck"


def test_others_are_served_when_one_is_refused(account: Account, cluster: Cluster) -> None:
    faults = Faults(account, cluster.name)
    faults.refuse("ecs:ListTasks", "ServerException", status=503, times=None)

    account.client("ecs").list_tasks(cluster="demo")

    with pytest.raises(AssertionError, match="did not"):
        faults.check()


def test_task_runs_when_the_answer_is_lost(account: Account, cluster: Cluster) -> None:
    ecs, definition = _impatient(account, "ecs"), cluster.define("sleep 60")
    with Faults(account, cluster.name) as faults:
        faults.inject("ecs:RunTask", "lose")
        with pytest.raises(ConnectionClosedError):
            ecs.run_task(cluster=cluster.name, taskDefinition=definition)

    assert len(_tasks(cluster)) == 1


def test_no_task_runs_when_another_answer_is_given(account: Account, cluster: Cluster) -> None:
    failures = [{"arn": "here", "reason": "RESOURCE:CPU"}]
    with Faults(account, cluster.name) as faults:
        faults.inject("ecs:RunTask", "answer", body={"tasks": [], "failures": failures})
        answer = cluster.ecs.run_task(cluster=cluster.name, taskDefinition="demo-web")

    assert answer["failures"] == failures
    assert _tasks(cluster) == []


def test_task_says_so_when_its_spot_capacity_is_taken(account: Account, cluster: Cluster) -> None:
    arn = cluster.run(cluster.define("sleep 60"))
    cluster.until(arn, "RUNNING")

    Faults(account, cluster.name).interrupt_spot(arn)

    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "SpotInterruption"
    assert task["stoppedReason"] == "Your Spot Task was interrupted."
    assert task["containers"][0]["exitCode"] == 143


@pytest.mark.parametrize("moment", ["before", "after"])
def test_function_fails_when_its_process_is_killed(
    account: Account, function: str, moment: str
) -> None:
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    with Faults(account, bucket) as faults:
        faults.inject("s3:ListBucket", f"kill {moment}")
        answer = account.client("lambda").invoke(
            FunctionName=function, Payload=json.dumps({"bucket": bucket})
        )

    assert "process died" in json.load(answer["Payload"])["errorMessage"]


def test_resource_is_asked_twice_when_the_request_is_repeated(
    account: Account, function: str
) -> None:
    stack = UserStack(account)
    with Faults(account, stack.name) as faults:
        faults.inject(REQUEST, "repeat")
        stack.create(_STACK, Token=function)

        answers = eventually(
            lambda: answers if len(answers := faults.report()["answers"]) == 2 else None,
            "two answers",
        )
    assert [answer["Accepted"] for answer in answers] == [True, False]
    assert len(faults.report()["requests"]) == 1


def test_answer_is_put_again_when_its_place_is_not_there(account: Account, function: str) -> None:
    stack = UserStack(account)
    with Faults(account, stack.name) as faults:
        faults.refuse(ANSWER, "ServiceUnavailable", status=503, times=2)
        created = stack.create(_STACK, Token=function)

    assert created["StackStatus"] == "CREATE_COMPLETE"
    assert [answer["Accepted"] for answer in faults.report()["answers"]] == [True]


def test_ecs_forgets_a_task_when_it_has_stopped_and_not_before(
    account: Account, cluster: Cluster
) -> None:
    arn = cluster.run(cluster.define("sleep 0.3"))
    faults = Faults(account, arn)

    faults.forget(arn)
    cluster.until(arn, "STOPPED")
    faults.forget(arn)

    answer = cluster.ecs.describe_tasks(cluster=cluster.name, tasks=[arn])
    assert answer["tasks"] == []
    assert [failure["reason"] for failure in answer["failures"]] == ["MISSING"]
