"""Durable functions run as on Lambda: most with the real SDK, one in its protocol alone."""

from __future__ import annotations

import io
import json
import sysconfig
import threading
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from tests.e2e.stacks import UserStack
from tests.sandbox.stack import trust
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.account import Account

_MAY_CHECKPOINT = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicDurableExecutionRolePolicy"
_CODE = """
import json, os, pathlib, time
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryStrategyConfig, create_retry_strategy
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

SECOND = Duration.from_seconds(1)


def echo(event, context):
    return event["payload"]

def fail(event, context):
    raise RuntimeError("as told")

def wait(event, context):
    context.wait(Duration.from_seconds(event["seconds"]))
    return "waited"

def sleep(event, context):
    time.sleep(event["seconds"])
    return context.step(lambda _: "slept")

def meet(event, context):
    place = pathlib.Path(event["place"])
    (place / event["name"]).touch()
    while len(list(place.iterdir())) < event["guests"]:
        time.sleep(0.05)
    return context.step(lambda _: "met")

def retry(event, context):
    def step(step_context):
        if step_context.attempt < 3:
            raise RuntimeError("not yet")
        return step_context.attempt
    config = RetryStrategyConfig(max_attempts=3, initial_delay=SECOND, backoff_rate=1)
    return context.step(step, config=StepConfig(retry_strategy=create_retry_strategy(config)))

def poll(event, context):
    def strategy(state, attempt):
        if len(state) == 3:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(SECOND)
    config = WaitForConditionConfig(initial_state=[], wait_strategy=strategy)
    return context.wait_for_condition(lambda state, c: [*state, c.attempt], config=config)

def crash(event, context):
    context.step(lambda _: "done before")
    crashes = pathlib.Path(event["crashes"])
    crashes.open("a").write("x")
    if len(crashes.read_text()) <= event["times"]:
        os._exit(1)
    return "survived"

def callback(event, context):
    callback = context.create_callback()
    context.step(lambda _: pathlib.Path(event["told"]).write_text(callback.callback_id))
    return callback.result()

def chain(event, context):
    return context.invoke(event["target"], event["payload"])

@durable_execution
def durable(event, context):
    return globals()[event["do"]](event, context)

def ordinary(event, context):
    return {"ordinary": event}

def protocol(event, context):
    return {"Status": "SUCCEEDED", "Result": json.dumps(event["CheckpointToken"])}
"""
_STACK = """\
Parameters: {Seconds: {Type: Number}}
Resources:
  Function:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: durable-stack
      Runtime: python3.13
      Handler: index.handler
      Role: ROLE
      Code: {ZipFile: "def handler(event, context): pass"}
      DurableConfig: {ExecutionTimeout: !Ref Seconds, RetentionPeriodInDays: 1}
  Version:
    Type: AWS::Lambda::Version
    Properties: {FunctionName: !Ref Function}
"""


class Functions:
    """The functions under test, each with a version that the alias `live` points to."""

    def __init__(self, account: Account) -> None:
        self.client = account.client("lambda")
        iam = account.client("iam")
        self.role, powerless = (
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust("lambda"))["Role"]["Arn"]
            for name in ("durable", "powerless")
        )
        iam.attach_role_policy(RoleName="durable", PolicyArn=_MAY_CHECKPOINT)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.writestr("functions.py", _CODE)
        for name, handler, durable in (
            ("durable", "durable", {"ExecutionTimeout": 600, "RetentionPeriodInDays": 1}),
            ("durable-hour", "durable", {"ExecutionTimeout": 3600}),
            ("durable-brief", "durable", {"ExecutionTimeout": 2}),
            ("durable-powerless", "durable", {"ExecutionTimeout": 600}),
            ("durable-protocol", "protocol", {"ExecutionTimeout": 600}),
            ("ordinary", "ordinary", None),
        ):
            self.client.create_function(
                FunctionName=name,
                Runtime="python3.13",
                Handler=f"functions.{handler}",
                Role=powerless if name == "durable-powerless" else self.role,
                Timeout=30,
                Code={"ZipFile": archive.getvalue()},
                # The functions run on this machine: the SDK need not be packed.
                Environment={"Variables": {"PYTHONPATH": sysconfig.get_path("purelib")}},
                **({"DurableConfig": durable} if durable else {}),
            )
            self.client.get_waiter("function_active_v2").wait(FunctionName=name)
            version = self.client.publish_version(FunctionName=name)["Version"]
            self.client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)

    def call(self, event: dict[str, Any], name: str = "durable:live", **more: Any) -> Any:
        """Invoke and wait; return the result, or the error of a failed execution."""
        answer = self.client.invoke(FunctionName=name, Payload=json.dumps(event), **more)
        return json.loads(answer["Payload"].read())

    def start(self, event: dict[str, Any], name: str = "durable:live", **more: Any) -> str:
        """Invoke asynchronously; return the execution's ARN."""
        answer = self.client.invoke(
            FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **more
        )
        assert answer["StatusCode"] == 202
        return str(answer["DurableExecutionArn"])

    def end(self, arn: str) -> dict[str, Any]:
        """Wait until the execution is closed; return it."""

        def closed() -> dict[str, Any] | None:
            execution = self.client.get_durable_execution(DurableExecutionArn=arn)
            return None if execution["Status"] == "RUNNING" else execution

        return eventually(closed, f"end of {arn}")

    def history(self, arn: str) -> list[str]:
        answer = self.client.get_durable_execution_history(DurableExecutionArn=arn)
        return [event["EventType"] for event in answer["Events"]]


