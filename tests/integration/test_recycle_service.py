"""Whole recycles of a simulated service, suspended and replayed by the SDK's own runner."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python_testing import DurableFunctionTestResult
from moto import mock_aws

from ecs_ops.aws.ended_execution import EndedExecution
from ecs_ops.aws.metrics import Metrics
from ecs_ops.aws.recycle_rescue import Rescue, rescue
from ecs_ops.aws.service_recycle import Outside, recycle
from ecs_ops.errors import AwsFailure, Transient
from ecs_ops.recycle import Continued, RecycleRequest, Report, task_id
from functions.recycle_service.handler import handler
from tests.durable_runner import run_durably, run_handler
from tests.ecs_simulator import EcsSimulator, Fault
from tests.fake_leases import FakeLeases

EVENTS = Path(__file__).parents[2] / "events" / "recycle_service"
EVENT = {"cluster_name": "shop", "service_name": "web", "wait_time": 5}
# The runner's waits take no time, so what takes time here is a call.
LATENCY = 1


class Lambda:
    """The function as Lambda has it: executions of a recycle, and of what puts it back."""

    def __init__(self, service: EcsSimulator) -> None:
        self.service, self.leases = service, FakeLeases()
        self.told: list[Report] = []
        self.rescued: list[Rescue] = []
        self.written: list[str] = []
        self.put = Metrics("recycle-service", write=self.written.append).put
        self.arn = ""

    def recycle(self) -> DurableFunctionTestResult:
        def flow(event: Any, context: DurableContext) -> Report | Continued:
            self.arn = context.execution_context.durable_execution_arn
            return recycle(RecycleRequest.parse(event), context, self._outside())

        return run_durably(flow, EVENT)

    def rescue(self, status: str) -> DurableFunctionTestResult:
        ended = EndedExecution(self.arn, status, EVENT, "")

        def flow(_event: Any, context: DurableContext) -> Rescue | None:
            return rescue(
                context,
                lambda: ended,
                lambda _request: self._outside(),
                lambda done, _problem: self.rescued.append(done),
                self.service.clock,
                put=self.put,
            )

        return run_durably(flow, {}, name="rescue")

    def _outside(self) -> Outside:
        return Outside(
            service=self.service,
            leases=self.leases,
            go_on=lambda name, _further: name,
            tell=lambda report, _execution: self.told.append(report),
            clock=self.service.clock,
            put=self.put,
        )

    def measured(self, metric: str) -> list[tuple[Any, Any]]:
        """Return the data points of a metric, each with what it is by."""
        lines = [json.loads(line) for line in self.written if metric in json.loads(line)]
        return [(line[metric], line.get("Outcome") or line["Service"]) for line in lines]


def report_of(result: DurableFunctionTestResult) -> Report:
    assert result.status.value == "SUCCEEDED", result.error
    report: Report = json.loads(str(result.result))
    return report


def nth(
    operation: str, *numbers: int, error: BaseException, after: bool = False
) -> Callable[[str, int], Fault | None]:
    """Return what lets these calls of one operation fail; 1 is the first."""
    seen = 0

    def fault(called: str, _number: int) -> Fault | None:
        nonlocal seen
        seen += called == operation
        return Fault(error, after) if called == operation and seen in numbers else None

    return fault


def test_progress_is_counted_once_however_often_the_handler_is_replayed() -> None:
    function = Lambda(EcsSimulator(desired_count=3, latency=LATENCY))

    function.recycle()

    assert [count for count, _ in function.measured("TasksBeingReplaced")] == [1, 1, 1]
    assert [count for count, _ in function.measured("TasksReplaced")] == [3]
    assert function.measured("Recycles") == [(1, "succeeded")]


def test_all_tasks_are_replaced_by_few_operations_when_nothing_goes_wrong() -> None:
    function = Lambda(EcsSimulator(desired_count=3, latency=LATENCY))

    result = function.recycle()

    report = report_of(result)
    assert report["outcome"] == "succeeded"
    assert report["recycled"] == function.service.old
    assert report["capacity"] == {"before": 3, "during": 3, "after": 3}
    assert function.told == [report]
    assert function.leases.items == {}
    assert function.service.desired_count == 3
    assert function.service.lowest() == 3
    assert [operation.name for operation in result.operations] == [
        *["survey", "lease", "raise", "strength"],
        *["stop-1", "replacement-1", "pause-1"],
        *["stop-2", "replacement-2", "pause-2"],
        *["stop-3", "replacement-3"],
        *["ending", "restore", "settle", "release", "report"],
    ]


def test_each_task_is_announced_once_when_the_handler_is_replayed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The line is a promise to those who follow the log.
    function = Lambda(EcsSimulator(desired_count=2, latency=LATENCY))
    first, second = map(task_id, function.service.old)
    caplog.set_level(logging.INFO)

    function.recycle()

    lines = [line for line in caplog.messages if line.startswith("Recycling task")]
    assert lines == [f"Recycling task 1/2: {first}", f"Recycling task 2/2: {second}"]


def test_each_task_is_stopped_once_when_calls_get_no_answer() -> None:
    service = EcsSimulator(desired_count=2, latency=LATENCY)
    error = Transient("StopTask failed: no answer")
    service.fault = nth("StopTask", 1, 3, error=error, after=True)

    report = report_of(Lambda(service).recycle())

    assert report["recycled"] == service.old
    live = [stop.task for stop in service.stops if stop.was_live]
    assert live == [task_id(task) for task in service.old]


def test_service_is_put_back_when_recycling_ends_early() -> None:
    service = EcsSimulator(desired_count=2, scaling={"lowest": 1, "highest": 2}, latency=LATENCY)
    service.fault = nth("StopTask", 1, error=AwsFailure("StopTask", "AccessDenied", "no"))
    function = Lambda(service)

    report = report_of(function.recycle())

    assert report["outcome"] == "failed"
    assert "StopTask failed: AccessDenied" in str(report["problem"])
    assert function.told == [report]
    assert function.leases.items == {}
    assert (service.desired_count, service.scaling) == (2, {"lowest": 1, "highest": 2})


def test_another_execution_puts_the_service_back_when_the_first_cannot() -> None:
    service = EcsSimulator(desired_count=2, latency=LATENCY)
    service.fault = nth("UpdateService", 2, error=RuntimeError("a defect"))
    function = Lambda(service)

    failed = function.recycle()
    raised = service.desired_count
    result = function.rescue("FAILED")

    assert failed.status.value == "FAILED"
    assert raised == 3
    (rescued,) = function.rescued
    assert (rescued["put_back"], rescued["desired_count"]) == (True, 2)
    assert service.desired_count == 2
    assert function.leases.items == {}
    assert [operation.name for operation in result.operations] == [
        *["begin", "find", "restore", "grace", "restore-again", "release", "report"]
    ]


def test_execution_fails_and_nothing_is_changed_when_the_service_cannot_be_recycled() -> None:
    service = EcsSimulator()
    service.deploy()
    function = Lambda(service)

    result = function.recycle()

    assert result.status.value == "FAILED"
    assert result.error is not None
    assert result.error.message == "service_name: web has a deployment in progress"
    assert result.error.type == "ecs_ops.errors.InvalidRequest"
    assert [operation.name for operation in result.operations] == ["survey"]
    assert not function.leases.items


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings = {
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "ALERT_TOPIC_ARN": "arn:aws:sns:us-west-2:111122223333:alerts",
        "RECYCLE_LEASE_TABLE_NAME": "leases",
        "RECYCLE_ROLE_ARNS": "arn:aws:iam::111122223333:role/*",
        "RECYCLE_SECRET_ARNS": "",
        "REPORT_RECIPIENTS": "",
        "REPORT_SUBJECT_PREFIX": "",
        "SMTP_SECRET_ARN": "",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        boto3.client("ecs").create_cluster(clusterName="shop")
        yield


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("case", ["service", "all_options"])
def test_handler_names_the_service_when_it_does_not_exist(case: str) -> None:
    result = run_handler(handler, json.loads((EVENTS / f"{case}.json").read_text()))

    assert result.error is not None
    assert str(result.error.message).startswith("cluster_name and service_name: ")
    assert str(result.error.message).endswith(" does not exist")


@pytest.mark.usefixtures("cluster")
def test_handler_does_nothing_when_an_execution_ended_with_a_result() -> None:
    event = {
        "source": "aws.lambda",
        "detail-type": "Durable Execution Status Change",
        "detail": {"durableExecutionArn": "arn:aws:lambda:one", "status": "SUCCEEDED"},
    }

    result = run_handler(handler, event)

    assert result.status.value == "SUCCEEDED", result.error
    assert json.loads(result.result or "null") is None


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "cluster_name"),
        (EVENT | {"wait_tme": 3}, "wait_tme"),
        ([], "input"),
        (EVENT | {"continuation": {"run": "mine"}}, "continuation"),
        (EVENT | {"continuation": []}, "continuation"),
    ],
)
def test_handler_names_the_field_when_the_input_is_wrong(event: object, field: str) -> None:
    result = run_handler(handler, event)

    assert result.error is not None
    assert str(result.error.message).startswith(f"{field}: ")
