"""Custom::ECSRunTask from CloudFormation's request to its answer, suspended and replayed."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.cloudformation import CloudFormation
from ecs_ops.aws.ecs_tasks import NotPlaced, RoleNotAssumed
from ecs_ops.aws.metrics import Metrics, Put, unmeasured
from ecs_ops.aws.task_rescue import rescue
from ecs_ops.aws.task_run import Outside, respond, stop_tasks
from ecs_ops.custom_resource import Answer, CustomResourceRequest
from ecs_ops.errors import AwsFailure, Conflict, NotFound, Transient
from ecs_ops.task_request import ContainerDefinition
from ecs_ops.verdict import TaskState
from functions.run_task import handler as run_task
from tests.answer_server import SECRET, AnswerServer
from tests.durable_runner import run_durably, run_handler
from tests.fake_ecs_tasks import FakeTasks
from tests.inline_context import InlineContext, Killed

EVENTS = Path(__file__).parents[2] / "events/run_task"


class Clock:
    """Goes on by so many seconds whenever it is read."""

    def __init__(self, tick: float = 1.0) -> None:
        self.now = 1_700_000_000.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Stacks:
    """Where the status of a stack is read."""

    def __init__(self, *answers: str | Exception, above: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._answers = list(answers or ["UPDATE_IN_PROGRESS"])
        self._above = list(above)

    def stack_status(self, stack_id: str) -> str:
        self.asked.append(stack_id)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def statuses_above(self, stack_id: str) -> list[str]:
        del stack_id
        return self._above


class Logs:
    """Where the last lines of a container are read."""

    def __init__(self, *lines: str, broken: bool = False) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self._lines = list(lines)
        self._broken = broken

    def last_lines(self, group: str, stream: str, region: str = "", limit: int = 10) -> list[str]:
        self.asked.append((group, stream, region))
        if self._broken:
            raise KeyError("events")
        return self._lines[-limit:]


def event(
    server: AnswerServer, case: str = "create", properties: dict[str, Any] | None = None
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    content["ResponseURL"] = server.url
    content["ResourceProperties"] |= properties or {}
    return content


def run(
    sent: dict[str, Any],
    tasks: FakeTasks,
    clock: Clock | None = None,
    *,
    name: str = "one",
    stacks: Stacks | None = None,
    logs: Logs | None = None,
    put: Put = unmeasured,
) -> dict[str, Any]:
    """Run the flow to its end; return its result."""
    status = "DELETE_IN_PROGRESS" if sent["RequestType"] == "Delete" else "UPDATE_IN_PROGRESS"
    outside = Outside(
        tasks=tasks,
        stacks=stacks or Stacks(status),
        logs=logs or Logs(),
        answers=CloudFormation(),
        clock=clock or Clock(),
        put=put,
    )

    def flow(given: dict[str, Any], context: DurableContext) -> Any:
        return respond(given, context, outside)

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


@pytest.mark.parametrize(("exit_code", "outcome"), [(0, "Succeeded"), (3, "Failed")])
def test_answer_is_counted_once_however_often_the_handler_is_replayed(
    cloudformation: AnswerServer, tasks: FakeTasks, exit_code: int, outcome: str
) -> None:
    tasks.life = [tasks.task(), tasks.task(), tasks.task("STOPPED", exit_code=exit_code)]
    written: list[str] = []

    run(event(cloudformation), tasks, put=Metrics("run-task", write=written.append).put)

    (line,) = map(json.loads, written)
    assert (line["Answers"], line["Outcome"]) == (1, outcome)
    assert line["AnswerLatency"] > 0


def test_test_event_is_not_counted(cloudformation: AnswerServer, tasks: FakeTasks) -> None:
    written: list[str] = []

    run(
        {**event(cloudformation), "Test": True},
        tasks,
        put=Metrics("run-task", write=written.append).put,
    )

    assert written == []


def test_task_is_asked_for_as_the_resource_says(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation), tasks)

    (sent,) = tasks.calls
    assert re.fullmatch(r"[0-9a-f]{64}", sent["clientToken"])
    assert re.fullmatch(r"run_task/shop/Migration/[0-9a-f]{16}/wait", sent["startedBy"])
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
        f"Task {1:032x}. Log stream ecs/app/{1:032x} of /shop."
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
        ({"Service": "web"}, "Service: there is no active service web in cluster shop"),
        ({"Timeout": "0"}, "Timeout: must be a whole number from 1"),
        ({"ContainerName": "web"}, "ContainerName: the task definition has no container 'web'"),
        ({"Command": ["x" * 9000]}, "Environment: command, environment and the other overrides"),
        ({"TaskDefinition": "nothing"}, "TaskDefinition: there is no task definition nothing"),
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


@pytest.mark.parametrize(
    "trouble",
    [
        NotPlaced("RunTask placed no task: RESOURCE:MEMORY"),
        Transient("RunTask got no answer: ReadTimeoutError"),
    ],
    ids=["no room", "no answer"],
)
def test_start_has_the_same_token_when_it_is_tried_again(
    cloudformation: AnswerServer, tasks: FakeTasks, trouble: Exception
) -> None:
    tasks.refusals = [trouble] * 9

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"
    assert len(tasks.calls) == 10
    assert len({call["clientToken"] for call in tasks.calls}) == 1
    assert tasks.started == 1


def test_repeated_delivery_finds_the_task_when_ecs_had_no_room_for_it_at_first(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    no_room = NotPlaced("RunTask placed no task: AGENT")

    for name in ("one", "two"):
        tasks.refusals = [no_room, no_room]
        run(event(cloudformation), tasks, name=name)

    assert tasks.started == 1


def test_stack_fails_with_the_reason_when_ecs_never_has_room(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [NotPlaced("RunTask placed no task: RESOURCE:MEMORY")] * 999
    clock = Clock(tick=50)
    began = clock.now

    run(event(cloudformation), tasks, clock)

    assert only(cloudformation)["Reason"] == (
        "Task was not started within 1770 seconds: RunTask placed no task: RESOURCE:MEMORY"
    )
    assert clock.now - began < 1800 + 200


NO_ROOM = NotPlaced("RunTask placed no task: RESOURCE:MEMORY")


@pytest.mark.parametrize(
    ("case", "properties", "then", "now"),
    [
        ("create", {}, "CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"),
        ("create", {}, "CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS"),
        ("update", {}, "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"),
        ("update", {}, "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
        # That is for the rollback's own request, which comes with the old properties.
        (
            "update",
            {"RunOnRollback": "true"},
            "UPDATE_IN_PROGRESS",
            "UPDATE_ROLLBACK_IN_PROGRESS",
        ),
        ("delete", {"RunOn": ["Delete"]}, "DELETE_IN_PROGRESS", "DELETE_FAILED"),
    ],
)
def test_nothing_starts_when_the_stack_is_cancelled_while_there_is_no_room(
    cloudformation: AnswerServer,
    tasks: FakeTasks,
    *,
    case: str,
    properties: dict[str, Any],
    then: str,
    now: str,
) -> None:
    tasks.refusals = [NO_ROOM] * 2

    run(event(cloudformation, case, properties), tasks, stacks=Stacks(then, then, now))

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        f"Nothing was run: the stack is {now} by now, and waits for this request no longer"
    )
    assert tasks.started == 0
    assert tasks.stops == []


def test_nothing_starts_when_the_stack_is_cancelled_before_the_first_try(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    stacks = Stacks("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS")

    run(event(cloudformation, "update"), tasks, Clock(tick=31), stacks=stacks)

    assert "UPDATE_ROLLBACK_IN_PROGRESS" in only(cloudformation)["Reason"]
    assert tasks.calls == []


def test_status_is_read_once_when_the_task_starts_at_once(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    stacks = Stacks("UPDATE_IN_PROGRESS", AssertionError("nobody asks"))

    run(event(cloudformation, "update"), tasks, stacks=stacks)

    assert only(cloudformation)["Status"] == "SUCCESS"


def test_task_starts_later_when_the_status_cannot_be_read_for_a_while(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [NO_ROOM]
    throttled = [Transient("DescribeStacks failed: Throttling: slow down")] * 2
    stacks = Stacks("UPDATE_IN_PROGRESS", *throttled, "UPDATE_IN_PROGRESS")

    run(event(cloudformation, "update"), tasks, stacks=stacks)

    assert only(cloudformation)["Status"] == "SUCCESS"
    assert len(tasks.calls) == 2


def test_task_is_stopped_when_the_stack_is_cancelled_after_a_start_without_an_answer(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    lost = Transient("RunTask got no answer: ReadTimeoutError")
    run_task_of_ecs = tasks.run

    def run_and_lose_the_answer(arguments: Any) -> Any:
        run_task_of_ecs(arguments)
        raise lost

    cast("Any", tasks).run = run_and_lose_the_answer
    stacks = Stacks("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS")

    run(event(cloudformation, "update"), tasks, stacks=stacks)

    assert f"Had started all the same and was stopped: {1:032x}" in only(cloudformation)["Reason"]
    assert tasks.stops == [tasks.task()["taskArn"]]


NOT_ASSUMED = RoleNotAssumed("RunTask", "ClientException", "ECS was unable to assume the role 'x'")


def test_task_starts_when_its_role_is_known_everywhere(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [NOT_ASSUMED] * 4

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"
    assert tasks.started == 1


def test_stack_fails_after_two_minutes_when_ecs_may_not_assume_the_role(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [NOT_ASSUMED] * 99
    clock = Clock(tick=20)
    began = clock.now

    run(event(cloudformation), tasks, clock)

    assert only(cloudformation)["Reason"] == str(NOT_ASSUMED)
    assert 120 < clock.now - began < 120 + 8 * clock.tick


def test_stack_fails_at_once_when_no_retry_would_mend_the_start(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [AwsFailure("RunTask", "ATTRIBUTE", "no task was placed: ATTRIBUTE gpu")]

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Reason"] == (
        "RunTask failed: ATTRIBUTE: no task was placed: ATTRIBUTE gpu"
    )
    assert len(tasks.calls) == 1


def test_task_is_stopped_when_its_start_got_no_answer_until_the_deadline(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    lost = Transient("RunTask got no answer: ReadTimeoutError")
    run_task_of_ecs = tasks.run

    def run_and_lose_the_answer(arguments: Any) -> Any:
        run_task_of_ecs(arguments)
        raise lost

    cast("Any", tasks).run = run_and_lose_the_answer

    run(event(cloudformation), tasks, Clock(tick=100))

    assert only(cloudformation)["Status"] == "FAILED"
    assert f"Had started all the same and was stopped: {1:032x}" in only(cloudformation)["Reason"]
    assert tasks.started == 1
    assert tasks.stops == [tasks.task()["taskArn"]]


def test_delivery_attaches_when_the_other_one_was_told_something_else_by_the_service(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation), tasks, name="one")
    tasks.refusals = [Conflict("RunTask failed: ConflictException")]

    run(event(cloudformation), tasks, name="two")

    assert tasks.started == 1
    assert [answer["Status"] for answer in cloudformation.answers] == ["SUCCESS", "SUCCESS"]


@pytest.mark.parametrize(
    "before",
    [
        {"kind": "", "createdAt": "2023-11-14T22:13:21.000Z"},
        {"kind": "wait", "createdAt": "2023-11-14T20:00:00.000Z"},
    ],
    ids=["one that is not waited for", "one of an earlier deployment"],
)
def test_delivery_does_not_attach_to_the_task_of_another_request(
    cloudformation: AnswerServer, tasks: FakeTasks, before: dict[str, Any]
) -> None:
    sent = event(cloudformation)
    origin = CustomResourceRequest.parse(sent).origin(before["kind"])
    tasks.know({**tasks.task(), "startedBy": origin, "createdAt": before["createdAt"]})
    tasks.refusals = [Conflict("RunTask failed: ConflictException")]

    run(sent, tasks)

    answer = only(cloudformation)
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "RunTask failed: ConflictException")


def test_another_task_runs_when_a_request_id_comes_again_with_other_properties(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=3)]
    run(event(cloudformation), tasks, name="one")
    tasks.life = [tasks.task("STOPPED", exit_code=0, number=2)]

    run(event(cloudformation, properties={"Iteration": "8"}), tasks, name="two")

    assert tasks.started == 2
    assert [answer["Status"] for answer in cloudformation.answers] == ["FAILED", "SUCCESS"]


def test_stack_goes_on_when_looks_are_throttled(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [Transient("slow down"), None, tasks.task("STOPPED", exit_code=0)]

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"


def test_stack_fails_and_the_task_is_stopped_when_looking_is_refused(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [AwsFailure("DescribeTasks", "AccessDeniedException", "no")]

    run(event(cloudformation), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("DescribeTasks failed: AccessDeniedException: no")
    assert tasks.stops == [tasks.task()["taskArn"]]


def test_stack_fails_when_the_task_vanishes(cloudformation: AnswerServer, tasks: FakeTasks) -> None:
    tasks.life = [tasks.task(), None]

    run(event(cloudformation), tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Task failed: ECS no longer knows it (MISSING;")


@pytest.mark.parametrize(
    ("properties", "seconds"),
    [({}, 1770), ({"Timeout": "600"}, 600), ({"Timeout": "86400"}, 1770)],
)
def test_task_is_stopped_and_the_stack_fails_in_time_when_it_goes_on_for_ever(
    cloudformation: AnswerServer, tasks: FakeTasks, properties: dict[str, str], seconds: int
) -> None:
    tasks.life = [tasks.task()]
    clock = Clock(tick=50)
    began = clock.now

    run(event(cloudformation, properties=properties), tasks, clock)

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(
        f"Task did not end within {seconds} seconds (last seen RUNNING) and was stopped."
    )
    assert tasks.stops == [tasks.task()["taskArn"]]
    assert clock.now - began < seconds + 8 * clock.tick


@pytest.mark.parametrize(
    ("exit_code", "status", "told"),
    [(0, "SUCCESS", ""), (3, "FAILED", "Task failed: container app exited with 3.")],
)
def test_exit_code_decides_when_ecs_only_tidies_up_at_the_deadline(
    cloudformation: AnswerServer, tasks: FakeTasks, exit_code: int, status: str, told: str
) -> None:
    tasks.life = [tasks.task(), tasks.task("DEPROVISIONING", exit_code=exit_code)]

    run(event(cloudformation), tasks, Clock(tick=50))

    answer = only(cloudformation)
    assert answer["Status"] == status
    assert answer["Reason"].startswith(told)
    assert tasks.stops == []


def test_task_is_stopped_when_the_unexpected_happens_after_its_start(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [cast("Any", {"lastStatus": "RUNNING"})]

    run(event(cloudformation), tasks)

    assert only(cloudformation)["Reason"] == "unexpected KeyError: 'containers'"
    assert tasks.stops == [tasks.task()["taskArn"]]


def test_reason_says_so_when_an_overdue_task_cannot_be_stopped(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task()]
    tasks.trouble = [AwsFailure("StopTask", "AccessDeniedException", "no")]

    run(event(cloudformation), tasks, Clock(tick=100))

    assert (
        "which failed: StopTask failed: AccessDeniedException: no."
        in (only(cloudformation)["Reason"])
    )


def test_last_lines_of_the_log_are_told_when_the_task_fails(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=1)]
    logs = Logs("Applying 0042", "password authentication failed for hunter2-db")

    sent = event(cloudformation, properties={"Environment": {"PASSWORD": "hunter2"}})
    run(sent, tasks, logs=logs)

    assert only(cloudformation)["Reason"].endswith(
        "of /shop, last lines: Applying 0042 | password authentication failed for ***-db"
    )
    assert logs.asked == [("/shop", f"ecs/app/{1:032x}", "")]


def test_verdict_is_told_when_the_log_cannot_be_read(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=1)]

    run(event(cloudformation), tasks, logs=Logs(broken=True))

    assert only(cloudformation)["Reason"].startswith("Task failed: container app exited with 1.")


def test_log_is_not_read_when_the_task_succeeds(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    logs = Logs("done")

    run(event(cloudformation), tasks, logs=logs)

    assert logs.asked == []


@pytest.mark.parametrize(
    ("codes", "status"), [((0, 0), "SUCCESS"), ((0, 1), "FAILED"), ((1, 0), "FAILED")]
)
def test_every_essential_container_decides_when_none_is_named(
    cloudformation: AnswerServer, codes: tuple[int, int], status: str
) -> None:
    containers = [ContainerDefinition(name=name) for name in ("app", "proxy")]
    tasks = FakeTasks(*containers, ContainerDefinition(name="logs", essential=False))
    ended = tasks.task("STOPPED", exit_code=codes[0])
    ended["containers"][1]["exitCode"] = codes[1]
    ended["containers"][2]["exitCode"] = 1
    tasks.life = [ended]
    sent = event(cloudformation)
    for name in ("ContainerName", "Command", "Environment"):
        del sent["ResourceProperties"][name]

    run(sent, tasks)

    assert only(cloudformation)["Status"] == status


ROLLING_BACK = ["ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"]


@pytest.mark.parametrize("status", ROLLING_BACK)
@pytest.mark.parametrize(
    ("case", "properties"),
    [
        ("create", {}),
        ("update", {}),
        ("update", {"RunOnRollback": "false"}),
        ("delete", {"RunOn": ["Delete"]}),
        ("update", {"Wrong": "refused by this version, not by the one that made it"}),
    ],
)
def test_nothing_runs_when_the_stack_rolls_back(
    cloudformation: AnswerServer,
    tasks: FakeTasks,
    status: str,
    case: str,
    properties: dict[str, Any],
) -> None:
    stacks = Stacks(Transient("throttled"), status)
    sent = event(cloudformation, case, properties)

    run(sent, tasks, stacks=stacks)

    answer = only(cloudformation)
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"]["Outcome"] == "Skipped"
    assert tasks.calls == []
    assert stacks.asked == [sent["StackId"]] * 2


@pytest.mark.parametrize(
    ("case", "status"),
    [
        ("update", "UPDATE_ROLLBACK_IN_PROGRESS"),
        ("delete", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("delete", "ROLLBACK_IN_PROGRESS"),
    ],
)
def test_task_runs_when_the_stack_rolls_back_and_the_resource_wants_it(
    cloudformation: AnswerServer, tasks: FakeTasks, case: str, status: str
) -> None:
    wish = {"RunOnRollback": "true", "RunOn": ["Update", "Delete"]}

    run(event(cloudformation, case, wish), tasks, stacks=Stacks(status))

    assert only(cloudformation)["Data"]["Outcome"] == "Succeeded"
    assert tasks.started == 1


FINISHED = [
    *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE"),
    *("UPDATE_ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "DELETE_COMPLETE", "DELETE_FAILED"),
]


@pytest.mark.parametrize("status", FINISHED)
@pytest.mark.parametrize("wish", [{}, {"RunOnRollback": "true"}])
@pytest.mark.parametrize(
    ("case", "also", "answered"),
    [
        ("create", "DELETE_IN_PROGRESS", "FAILED"),
        ("update", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "FAILED"),
        ("delete", "UPDATE_IN_PROGRESS", "SUCCESS"),
    ],
)
def test_nothing_runs_when_the_stack_no_longer_waits(
    *, status: str, wish: dict[str, str], case: str, also: str, answered: str
) -> None:
    for now in (status, also):
        tasks, answers = FakeTasks(), Unheard()
        sent = json.loads((EVENTS / f"{case}.json").read_text())
        sent["ResourceProperties"] |= {"RunOn": ["Create", "Update", "Delete"], **wish}
        outside = Outside(
            tasks=tasks, stacks=Stacks(now), logs=Logs(), answers=answers, clock=Clock()
        )

        respond(sent, cast("DurableContext", Context()), outside)

        (answer,) = answers.answers
        assert answer["Status"] == answered
        if answered == "FAILED":
            assert answer["Reason"].startswith(f"Nothing was run: the stack is {now} by now")
        assert tasks.calls == []


def signed(server: AnswerServer, sent: dict[str, Any], moment: str) -> dict[str, Any]:
    """Return the request as it is sent at that moment."""
    return {**sent, "ResponseURL": server.url.replace("?", f"?X-Amz-Date={moment}&")}


# The clock begins at 22:13:20.
@pytest.mark.parametrize(
    ("moment", "late"),
    [("20231114T214320Z", 1801), ("20231114T214000Z", 2001)],
    ids=["after ServiceTimeout", "long after"],
)
def test_nothing_runs_when_the_request_comes_too_late(
    cloudformation: AnswerServer, tasks: FakeTasks, moment: str, late: int
) -> None:
    run(signed(cloudformation, event(cloudformation), moment), tasks)

    answer = only(cloudformation)
    assert answer["Reason"] == (
        f"Nothing was run: the request came {late} seconds after CloudFormation had sent it, and "
        f"ServiceTimeout leaves no time for a task."
    )
    assert tasks.calls == []


@pytest.mark.parametrize(
    ("case", "status", "wish"),
    [
        ("update", "UPDATE_ROLLBACK_IN_PROGRESS", {}),
        ("delete", "ROLLBACK_IN_PROGRESS", {"RunOn": ["Delete"]}),
    ],
)
def test_rollback_goes_on_when_its_request_comes_too_late(
    cloudformation: AnswerServer, tasks: FakeTasks, case: str, status: str, wish: dict[str, Any]
) -> None:
    tasks.life = [tasks.task()]
    abandon(event(cloudformation, "update"), tasks)

    late = signed(cloudformation, event(cloudformation, case, wish), "20231114T214000Z")
    run(late | {"RequestId": "late"}, tasks, name="late", stacks=Stacks(status))

    assert only(cloudformation)["Data"]["Outcome"] == "Skipped"
    assert tasks.stops == [tasks.task()["taskArn"]]


def test_task_has_its_own_time_when_the_request_comes_late(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=0)]

    sent = signed(
        cloudformation, event(cloudformation, properties={"Timeout": "60"}), "20231114T221130Z"
    )
    run(sent, tasks)

    assert only(cloudformation)["Status"] == "SUCCESS"


def test_test_runs_when_it_is_made_of_an_old_request(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task("STOPPED", exit_code=0)]

    old = signed(cloudformation, event(cloudformation), "20231114T213000Z")

    assert run(old | {"Test": True}, tasks)["Status"] == "SUCCESS"


def test_time_is_counted_from_when_the_request_was_sent(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task()]
    clock = Clock(tick=50)
    began = clock.now
    sent = signed(cloudformation, event(cloudformation), "20231114T220320Z")

    run(sent, tasks, clock)

    assert only(cloudformation)["Reason"].startswith("Task did not end within 1770 seconds")
    assert clock.now - began < 1770 - 600 + 8 * clock.tick


def test_nothing_more_is_asked_for_when_ecs_does_not_answer() -> None:
    asked = []

    class Silent(FakeTasks):
        def running(self, cluster: str, origin: str) -> list[TaskState]:
            asked.append((cluster, origin))
            raise Transient("ListTasks got no answer: ReadTimeoutError")

    request = CustomResourceRequest.parse(json.loads((EVENTS / "delete.json").read_text()))

    with pytest.raises(Transient):
        stop_tasks(request, Silent(), kinds=("", "wait", "rollback"), since=0, reason="over")

    # Each call may take 39 seconds, and CloudFormation waits for the answer.
    assert len(asked) == 1


def test_what_the_stack_has_ceased_to_wait_for_is_stopped_when_it_rolls_back(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.life = [tasks.task()]
    abandon(event(cloudformation, "update"), tasks)
    run(event(cloudformation, "update", {"WaitForExit": "false"}), tasks, name="left alone")

    sent = event(cloudformation, "update") | {"RequestId": "rollback"}
    run(sent, tasks, name="back", stacks=Stacks("UPDATE_ROLLBACK_IN_PROGRESS"))

    assert cloudformation.answers[-1]["Data"]["Outcome"] == "Skipped"
    assert tasks.started == 2
    assert tasks.stops == [tasks.task()["taskArn"]]


@pytest.mark.parametrize(
    "properties",
    [
        {"RunOn": ["Create"]},
        {"Cluster": "old"},
        {"Wrong": "refused by this version, not by the one that made it"},
    ],
)
def test_what_an_update_had_begun_is_stopped_whatever_the_old_properties_say(
    cloudformation: AnswerServer, tasks: FakeTasks, properties: dict[str, Any]
) -> None:
    abandon(event(cloudformation, "update"), tasks)

    sent = event(cloudformation, "update", properties) | {"RequestId": "rollback"}
    run(sent, tasks, name="back", stacks=Stacks("UPDATE_ROLLBACK_IN_PROGRESS"))

    assert only(cloudformation)["Data"]["Outcome"] == "Skipped"
    assert tasks.stops == [tasks.task()["taskArn"]]


def test_what_an_update_had_begun_is_stopped_when_one_of_its_clusters_is_throttled(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    abandon(event(cloudformation, "update"), tasks)
    tasks.trouble = [Transient("StopTask failed: ThrottlingException: slow down")] * 2

    # There is no cluster `old`.
    sent = event(cloudformation, "update", {"Cluster": "old"})
    run(sent, tasks, stacks=Stacks("UPDATE_ROLLBACK_IN_PROGRESS"))

    assert tasks.stops == [tasks.task()["taskArn"]]


def test_rollback_goes_on_when_what_still_runs_cannot_be_stopped(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    abandon(event(cloudformation, "update"), tasks)
    tasks.trouble = [AwsFailure("StopTask", "AccessDeniedException", "no")]

    run(event(cloudformation, "update"), tasks, stacks=Stacks("UPDATE_ROLLBACK_IN_PROGRESS"))

    assert only(cloudformation)["Data"]["Outcome"] == "Skipped"


def test_rollback_does_not_stop_what_it_runs_itself_when_it_is_delivered_twice(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    sent = event(cloudformation, "update", {"RunOnRollback": "true"})

    for name in ("one", "two"):
        run(sent, tasks, name=name, stacks=Stacks("UPDATE_ROLLBACK_IN_PROGRESS"))

    assert tasks.started == 1
    assert tasks.stops == []


def test_nothing_is_stopped_when_the_next_update_goes_ahead(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation, "update", {"WaitForExit": "false"}), tasks, name="one")

    run(event(cloudformation, "update") | {"RequestId": "next"}, tasks, name="two")

    assert tasks.started == 2
    assert tasks.stops == []


@pytest.mark.parametrize(
    ("above", "wish", "runs"),
    [
        (["UPDATE_ROLLBACK_IN_PROGRESS"], {}, 0),
        (["UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"], {}, 0),
        (["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"], {}, 0),
        (["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"], {"RunOnRollback": "true"}, 1),
        (["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"], {}, 1),
        (["DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS"], {}, 1),
    ],
)
def test_nothing_runs_when_a_nested_stack_goes_because_the_one_above_rolls_back(
    cloudformation: AnswerServer,
    tasks: FakeTasks,
    above: list[str],
    wish: dict[str, str],
    runs: int,
) -> None:
    stacks = Stacks("DELETE_IN_PROGRESS", above=above)

    run(event(cloudformation, "delete", {"RunOn": ["Delete"], **wish}), tasks, stacks=stacks)

    assert only(cloudformation)["Status"] == "SUCCESS"
    assert tasks.started == runs


@pytest.mark.parametrize(
    "error",
    [
        AwsFailure("DescribeStacks", "AccessDenied", "not authorized"),
        NotFound("there is no such stack"),
        Transient("DescribeStacks got no answer"),
    ],
)
def test_nothing_runs_and_the_permission_is_named_when_the_status_is_unknown(
    cloudformation: AnswerServer, tasks: FakeTasks, error: Exception
) -> None:
    run(event(cloudformation, "update"), tasks, Clock(tick=30), stacks=Stacks(error))

    answer = only(cloudformation)
    assert answer["Status"] == "FAILED"
    assert str(error) in answer["Reason"]
    assert "cloudformation:DescribeStacks" in answer["Reason"]
    assert tasks.calls == []


def test_status_is_not_read_when_nothing_would_run_or_it_is_a_test(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    stacks = Stacks(AssertionError("nobody asks"))

    run(json.loads((EVENTS / "test.json").read_text()), tasks, name="one", stacks=stacks)
    run(event(cloudformation, "delete"), tasks, name="two", stacks=stacks)
    run(event(cloudformation, properties={"RunOn": "Delete"}), tasks, name="three", stacks=stacks)

    assert stacks.asked == []
    assert tasks.started == 1


def test_update_that_runs_nothing_goes_on_when_the_status_is_unknown(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    denied = Stacks(AwsFailure("DescribeStacks", "AccessDenied", "not authorized"))

    run(event(cloudformation, "update", {"RunOn": "Create"}), tasks, stacks=denied)

    assert only(cloudformation)["Data"]["Outcome"] == "Skipped"


def test_what_still_runs_is_stopped_when_the_resource_is_deleted(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    started = {"WaitForExit": "false"}
    run(event(cloudformation, properties=started), tasks, name="one")
    run(event(cloudformation, "update", started), tasks, name="two")
    other = event(cloudformation, properties=started) | {"LogicalResourceId": "Other"}
    run(other, tasks, name="three")
    abandon(event(cloudformation, "update"), tasks)

    run(event(cloudformation, "delete"), tasks, name="four")

    assert cloudformation.answers[-1]["Status"] == "SUCCESS"
    assert tasks.started == 4
    assert tasks.stops == [tasks.task(number=number)["taskArn"] for number in (1, 2, 4)]


def test_delete_does_not_stop_what_it_runs_itself_when_it_is_delivered_twice(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    sent = event(cloudformation, "delete", {"RunOn": ["Delete"]})

    run(sent, tasks, name="one")
    run(sent, tasks, name="two")

    assert tasks.started == 1
    assert tasks.stops == []


def test_stack_is_deleted_when_what_still_runs_cannot_be_stopped(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    run(event(cloudformation, properties={"WaitForExit": "false"}), tasks, name="one")
    tasks.trouble = [AwsFailure("StopTask", "AccessDeniedException", "no")]

    run(event(cloudformation, "delete"), tasks, name="two")

    assert cloudformation.answers[-1]["Status"] == "SUCCESS"


@pytest.mark.parametrize(
    "change",
    [
        {"PhysicalResourceId": "shop-Migration-1A2B3C4D5E6F"},
        {"ResourceProperties": {"Wrong": "x", "RunOn": "Delete"}},
        {"ResourceProperties": {"Cluster": "gone", "TaskDefinition": "gone"}},
    ],
)
def test_stack_can_be_deleted_whatever_it_was_made_with(
    cloudformation: AnswerServer, tasks: FakeTasks, change: dict[str, Any]
) -> None:
    sent = event(cloudformation, "delete", {"RunOn": ["Delete"]}) | change

    run(sent, tasks)

    answer = only(cloudformation)
    assert answer["Status"] == "SUCCESS"
    assert answer["PhysicalResourceId"] == sent["PhysicalResourceId"]
    assert tasks.calls == []


def test_placement_is_the_services_when_the_resource_names_one(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.services["web"] = {
        "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}],
        "platformVersion": "1.4.0",
        "awsvpcConfiguration": {"subnets": ["subnet-9"], "securityGroups": ["sg-9"]},
    }
    sent = event(cloudformation, properties={"Service": "web"})
    del sent["ResourceProperties"]["LaunchType"]
    del sent["ResourceProperties"]["NetworkConfiguration"]

    run(sent, tasks)

    (call,) = tasks.calls
    assert call["capacityProviderStrategy"] == [
        {"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}
    ]
    assert call["platformVersion"] == "1.4.0"
    assert call["networkConfiguration"] == {
        "awsvpcConfiguration": {"subnets": ["subnet-9"], "securityGroups": ["sg-9"]}
    }
    assert "launchType" not in call


class TestRescue:
    """What the status change of an ended execution brings about."""

    @staticmethod
    def run(ended: "Ended | None", tasks: FakeTasks, stacks: Stacks | None = None) -> Any:
        outside = Outside(
            tasks=tasks,
            stacks=stacks or Stacks("CREATE_IN_PROGRESS"),
            logs=Logs(),
            answers=CloudFormation(),
            clock=Clock(),
        )
        change = {"detail": {"startTimestamp": "2023-11-14T22:13:21.000Z"}}

        def flow(given: dict[str, Any], context: DurableContext) -> Any:
            return rescue(given, context, outside, lambda: cast("Any", ended))

        done = run_durably(flow, change, name="rescue")
        assert done.status.value == "SUCCEEDED", done.error
        return json.loads(str(done.result))

    @pytest.mark.parametrize(
        ("status", "error", "told"),
        [
            ("STOPPED", "", "was stopped by an operator. "),
            ("TIMED_OUT", "", "timed out. "),
            ("FAILED", "no memory for orders", "failed: no memory for ***. "),
        ],
    )
    def test_task_is_stopped_and_the_stack_is_told_when_an_execution_ends(
        self, cloudformation: AnswerServer, tasks: FakeTasks, status: str, error: str, told: str
    ) -> None:
        sent = event(cloudformation)
        abandon(sent, tasks)

        self.run(Ended(status, sent, error), tasks)

        answer = only(cloudformation)
        assert answer["Status"] == "FAILED"
        assert told in answer["Reason"]
        assert answer["Reason"].endswith("Execution arn:execution.")
        assert answer["RequestId"] == sent["RequestId"]
        assert tasks.stops == [tasks.task()["taskArn"]]

    def test_only_its_own_task_is_stopped_when_an_execution_ends(
        self, cloudformation: AnswerServer, tasks: FakeTasks
    ) -> None:
        sent = event(cloudformation)
        abandon(sent | {"LogicalResourceId": "Other"}, tasks)
        abandon(sent, tasks)
        before = tasks.run(tasks.calls[-1])
        before["createdAt"] = "2023-11-14T20:00:00.000Z"
        abandon(sent | {"RequestId": "another"}, tasks)

        self.run(Ended("STOPPED", sent), tasks)

        assert tasks.stops == [tasks.task(number=3)["taskArn"]]

    def test_stack_is_told_when_the_task_cannot_be_stopped(
        self, cloudformation: AnswerServer, tasks: FakeTasks
    ) -> None:
        sent = event(cloudformation)
        abandon(sent, tasks)
        tasks.trouble = [Transient("StopTask got no answer")] * 99

        self.run(Ended("TIMED_OUT", sent), tasks)

        assert "may still be running: StopTask got no answer" in only(cloudformation)["Reason"]

    def test_stack_can_be_deleted_when_the_execution_of_a_delete_ends(
        self, cloudformation: AnswerServer, tasks: FakeTasks
    ) -> None:
        self.run(Ended("FAILED", event(cloudformation, "delete")), tasks)

        assert only(cloudformation)["Status"] == "SUCCESS"

    def test_stack_is_told_when_the_task_of_a_delete_did_not_end(
        self, cloudformation: AnswerServer, tasks: FakeTasks
    ) -> None:
        sent = event(cloudformation, "delete", {"RunOn": "Delete"})
        abandon(sent, tasks)

        self.run(Ended("STOPPED", sent), tasks)

        assert only(cloudformation)["Status"] == "FAILED"
        assert tasks.stops == [tasks.task()["taskArn"]]

    @pytest.mark.parametrize(
        ("case", "properties", "status"),
        [
            ("update", {"RunOn": ["Create"]}, "UPDATE_IN_PROGRESS"),
            ("update", {}, "UPDATE_ROLLBACK_IN_PROGRESS"),
            ("update", {"Wrong": "x"}, "UPDATE_ROLLBACK_IN_PROGRESS"),
            ("delete", {"RunOn": ["Delete"]}, "ROLLBACK_IN_PROGRESS"),
        ],
    )
    def test_stack_goes_on_when_nothing_was_to_be_run(
        self,
        cloudformation: AnswerServer,
        tasks: FakeTasks,
        case: str,
        properties: dict[str, Any],
        status: str,
    ) -> None:
        sent = event(cloudformation, case, properties)

        self.run(Ended("TIMED_OUT", sent), tasks, Stacks(Transient("throttled"), status))

        answer = only(cloudformation)
        assert (answer["Status"], answer["Data"]["Outcome"]) == ("SUCCESS", "Skipped")

    @pytest.mark.parametrize(
        ("properties", "status"),
        [
            ({"RunOnRollback": "true"}, "UPDATE_ROLLBACK_IN_PROGRESS"),
            ({"Wrong": "x"}, "UPDATE_IN_PROGRESS"),
            ({}, AwsFailure("DescribeStacks", "AccessDenied", "no")),
        ],
    )
    def test_stack_is_told_when_something_was_to_be_run_or_nobody_knows(
        self,
        cloudformation: AnswerServer,
        tasks: FakeTasks,
        properties: dict[str, Any],
        status: str | Exception,
    ) -> None:
        sent = event(cloudformation, "update", properties)

        self.run(Ended("TIMED_OUT", sent), tasks, Stacks(status))

        assert only(cloudformation)["Status"] == "FAILED"

    def test_nobody_is_told_when_nobody_waits(
        self, cloudformation: AnswerServer, tasks: FakeTasks
    ) -> None:
        test = json.loads((EVENTS / "test.json").read_text())

        assert self.run(None, tasks) is None
        assert self.run(Ended("FAILED", test), tasks) is None
        assert self.run(Ended("FAILED", {"no": "request"}), tasks) is None
        assert cloudformation.answers == []


@dataclass
class Ended:
    """An execution that has ended, as `ecs_ops.aws.ended_execution` finds it."""

    status: str
    input: dict[str, Any]
    error: str = ""
    arn: str = "arn:execution"


@dataclass
class Unheard:
    """Answers that reach nobody."""

    answers: list[Answer] = field(default_factory=list)

    def answer(self, event: Any, answer: Answer, lambda_context: Any) -> None:
        del event, lambda_context
        self.answers.append(answer)


class Context(InlineContext):
    """Of a Lambda function that has all the time in the world."""

    lambda_context = None


def abandon(sent: dict[str, Any], tasks: FakeTasks) -> None:
    """Let the execution of a request end as soon as its task has been started."""
    status = "DELETE_IN_PROGRESS" if sent["RequestType"] == "Delete" else "UPDATE_IN_PROGRESS"
    outside = Outside(
        tasks=tasks, stacks=Stacks(status), logs=Logs(), answers=Unheard(), clock=Clock()
    )
    before = len(tasks.calls)
    described = tasks.describe

    def die(cluster: str, task_arn: str) -> Any:
        del cluster, task_arn
        raise Killed

    cast("Any", tasks).describe = die
    with pytest.raises(Killed):
        respond(sent, cast("DurableContext", Context()), outside)
    cast("Any", tasks).describe = described
    assert len(tasks.calls) == before + 1


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


def test_our_own_words_stay_when_a_value_is_one_of_them(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    tasks.refusals = [AwsFailure("RunTask", "ClientException", "no RunTask for this task: failed")]
    values = {"A": "RunTask", "B": "failed", "C": "ClientException", "D": "task"}

    run(event(cloudformation, properties={"Environment": values}), tasks)

    assert only(cloudformation)["Reason"] == (
        "RunTask failed: ClientException: no *** for this ***: ***"
    )


def test_property_is_named_when_a_value_is_its_name(
    cloudformation: AnswerServer, tasks: FakeTasks
) -> None:
    wrong = {"Environment": {"A": "RunOn", "B": "Create"}, "RunOn": "Always"}

    run(event(cloudformation, properties=wrong), tasks)

    assert only(cloudformation)["Reason"] == (
        "RunOn: 'Always' is not one of Create, Update, Delete"
    )


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    case=st.sampled_from(["create", "update", "delete"]),
    secrets=st.lists(TEXTS.map("hunter2".__add__), min_size=1, max_size=3),
    where=st.sampled_from(["status", "containers", "start", "watch", "reason", "stop", "fine"]),
    kind=st.sampled_from([AwsFailure, Transient, NotPlaced, NotFound, KeyError]),
    exit_code=st.none() | st.integers(0, 2),
)
def test_no_secret_is_told_or_logged_whatever_goes_wrong(
    caplog: pytest.LogCaptureFixture,
    *,
    case: str,
    secrets: list[str],
    where: str,
    kind: type[Exception],
    exit_code: int | None,
) -> None:
    sent: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    sent["ResourceProperties"] |= {
        "Environment": {f"NAME{index}": secret for index, secret in enumerate(secrets)},
        "RunOn": ["Create", "Update", "Delete"],
    }
    told = f"{' '.join(secrets)} {sent['ResponseURL']}"
    error = kind("Operation", "Code", told) if kind is AwsFailure else kind(told)
    tasks = FakeTasks()
    ended = tasks.task("STOPPED", exit_code=exit_code)
    if where == "reason":
        ended["stoppedReason"] = told
        ended["containers"][0]["reason"] = told
    tasks.life = [tasks.task() if where == "stop" else error if where == "watch" else ended]
    tasks.refusals = [error] * 99 if where == "start" else []
    tasks.trouble = [error] * 99 if where == "stop" else []
    if where == "containers":
        cast("Any", tasks).containers = lambda _: (_ for _ in ()).throw(error)
    outside = Outside(
        tasks=tasks,
        stacks=Stacks(
            error
            if where == "status"
            else f"{'DELETE' if case == 'delete' else 'UPDATE'}_IN_PROGRESS"
        ),
        logs=Logs(told, *secrets),
        answers=Unheard(),
        clock=Clock(tick=100),
    )
    caplog.clear()

    with caplog.at_level(logging.DEBUG):
        answer = respond(sent, cast("DurableContext", Context()), outside)

    for text in (caplog.text, json.dumps(answer), json.dumps(answer, ensure_ascii=False)):
        assert "hunter2" not in text
        assert SECRET not in text
    assert cast("Unheard", outside.answers).answers == [answer]


def test_no_secret_is_logged_by_the_durable_engine_when_everything_fails(
    cloudformation: AnswerServer, tasks: FakeTasks, caplog: pytest.LogCaptureFixture
) -> None:
    sent = event(cloudformation, properties={"Environment": {"TOKEN": "hunter2"}})
    told = f"bad hunter2 {sent['ResponseURL']}"
    tasks.life = [Transient(told), AwsFailure("DescribeTasks", "Why", told)]
    tasks.refusals = [Transient(told), NotPlaced(told)]
    tasks.trouble = [KeyError(told)]

    with caplog.at_level(logging.DEBUG):
        run(sent, tasks, stacks=Stacks(Transient(told), "CREATE_IN_PROGRESS"))

    text = "".join(
        record.getMessage() + str(record.exc_text)
        for record in caplog.records
        # The test runner stands for Lambda, which is given the event.
        if "testing" not in record.name
    )
    assert only(cloudformation)["Status"] == "FAILED"
    assert "hunter2" not in text
    assert SECRET not in text
    assert "hunter2" not in only(cloudformation)["Reason"]


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

    def in_progress(**_: object) -> Any:
        return SimpleNamespace(status_code=200), {"Stacks": [{"StackStatus": "CREATE_IN_PROGRESS"}]}

    # moto would need more than is installed to know of stacks.
    client("cloudformation").meta.events.register(
        "before-call.cloudformation.DescribeStacks", in_progress
    )

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
    assert task["startedBy"].startswith("run_task/shop/Migration/")


@pytest.mark.usefixtures("account")
def test_handler_takes_a_status_change_for_what_it_is_when_nothing_is_left_to_do() -> None:
    change = {
        "source": "aws.lambda",
        "detail-type": "Durable Execution Status Change",
        "detail": {"durableExecutionArn": "arn:execution", "status": "SUCCEEDED"},
    }

    done = run_handler(run_task.handler, change)

    assert done.status.value == "SUCCEEDED", done.error
    assert json.loads(str(done.result)) is None