@pytest.fixture(scope="module")
def functions(account: Account) -> Functions:
    return Functions(account)


def test_result_is_returned_when_the_caller_waits(functions: Functions) -> None:
    assert functions.call({"do": "wait", "seconds": 1}) == "waited"


def test_error_is_returned_when_the_execution_fails(functions: Functions) -> None:
    answer = functions.call({"do": "fail"})

    assert answer == {"errorType": "RuntimeError", "errorMessage": "as told"}


def test_execution_is_described_when_it_was_started_asynchronously(functions: Functions) -> None:
    event = {"do": "echo", "payload": {"n": 1}}

    execution = functions.end(functions.start(event))

    assert execution["Status"] == "SUCCEEDED"
    assert json.loads(execution["InputPayload"]) == event
    assert json.loads(execution["Result"]) == {"n": 1}
    assert execution["FunctionArn"].endswith(":function:durable:1")
    assert execution["StartTimestamp"] <= execution["EndTimestamp"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [("durable", "using an unqualified ARN"), ("durable-hour:live", "greater than 15 minutes")],
)
def test_call_is_refused_when_lambda_would_refuse_it(
    functions: Functions, function: str, reason: str
) -> None:
    with pytest.raises(functions.client.exceptions.InvalidParameterValueException, match=reason):
        functions.call({"do": "echo", "payload": 1}, function)


def test_one_execution_is_shared_when_name_and_payload_are_the_same(functions: Functions) -> None:
    event, name = {"do": "wait", "seconds": 1}, f"run-{uuid.uuid4()}"

    arns = {functions.start(event, DurableExecutionName=name) for _ in range(3)}

    assert functions.call(event, DurableExecutionName=name) == "waited"
    arns.add(functions.start(event, DurableExecutionName=name))
    assert len(arns) == 1
    assert f"/durable-execution/{name}/" in arns.pop()


def test_name_is_refused_when_the_payload_differs(functions: Functions) -> None:
    name = f"run-{uuid.uuid4()}"
    functions.call({"do": "echo", "payload": 1}, DurableExecutionName=name)

    with pytest.raises(functions.client.exceptions.DurableExecutionAlreadyStartedException):
        functions.call({"do": "echo", "payload": 2}, DurableExecutionName=name)


def test_attempts_count_up_when_a_step_is_retried(functions: Functions) -> None:
    arn = functions.start({"do": "retry"})

    assert functions.end(arn)["Result"] == "3"
    assert functions.history(arn).count("StepFailed") == 2
    assert functions.history(arn).count("InvocationCompleted") == 3


def test_state_is_handed_on_when_a_condition_is_polled(functions: Functions) -> None:
    assert functions.call({"do": "poll"}) == [1, 2, 3]


def test_execution_continues_when_the_process_dies(functions: Functions, tmp_path: Path) -> None:
    arn = functions.start({"do": "crash", "crashes": str(tmp_path / "crashes"), "times": 2})

    assert functions.end(arn)["Result"] == '"survived"'
    assert functions.history(arn).count("StepSucceeded") == 1


def test_execution_fails_when_the_process_dies_again_and_again(
    functions: Functions, tmp_path: Path
) -> None:
    crashes = tmp_path / "crashes"

    arn = functions.start({"do": "crash", "crashes": str(crashes), "times": 99})

    assert functions.end(arn)["Status"] == "FAILED"
    assert len(crashes.read_text()) == 5


@pytest.mark.parametrize("do", ["wait", "sleep"])
def test_execution_times_out_when_its_time_is_up(functions: Functions, do: str) -> None:
    arn = functions.start({"do": do, "seconds": 30}, "durable-brief:live")

    execution = functions.end(arn)

    assert execution["Status"] == "TIMED_OUT"
    took = execution["EndTimestamp"] - execution["StartTimestamp"]
    assert 2 <= took.total_seconds() < 30


