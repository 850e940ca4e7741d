"""A durable function can start its own successor, and functions hear how an execution ended."""

from __future__ import annotations

import io
import json
import sysconfig
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.faults import Faults
from tests.sandbox.stack import trust
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.account import Account

_NAME = "successor"
_ARN = "arn:aws:lambda:us-east-1:000000000000:function"
_CHECKPOINT = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicDurableExecutionRolePolicy"
_CODE = """
import boto3, json, pathlib
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python.config import Duration
from botocore.exceptions import ClientError


def begin(event, left):
    try:
        answer = boto3.client("lambda").invoke(
            FunctionName="successor",
            Qualifier=event["qualifier"],
            InvocationType="Event",
            DurableExecutionName=f"{event['run']}-{left}",
            Payload=json.dumps({**event, "left": left}),
        )
    except ClientError as error:
        return str(error)
    return answer["DurableExecutionArn"]

def tell(event, who):
    arn = event["detail"]["durableExecutionArn"]
    execution = boto3.client("lambda").get_durable_execution(DurableExecutionArn=arn)
    told = pathlib.Path(json.loads(execution["InputPayload"])["told"])
    with told.open("a") as lines:
        lines.write(json.dumps([who, execution["Status"], arn]) + "\\n")

@durable_execution
def durable(event, context):
    if "detail" in event:
        return context.step(lambda _: tell(event, "itself"), name="tell")
    if event["left"]:
        # Twice, as when the step runs again.
        return [context.step(lambda _: begin(event, event["left"] - 1)) for _ in range(2)]
    context.wait(Duration.from_seconds(event["seconds"]))

def listener(event, context):
    tell(event, "listener")
"""


@pytest.fixture(scope="module", autouse=True)
def _functions(account: Account) -> None:
    """A durable function that may invoke its alias, and one with another name, which listens."""
    functions, iam = account.client("lambda"), account.client("iam")
    role = iam.create_role(RoleName=_NAME, AssumeRolePolicyDocument=trust("lambda"))["Role"]["Arn"]
    iam.attach_role_policy(RoleName=_NAME, PolicyArn=_CHECKPOINT)
    statements = [
        {"Effect": "Allow", "Action": action, "Resource": resource}
        for action, resource in (
            ("lambda:InvokeFunction", f"{_ARN}:{_NAME}:live"),
            ("lambda:GetDurableExecution", f"{_ARN}:{_NAME}:*/durable-execution/*/*"),
        )
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=_NAME, PolicyName="itself", PolicyDocument=policy)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("functions.py", _CODE)
    for name, handler, more in (
        (_NAME, "durable", {"DurableConfig": {"ExecutionTimeout": 600}}),
        ("listener", "listener", {}),
    ):
        functions.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler=f"functions.{handler}",
            Role=role,
            Timeout=30,
            Code={"ZipFile": archive.getvalue()},
            Environment={"Variables": {"PYTHONPATH": sysconfig.get_path("purelib")}},
            **more,
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
    functions.publish_version(FunctionName=_NAME)
    functions.create_alias(FunctionName=_NAME, Name="live", FunctionVersion="1")


def _start(account: Account, **event: Any) -> str:
    answer = account.client("lambda").invoke(
        FunctionName=f"{_NAME}:live",
        InvocationType="Event",
        Payload=json.dumps({"qualifier": "live", "seconds": 1, **event}),
    )
    return str(answer["DurableExecutionArn"])


def _end(account: Account, arn: str) -> dict[str, Any]:
    client = account.client("lambda")

    def closed() -> dict[str, Any] | None:
        execution = client.get_durable_execution(DurableExecutionArn=arn)
        return None if execution["Status"] == "RUNNING" else execution

    return eventually(closed, f"end of {arn}")


def test_successor_is_one_when_it_is_started_twice_by_name(account: Account) -> None:
    run = f"run-{uuid.uuid4().hex[:8]}"

    first = json.loads(_end(account, _start(account, run=run, left=2))["Result"])
    second = json.loads(_end(account, first[0])["Result"])
    last = _end(account, second[0])

    assert len(set(first)) == len(set(second)) == 1
    assert f":{_NAME}:1/durable-execution/{run}-1/" in first[0]
    assert last["DurableExecutionName"] == f"{run}-0"
    assert last["Status"] == "SUCCEEDED"


def test_successor_is_refused_when_the_role_names_another_qualifier(account: Account) -> None:
    run = f"run-{uuid.uuid4().hex[:8]}"

    execution = _end(account, _start(account, run=run, left=1, qualifier="1"))

    assert "not authorized to perform: lambda:InvokeFunction" in execution["Result"]


def test_functions_hear_of_the_end_when_an_execution_is_stopped_or_times_out(
    account: Account, tmp_path: Path
) -> None:
    told, run = tmp_path / "told", f"run-{uuid.uuid4().hex[:8]}"
    told.touch()
    events, client = account.client("events"), account.client("lambda")
    pattern = {
        "source": ["aws.lambda"],
        "detail-type": ["Durable Execution Status Change"],
        "detail": {
            "status": ["FAILED", "STOPPED", "TIMED_OUT"],
            "functionArn": [{"prefix": f"{_ARN}:{_NAME}:"}],
        },
    }
    events.put_rule(Name=run, EventPattern=json.dumps(pattern))
    targets = (f"{_ARN}:listener", f"{_ARN}:{_NAME}:live")
    events.put_targets(
        Rule=run, Targets=[{"Id": str(n), "Arn": arn} for n, arn in enumerate(targets)]
    )
    stopped, late = (_start(account, run=run, left=0, told=str(told), seconds=60) for _ in range(2))

    client.stop_durable_execution(DurableExecutionArn=stopped)
    Faults(account, run).time_out(late)

    def heard() -> set[tuple[str, ...]]:
        return {tuple(json.loads(line)) for line in told.read_text().splitlines()}

    expected = {
        (who, status, arn)
        for who in ("listener", "itself")
        for status, arn in (("STOPPED", stopped), ("TIMED_OUT", late))
    }
    eventually(lambda: heard() == expected, "both ends told to both functions")
    events.remove_targets(Rule=run, Ids=["0", "1"])
    events.delete_rule(Name=run)
