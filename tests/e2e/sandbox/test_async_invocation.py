"""EventBridge and CloudFormation invoke functions asynchronously, with Lambda's retries."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.stacks import UserStack
from tests.sandbox.stack import trust
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.account import Account

# Fails as often as it is told, then answers CloudFormation if it is told to.
_CODE = """
import json, pathlib, urllib.request

def handler(event, context):
    told = event.get("ResourceProperties", event)
    calls = pathlib.Path(told["calls"])
    calls.open("a").write("x")
    if len(calls.read_text()) <= int(told["failures"]):
        raise RuntimeError("as told")
    if told.get("answer") == "yes":
        names = "StackId", "RequestId", "LogicalResourceId"
        answer = {"Status": "SUCCESS", "PhysicalResourceId": "made", **{n: event[n] for n in names}}
        request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode())
        request.method = "PUT"
        urllib.request.urlopen(request)
"""
_STACK = """\
Parameters:
  Token: {Type: String}
  Calls: {Type: String}
  Failures: {Type: String, Default: "0"}
  Answer: {Type: String, Default: "no"}
  Seconds: {Type: Number, Default: 60}
Resources:
  Thing:
    Type: Custom::Thing
    Properties:
      ServiceToken: !Ref Token
      ServiceTimeout: !Ref Seconds
      calls: !Ref Calls
      failures: !Ref Failures
      answer: !Ref Answer
"""
_RETRIES_STACK = """\
Parameters: {Function: {Type: String}}
Resources:
  Retries:
    Type: AWS::Lambda::EventInvokeConfig
    Properties: {FunctionName: !Ref Function, Qualifier: live, MaximumRetryAttempts: 0}
"""


class Function:
    """A function of one test's own, with a version that the alias `live` points to."""

    def __init__(self, account: Account, **settings: Any) -> None:
        self.client = account.client("lambda")
        self.name = f"flaky-{uuid.uuid4().hex[:8]}"
        role = account.client("iam").create_role(
            RoleName=self.name, AssumeRolePolicyDocument=trust("lambda")
        )
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.writestr("flaky.py", _CODE)
        created = self.client.create_function(
            FunctionName=self.name,
            Runtime="python3.13",
            Handler="flaky.handler",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": archive.getvalue()},
            **settings,
        )
        self.arn: str = created["FunctionArn"]
        self.client.get_waiter("function_active_v2").wait(FunctionName=self.name)
        self.client.publish_version(FunctionName=self.name)
        alias = self.client.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        self.live: str = alias["AliasArn"]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A file that gets one letter for every call."""
    return tmp_path / "calls"


def _fire(account: Account, target: str, event: dict[str, Any]) -> None:
    events, rule = account.client("events"), f"fire-{uuid.uuid4().hex[:8]}"
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))
    events.put_targets(
        Rule=rule, Targets=[{"Id": "function", "Arn": target, "Input": json.dumps(event)}]
    )
    events.put_events(Entries=[{"Source": rule, "DetailType": "fire", "Detail": "{}"}])


def test_event_is_delivered_again_when_the_function_failed(account: Account, calls: Path) -> None:
    _fire(account, Function(account).live, {"calls": str(calls), "failures": 99})

    eventually(lambda: calls.exists() and len(calls.read_text()) == 3, "three calls")


def test_event_is_delivered_once_when_the_alias_allows_no_retries(
    account: Account, calls: Path
) -> None:
    function = Function(account)
    UserStack(account).create(_RETRIES_STACK, Function=function.name)

    event = {"calls": str(calls), "failures": 99}
    _fire(account, function.live, event)
    function.client.invoke(
        FunctionName=function.live, InvocationType="Event", Payload=json.dumps(event)
    )

    eventually(lambda: calls.exists() and len(calls.read_text()) == 2, "one call each")
    time.sleep(2)  # The first retry would come after one second.
    assert len(calls.read_text()) == 2


def test_resource_is_created_when_a_retry_succeeds(account: Account, calls: Path) -> None:
    stack = UserStack(account)

    created = stack.create(
        _STACK, Token=Function(account).arn, Calls=str(calls), Failures="1", Answer="yes"
    )

    assert created["StackStatus"] == "CREATE_COMPLETE"
    assert stack.physical_id("Thing") == "made"
    assert len(calls.read_text()) == 2


def test_resource_fails_when_its_service_timeout_is_over(account: Account, calls: Path) -> None:
    stack = UserStack(account)

    began = time.monotonic()
    stack.create(_STACK, Token=Function(account).arn, Calls=str(calls), Seconds="2")

    assert "timed out" in stack.reason("Thing")
    assert 2 <= time.monotonic() - began < 30


def test_resource_fails_at_once_when_lambda_refuses_the_call(account: Account, calls: Path) -> None:
    durable = Function(account, DurableConfig={"ExecutionTimeout": 60})
    stack = UserStack(account)

    stack.create(_STACK, Token=durable.arn, Calls=str(calls))

    assert "using an unqualified ARN" in stack.reason("Thing")
    assert not calls.exists()