def test_caller_gets_the_reason_when_the_execution_is_stopped(functions: Functions) -> None:
    event, name = {"do": "wait", "seconds": 60}, f"run-{uuid.uuid4()}"
    arn = functions.start(event, DurableExecutionName=name)
    stop = threading.Timer(
        1,
        functions.client.stop_durable_execution,
        kwargs={"DurableExecutionArn": arn, "Error": {"ErrorType": "Op", "ErrorMessage": "enough"}},
    )
    stop.start()

    answer = functions.call(event, DurableExecutionName=name)

    assert answer == {"errorType": "Op", "errorMessage": "enough"}
    assert functions.end(arn)["Status"] == "STOPPED"
    stop.join()


def test_execution_goes_on_when_its_callback_is_answered(
    functions: Functions, tmp_path: Path
) -> None:
    told = tmp_path / "callback-id"
    arn = functions.start({"do": "callback", "told": str(told)})
    eventually(lambda: "InvocationCompleted" in functions.history(arn), "the wait for the callback")

    functions.client.send_durable_execution_callback_success(
        CallbackId=told.read_text(), Result=b"answered"
    )

    assert functions.end(arn)["Result"] == '"answered"'


@pytest.mark.parametrize(
    ("target", "result"), [("ordinary", {"ordinary": {"do": "poll"}}), ("durable:live", [1, 2, 3])]
)
def test_parent_gets_the_result_when_it_invokes_a_function(
    functions: Functions, target: str, result: object
) -> None:
    event = {"do": "chain", "target": target, "payload": {"do": "poll"}}

    assert functions.call(event) == result


def test_executions_run_side_by_side_when_there_are_many(
    functions: Functions, tmp_path: Path
) -> None:
    # One after the other, the first would wait for ever for the second.
    invitation = {"do": "meet", "place": str(tmp_path), "guests": 3}
    arns = [functions.start({**invitation, "name": str(guest)}) for guest in range(3)]

    ends = [functions.end(arn) for arn in arns]

    assert [execution["Result"] for execution in ends] == ['"met"'] * 3


def test_execution_fails_when_the_role_may_not_checkpoint(functions: Functions) -> None:
    error = functions.call({"do": "wait", "seconds": 1}, "durable-powerless:live")

    assert "lambda:CheckpointDurableExecution" in error["errorMessage"]


def test_checkpoint_is_refused_when_its_token_is_stale(functions: Functions) -> None:
    arn = functions.start({}, "durable-protocol:live")
    token = json.loads(functions.end(arn)["Result"])

    with pytest.raises(botocore.exceptions.ClientError, match="Invalid checkpoint token"):
        functions.client.checkpoint_durable_execution(
            DurableExecutionArn=arn, CheckpointToken=token
        )


def test_eventbridge_hears_of_an_execution_when_its_status_changes(
    account: Account, functions: Functions
) -> None:
    sqs, events = account.client("sqs"), account.client("events")
    queue = sqs.create_queue(QueueName="durable-events")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    pattern = {"source": ["aws.lambda"], "detail-type": ["Durable Execution Status Change"]}
    events.put_rule(Name="durable-events", EventPattern=json.dumps(pattern))
    events.put_targets(
        Rule="durable-events", Targets=[{"Id": "queue", "Arn": queue_arn["QueueArn"]}]
    )
    heard: dict[str, dict[str, Any]] = {}
    arn = functions.start({"do": "fail"})

    def both() -> bool:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        details = [json.loads(message["Body"])["detail"] for message in messages]
        heard.update({d["status"]: d for d in details if d["durableExecutionArn"] == arn})
        return len(heard) == 2

    eventually(both, "the events of start and end")

    assert set(heard) == {"RUNNING", "FAILED"}
    assert heard["FAILED"]["functionArn"].endswith(":function:durable:1")
    assert heard["FAILED"]["endTimestamp"].endswith("Z")
    assert "endTimestamp" not in heard["RUNNING"]


def test_versions_stay_when_cloudformation_changes_the_execution_timeout(
    account: Account, functions: Functions
) -> None:
    template = _STACK.replace("ROLE", functions.role)
    stack = UserStack(account)
    stack.create(template, Seconds="60")
    created = functions.client.get_function_configuration(
        FunctionName="durable-stack", Qualifier="1"
    )
    stack.update(template, Seconds="90")
    updated = functions.client.get_function_configuration(FunctionName="durable-stack")
    versions = functions.client.list_versions_by_function(FunctionName="durable-stack")["Versions"]

    assert created["DurableConfig"] == {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}
    assert updated["DurableConfig"] == {"ExecutionTimeout": 90, "RetentionPeriodInDays": 1}
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
