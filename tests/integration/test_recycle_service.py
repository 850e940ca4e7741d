"""Whole recycles, suspended and replayed by the SDK's own runner as Lambda does it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python_testing import DurableFunctionTestResult
from moto import mock_aws

from ecs_ops.aws.service_recycle import recycle
from ecs_ops.errors import Transient
from ecs_ops.recycle import RecycleRequest, Report
from functions.recycle_service.handler import handler
from tests.durable_runner import run_durably, run_handler
from tests.fake_service import FakeService

EVENTS = Path(__file__).parents[2] / "events" / "recycle_service"
EVENT = {"cluster_name": "shop", "service_name": "web", "wait_time": 5}


def run(service: FakeService) -> DurableFunctionTestResult:
    def flow(event: Any, context: DurableContext) -> Report:
        return recycle(RecycleRequest.parse(event), context, service, service.clock)

    return run_durably(flow, EVENT)


def report_of(result: DurableFunctionTestResult) -> Report:
    assert result.status.value == "SUCCEEDED", result.error
    report: Report = json.loads(str(result.result))
    return report


def test_all_tasks_are_replaced_by_few_operations_when_nothing_goes_wrong() -> None:
    service = FakeService(desired_count=3)
    old = list(service.present)

    result = run(service)

    report = report_of(result)
    assert report["outcome"] == "succeeded"
    assert report["recycled"] == old
    assert report["capacity"] == {"before": 3, "during": 3, "after": 3}
    assert service.strength_at_stop == [4, 4, 4]
    assert service.desired_count == 3
    assert [operation.name for operation in result.operations] == [
        *["survey", "raise", "strength"],
        *["stop-1", "replacement-1", "pause-1"],
        *["stop-2", "replacement-2", "pause-2"],
        *["stop-3", "replacement-3"],
        *["restore", "settle"],
    ]


def test_each_task_is_announced_once_when_the_handler_is_replayed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The line is a promise to those who follow the log.
    service = FakeService(desired_count=2)
    first, second = service.present
    caplog.set_level(logging.INFO)

    run(service)

    lines = [line for line in caplog.messages if line.startswith("Recycling task")]
    assert lines == [f"Recycling task 1/2: {first}", f"Recycling task 2/2: {second}"]


def test_each_task_is_stopped_once_when_calls_get_no_answer() -> None:
    service = FakeService(desired_count=2)
    old = list(service.present)
    stop, cut_off = service.stop, [True, True]

    def stop_without_an_answer(task_arn: str) -> None:
        stop(task_arn)
        if cut_off and cut_off.pop():
            raise Transient("StopTask failed: no answer")

    service.stop = stop_without_an_answer  # type: ignore[method-assign]
    service.failures = dict.fromkeys((1, 3, 8), Transient("ListTasks failed: throttled"))

    report = report_of(run(service))

    assert report["recycled"] == old
    assert service.recycled == old


def test_desired_count_is_restored_when_recycling_ends_early() -> None:
    service = FakeService(desired_count=2)
    service.failures = {4: KeyError("taskArns")}

    report = report_of(run(service))

    assert report["outcome"] == "failed"
    assert "KeyError" in str(report["problem"])
    assert len(report["skipped"]) == 2
    assert service.desired_count == 2


def test_execution_fails_when_the_service_cannot_be_recycled() -> None:
    result = run(FakeService(deployments=2))

    assert result.status.value == "FAILED"
    assert result.error is not None
    assert result.error.message == "service_name: web has a deployment in progress"
    assert result.error.type == "ecs_ops.errors.InvalidRequest"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        boto3.client("ecs").create_cluster(clusterName="shop")
        yield


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("case", ["service", "all_options"])
def test_handler_names_the_service_when_it_does_not_exist(case: str) -> None:
    result = run_handler(handler, json.loads((EVENTS / f"{case}.json").read_text()))

    assert result.error is not None
    assert result.error.message == (
        "cluster_name and service_name: service web of cluster shop does not exist"
    )


@pytest.mark.parametrize(
    ("event", "field"),
    [({}, "cluster_name"), (EVENT | {"wait_tme": 3}, "wait_tme"), ([], "input")],
)
def test_handler_names_the_field_when_the_input_is_wrong(event: object, field: str) -> None:
    result = run_handler(handler, event)

    assert result.error is not None
    assert str(result.error.message).startswith(f"{field}: ")
