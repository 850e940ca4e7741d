"""Custom::ECSRunTask from CloudFormation's request to its answer, suspended and replayed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.cloudformation import CloudFormation
from ecs_ops.aws.task_run import respond
from ecs_ops.errors import AwsFailure, Transient
from ecs_ops.task_request import ContainerDefinition
from functions.run_task import handler as run_task
from tests.answer_server import SECRET, AnswerServer
from tests.durable_runner import run_durably, run_handler
from tests.fake_ecs_tasks import FakeTasks

EVENTS = Path(__file__).parents[2] / "events/run_task"


class Clock:
    """Goes on by so many seconds whenever it is read."""

    def __init__(self, tick: float = 1.0) -> None:
        self.now = 1_700_000_000.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def event(
    server: AnswerServer, case: str = "create", properties: dict[str, Any] | None = None
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    content["ResponseURL"] = server.url
    content["ResourceProperties"] |= properties or {}
    return content


def run(
    sent: dict[str, Any], tasks: FakeTasks, clock: Clock | None = None, name: str = "one"
) -> dict[str, Any]:
    """Run the flow to its end; return its result."""
    ticking, answers = clock or Clock(), CloudFormation()

    def flow(given: dict[str, Any], context: DurableContext) -> Any:
        return respond(given, context, tasks, answers, ticking)

    done = run_durably(flow, sent, name=name)
    assert done.status.value == "SUCCEEDED", done.error
    result: dict[str, Any] = json.loads(str(done.result))
    return result


def only(server: AnswerServer) -> dict[str, Any]:
    """Return what CloudFormation got: one answer."""
    (answer,) = server.answers
    return answer


@pytest.fixture
def tasks() -> FakeTasks:
    fake = FakeTasks()
    fake.life = [fake.task("PENDING"), fake.task(), fake.task("STOPPED", exit_code=0)]
    return fake


@pytest.mark.parametrize("case", ["create", "update"])
def test_stack_goes_on_when_the_task_exits_with_0(
    cloudformation: AnswerServer, tasks: FakeTasks, case: str
) -> None:
    run(event(cloudformation, case), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {
        "TaskArn": tasks.task()["taskArn"],
        "ExitCode": "0",
        "StopCode": "EssentialContainerExited",
        "StoppedReason": "Essential container in task exited",
        "StartedAt": "",
        "StoppedAt": "",
        "LogGroup": "/shop",
        "LogStream": f"ecs/app/{1:032x}",
        "Outcome": "Succeeded",
    }
    assert tasks.started == 1


def test_task_is_asked_for_as_the_resource_says(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation), tasks)

    (sent,) = tasks.calls
    assert re.fullmatch(r"[0-9a-f]{64}", sent["clientToken"])
    assert sent["startedBy"] == "run_task/shop/Migration"
    assert sent["cluster"] == "shop"
    assert sent["overrides"]["containerOverrides"] == [
        {
            "name": "app",
            "command": ["./manage.py", "migrate", "--noinput"],
            "environment": [
                {"name": "DATABASE", "value": "orders"},
                {"name": "DRY_RUN", "value": "false"},
            ],
        }
    ]


def test_stack_fails_with_the_exit_code_when_the_task_fails(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=3)]

    run(event(cloudformation), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "Task failed: container app exited with 3. Essential container in task exited. "
        f"Task {1:032x}."
    )
    assert answer["PhysicalResourceId"].startswith("ECSRunTask-Migration-")


def test_stack_goes_on_when_the_exit_code_is_a_success_code(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=3)]

    run(event(cloudformation, properties={"SuccessExitCodes": ["0", "3"]}), tasks)

    assert only(cloudformation)["Data"]["ExitCode"] == "3"


def test_nothing_runs_when_the_resource_is_deleted(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation, "delete"), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "SUCCESS"
    assert answer["PhysicalResourceId"] == "ECSRunTask-Migration-e3b0c44298fc"
    assert tasks.calls == []


def test_task_runs_when_the_resource_is_deleted_and_run_on_says_so(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation, "delete", {"RunOn": ["Delete"]}), tasks)

    assert only(cloudformation)["Data"]["Outcome"] == "Succeeded"
    assert tasks.started == 1


def test_nothing_runs_when_run_on_leaves_the_request_out(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation, "update", {"RunOn": ["Create"]}), tasks)

    data = only(cloudformation)["Data"]
    assert data["Outcome"] == "Skipped"
    assert len(data) == 9
    assert tasks.calls == []


def test_stack_goes_on_at_once_when_it_does_not_wait_for_the_exit(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [AssertionError("nobody looks")]

    run(event(cloudformation, properties={"WaitForExit": "false"}), tasks)

    data = only(cloudformation)["Data"]
    assert data["Outcome"] == "Started"
    assert data["TaskArn"] == tasks.task()["taskArn"]
    assert data["LogStream"] == f"ecs/app/{1:032x}"
    assert data["ExitCode"] == ""


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"TaskDefinitoin": "shop"}, "TaskDefinitoin: is not a known property; did you mean"),
        ({"Service": "web"}, "Service: is not supported yet"),
        ({"ContainerName": "web"}, "ContainerName: the task definition has no container 'web'"),
        ({"Command": ["x" * 9000]}, "Environment: command, environment and the other overrides"),
        ({"TaskDefinition": "nothing"}, "there is no task definition nothing"),
    ],
)
def test_reason_names_the_property_and_nothing_runs_when_it_is_wrong(
    cloudformation: AnswerServer, tasks: FakeTasks, properties: dict[str, Any], told: str
) -> None:
    run(event(cloudformation, properties=properties), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(told)
    assert tasks.calls == []


def test_container_must_be_named_when_two_are_essential(cloudformation: AnswerServer) -> None:
    tasks = FakeTasks(ContainerDefinition(name="app"), ContainerDefinition(name="proxy"))
    sent = event(cloudformation)
    del sent["ResourceProperties"]["ContainerName"]

    run(sent, tasks)

    assert only(cloudformation)["Reason"].startswith("ContainerName: is required")


def test_one_task_runs_when_the_request_is_delivered_twice(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    sent = event(cloudformation)

    run(sent, tasks, name="one")
    run(sent, tasks, name="two")

    assert len(tasks.calls) == 2
    assert tasks.started == 1
    first, second = cloudformation.answers
    assert first["PhysicalResourceId"] == second["PhysicalResourceId"]


def test_another_task_runs_when_the_resource_is_updated_again(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    sent = event(cloudformation, "update")

    run(sent, tasks)
    run(sent | {"RequestId": "another"}, tasks)

    assert tasks.started == 2


def test_start_is_repeated_with_one_token_when_ecs_has_no_room(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [Transient("RunTask placed no task: RESOURCE:MEMORY")] * 2

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"
    assert len(tasks.calls) == 3
    assert len({call["clientToken"] for call in tasks.calls}) == 1


def test_stack_fails_with_the_reason_when_ecs_never_has_room(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [Transient("RunTask placed no task: RESOURCE:MEMORY")] * 99

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Reason"] == "RunTask placed no task: RESOURCE:MEMORY"


def test_stack_goes_on_when_looks_are_throttled(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [Transient("slow down"), None, tasks.task("STOPPED", exit_code=0)]

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"


def test_stack_fails_when_looking_is_refused(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [AwsFailure("DescribeTasks", "AccessDeniedException", "no")]

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Reason"] == "DescribeTasks failed: AccessDeniedException: no"


def test_stack_fails_when_the_task_vanishes(cloudformation: AnswerServer, tasks: FakeTasks) -> None:
    tasks.life = [tasks.task(), None]

    run(event(cloudformation), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Task failed: ECS no longer knows it (MISSING;")


def test_stack_fails_in_time_when_the_task_goes_on_for_ever(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task()]
    clock = Clock(tick=100)
    began = clock.now

    run(event(cloudformation), tasks, clock)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Task did not end within 1740 seconds")
    assert clock.now - began < 1800 + 200


def test_stack_fails_at_once_when_the_unexpected_happens(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [KeyError("taskArn")]

    run(event(cloudformation), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == "unexpected KeyError: 'taskArn'"
    assert len(tasks.calls) == 1


def test_answer_is_returned_and_nobody_is_told_when_it_is_a_test(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    sent = json.loads((EVENTS / "test.json").read_text())

    result = run(sent, tasks)

    assert result["Status"] == "SUCCESS"
    assert result["PhysicalResourceId"] == "N/A"
    assert result["Data"]["Outcome"] == "Succeeded"
    assert tasks.started == 1
    assert cloudformation.answers == []


def test_task_runs_each_time_when_a_saved_test_is_repeated(tasks: FakeTasks) -> None:
    sent = json.loads((EVENTS / "test.json").read_text())

    run(sent, tasks, name="one")
    run(sent, tasks, name="two")

    assert tasks.started == 2


def test_no_secret_is_logged_when_a_task_fails(
    cloudformation: AnswerServer, tasks: FakeTasks, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.refusals = [AwsFailure("RunTask", "AccessDeniedException", "no")]

    with caplog.at_level("INFO"):
        run(event(cloudformation, properties={"Environment": {"TOKEN": "hunter2"}}), tasks)

    assert only(cloudformation)["Status"] == "FAILED"
    assert "hunter2" not in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with the cluster and the task definition of the samples."""
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    _forget_clients()
    with mock_aws():
        ecs = boto3.client("ecs")
        ecs.create_cluster(clusterName="shop")
        for _ in range(42):
            ecs.register_task_definition(
                family="shop-migrate",
                containerDefinitions=[{"name": "app", "image": "shop", "memory": 128}],
            )
        yield ecs
    _forget_clients()


