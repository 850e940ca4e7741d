"""The contract of `ecs_ops.recycle.Services`, kept by the real adapter and by the fake alike."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from moto.moto_api import state_manager

from ecs_ops.aws.ecs_services import STOP_REASON, EcsService
from ecs_ops.errors import AwsFailure, NotFound, Transient
from ecs_ops.recycle import Services
from tests.fake_service import FakeService

NOWHERE = "arn:aws:ecs:us-west-2:123456789012:task/shop/00000000000000000000000000000000"


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield boto3.client("ecs", "us-west-2")


@pytest.fixture
def shop(ecs: Any) -> Iterator[Any]:
    """Yield a client of an account with the service shop/web and its two tasks."""
    # By itself, moto lets a task run through its whole life from call to call.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 100})
    ecs.create_cluster(clusterName="shop")
    ecs.register_task_definition(
        family="web", containerDefinitions=[{"name": "app", "image": "app", "memory": 512}]
    )
    ecs.create_service(
        cluster="shop",
        serviceName="web",
        taskDefinition="web",
        desiredCount=2,
        launchType="FARGATE",
    )
    # moto starts no task for a service; this task definition needs no network of moto's.
    ecs.run_task(cluster="shop", taskDefinition="web", count=2, launchType="FARGATE")
    yield ecs
    state_manager.unset_transition("ecs::task")


@pytest.fixture(params=["adapter", "fake"])
def service(request: pytest.FixtureRequest) -> Services:
    if request.param == "fake":
        return FakeService(desired_count=2)
    return EcsService(request.getfixturevalue("shop"), "shop", "web")


@pytest.fixture(params=["adapter", "fake"])
def absent(request: pytest.FixtureRequest) -> Services:
    if request.param == "fake":
        return FakeService(exists=False)
    return EcsService(request.getfixturevalue("shop"), "shop", "nowhere")


def test_service_is_described_when_it_exists(service: Services) -> None:
    found = service.describe()

    assert (found.status, found.desired_count) == ("ACTIVE", 2)
    assert (found.deployments, found.scheduling_strategy) == (1, "REPLICA")


def test_error_names_the_service_when_it_does_not_exist(absent: Services) -> None:
    with pytest.raises(NotFound, match=r"^service \w+ of cluster shop does not exist$"):
        absent.describe()


def test_tasks_are_listed_when_they_run(service: Services) -> None:
    tasks = service.tasks()

    assert len({task.arn for task in tasks}) == 2
    assert {(task.status, task.health) for task in tasks} == {("RUNNING", "UNKNOWN")}


def test_task_is_not_listed_when_it_is_stopped(service: Services) -> None:
    one, other = service.tasks()

    service.stop(one.arn)

    listed = {task.arn for task in service.tasks()}
    assert one.arn not in listed
    assert other.arn in listed


def test_task_is_known_as_recycled_when_it_was_stopped_here(service: Services) -> None:
    one, other = service.tasks()

    service.stop(one.arn)

    assert service.was_recycled(one.arn)
    assert not service.was_recycled(other.arn)
    assert not service.was_recycled(NOWHERE)


@pytest.mark.parametrize(
    ("expected", "wanted", "after"), [(2, 3, 3), (2, 1, 1), (2, 2, 2), (5, 6, 2)]
)
def test_desired_count_changes_only_when_it_is_as_expected(
    service: Services, expected: int, wanted: int, after: int
) -> None:
    assert service.change_desired_count(expected, wanted) == after
    assert service.describe().desired_count == after


# What follows is the adapter's alone: answers that moto does not give.


@pytest.fixture
def stub(ecs: Any) -> Iterator[Stubber]:
    with Stubber(ecs) as stubber:
        yield stubber


def test_error_names_the_cluster_when_it_does_not_exist(ecs: Any) -> None:
    with pytest.raises(NotFound, match=r"^cluster nowhere does not exist$"):
        EcsService(ecs, "nowhere", "web").describe()


def test_failure_is_no_missing_service_when_aws_gives_another_reason(
    ecs: Any, stub: Stubber
) -> None:
    stub.add_response(
        "describe_services", {"services": [], "failures": [{"reason": "ACCESS", "detail": "no"}]}
    )

    with pytest.raises(AwsFailure, match="ACCESS: no"):
        EcsService(ecs, "shop", "web").describe()


def test_every_page_is_read_when_a_service_has_many_tasks(ecs: Any, stub: Stubber) -> None:
    arns = [f"{NOWHERE[:-3]}{number:03}" for number in range(150)]
    question = {"cluster": "shop", "serviceName": "web", "desiredStatus": "RUNNING"}
    stub.add_response("list_tasks", {"taskArns": arns[:100], "nextToken": "more"}, question)
    stub.add_response("list_tasks", {"taskArns": arns[100:]}, question | {"nextToken": "more"})
    for batch in (arns[:100], arns[100:]):
        tasks = [
            {"taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING"} for arn in batch
        ]
        stub.add_response("describe_tasks", {"tasks": tasks}, {"cluster": "shop", "tasks": batch})

    assert [task.arn for task in EcsService(ecs, "shop", "web").tasks()] == arns


def test_task_is_left_out_when_it_ends_between_the_calls(ecs: Any, stub: Stubber) -> None:
    stub.add_response("list_tasks", {"taskArns": [NOWHERE, NOWHERE[:-1] + "1"]})
    stub.add_response(
        "describe_tasks",
        {
            "tasks": [
                {"taskArn": NOWHERE, "lastStatus": "RUNNING", "desiredStatus": "STOPPED"},
            ],
            "failures": [{"arn": NOWHERE[:-1] + "1", "reason": "MISSING"}],
        },
    )

    assert EcsService(ecs, "shop", "web").tasks() == []


def test_reason_is_given_when_a_task_is_stopped(ecs: Any, stub: Stubber) -> None:
    stub.add_response("stop_task", {}, {"cluster": "shop", "task": NOWHERE, "reason": STOP_REASON})

    EcsService(ecs, "shop", "web").stop(NOWHERE)

    stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InvalidParameterException", NotFound),
        ("AccessDeniedException", AwsFailure),
        ("ServerException", Transient),
        ("ThrottlingException", Transient),
    ],
)
def test_error_has_a_type_when_a_task_cannot_be_stopped(
    ecs: Any, stub: Stubber, code: str, expected: type[Exception]
) -> None:
    stub.add_client_error("stop_task", code)

    with pytest.raises(expected):
        EcsService(ecs, "shop", "web").stop(NOWHERE)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("describe_services", EcsService.describe),
        ("list_tasks", EcsService.tasks),
        ("describe_tasks", lambda service: service.was_recycled(NOWHERE)),
    ],
)
def test_error_is_transient_when_aws_is_busy(
    ecs: Any, stub: Stubber, operation: str, call: Callable[[EcsService], object]
) -> None:
    stub.add_client_error(operation, "ThrottlingException")

    with pytest.raises(Transient):
        call(EcsService(ecs, "shop", "web"))