def _forget_clients() -> None:
    client.cache_clear()
    run_task._wiring.cache_clear()


def of_this_account(sent: dict[str, Any]) -> dict[str, Any]:
    text: str = json.dumps(sent).replace(":111122223333:", ":123456789012:")
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.mark.parametrize(("exit_code", "status"), [(0, "SUCCESS"), (3, "FAILED")])
def test_handler_lets_the_exit_code_decide_when_lambda_calls_it(
    cloudformation: AnswerServer, account: Any, exit_code: int, status: str
) -> None:
    sent = of_this_account(event(cloudformation))

    def exits(parsed: dict[str, Any], **_: object) -> None:
        for task in parsed["tasks"]:
            task["containers"][0]["exitCode"] = exit_code

    # In moto every task ends, and with 0.
    client("ecs").meta.events.register("after-call.ecs.DescribeTasks", exits)

    done = run_handler(run_task.handler, sent)

    assert done.status.value == "SUCCEEDED", done.error
    answer = only(cloudformation)
    assert answer["Status"] == status
    (arn,) = account.list_tasks(cluster="shop", desiredStatus="RUNNING")["taskArns"]
    (task,) = account.describe_tasks(cluster="shop", tasks=[arn])["tasks"]
    assert task["startedBy"] == "run_task/shop/Migration"
