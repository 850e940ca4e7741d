"""Tasks of ECS: the contract that the adapter and its fake share, and what ECS may answer."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from ecs_ops.aws.ecs_tasks import EcsTasks, NotPlaced, RoleNotAssumed
from ecs_ops.aws.task_run import Tasks
from ecs_ops.errors import AwsFailure, Conflict, NotFound, Transient
from ecs_ops.task_request import Network, TaskRequest, client_token, run_task_arguments
from tests.fake_ecs_tasks import FakeTasks

if TYPE_CHECKING:
    from ecs_ops.verdict import TaskState

REGION = "eu-west-1"
TASK = "arn:aws:ecs:eu-west-1:123456789012:task/shop/0f1e2d3c4b5a69788796a5b4c3d2e1f0"
CLUSTER = "arn:aws:ecs:eu-west-1:123456789012:cluster/shop"
DEFINITION = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop-migrate:1"


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def arguments(origin: str = "test") -> Any:
    network = Network(subnets=["subnet-1"], security_groups=["sg-1"])
    return run_task_arguments(
        TaskRequest(
            cluster="shop", task_definition="shop-migrate", launch_type="FARGATE", network=network
        ),
        container="app",
        token=client_token(origin),
        origin=origin,
        blame="Environment",
    )


@pytest.fixture(params=["moto", "fake"])
def tasks(request: pytest.FixtureRequest) -> Iterator[EcsTasks | FakeTasks]:
    if request.param == "fake":
        yield FakeTasks()
        return
    with mock_aws():
        ecs = boto3.client("ecs", region_name=REGION)
        ecs.create_cluster(clusterName="shop")
        ecs.register_task_definition(
            family="shop-migrate",
            containerDefinitions=[
                {
                    "name": "app",
                    "image": "shop",
                    "memory": 128,
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {"awslogs-group": "/shop", "awslogs-stream-prefix": "ecs"},
                    },
                }
            ],
        )
        yield EcsTasks(ecs)


class TestContract:
    def test_task_is_found_when_it_was_started(self, tasks: Tasks) -> None:
        started = tasks.run(arguments())

        seen = tasks.describe(started["clusterArn"], started["taskArn"])

        assert seen is not None
        assert seen["taskArn"] == started["taskArn"]
        assert started["clusterArn"].endswith("cluster/shop")
        assert [container["name"] for container in seen["containers"]] == ["app"]

    def test_task_is_none_when_ecs_does_not_know_it(self, tasks: Tasks) -> None:
        assert tasks.describe(CLUSTER, TASK) is None

    def test_containers_are_read_when_the_task_definition_exists(self, tasks: Tasks) -> None:
        (container,) = tasks.containers("shop-migrate")

        assert container.name == "app"
        assert container.essential
        assert container.log_group == "/shop"
        assert container.log_stream("1") == "ecs/app/1"

    def test_running_tasks_are_those_of_one_origin_until_they_are_stopped(
        self, tasks: Tasks
    ) -> None:
        started = tasks.run(arguments("run_task/shop/A"))
        tasks.run(arguments("run_task/shop/AB"))

        (found,) = tasks.running("shop", "run_task/shop/A")
        assert found["taskArn"] == started["taskArn"]
        tasks.stop(found["clusterArn"], found["taskArn"], "enough")

        assert tasks.running("shop", "run_task/shop/A") == []
        assert len(tasks.running("shop", "run_task/shop/AB")) == 1
        assert tasks.running("shop", "nobody") == []

    def test_running_tasks_are_not_found_when_there_is_no_cluster(self, tasks: Tasks) -> None:
        with pytest.raises(NotFound):
            tasks.running("nowhere", "test")

    def test_origin_and_definition_are_known_when_a_task_is_started_or_found(
        self, tasks: Tasks
    ) -> None:
        started = tasks.run(arguments("me"))

        for task in (started, tasks.describe(started["clusterArn"], started["taskArn"])):
            assert task is not None
            assert task["startedBy"] == "me"
            assert task["taskDefinitionArn"].endswith(":task-definition/shop-migrate:1")

    def test_tasks_of_a_family_are_known_when_they_run_and_when_they_have_stopped(
        self, tasks: EcsTasks | FakeTasks
    ) -> None:
        one, other = tasks.run(arguments("me")), tasks.run(arguments("you"))
        tasks.stop("shop", one["taskArn"], "enough")

        found = {task["taskArn"]: task for task in tasks.of_family("shop", "shop-migrate", 10)}

        assert found.keys() == {one["taskArn"], other["taskArn"]}
        assert found[one["taskArn"]]["lastStatus"] == "STOPPED"
        assert found[one["taskArn"]]["startedBy"] == "me"
        assert found[other["taskArn"]]["lastStatus"] != "STOPPED"

    def test_tasks_of_a_family_are_no_more_of_a_kind_than_asked_for(
        self, tasks: EcsTasks | FakeTasks
    ) -> None:
        for number in range(5):
            started = tasks.run(arguments(f"me{number}"))
            if number % 2:
                tasks.stop("shop", started["taskArn"], "enough")

        assert len(tasks.of_family("shop", "shop-migrate", 1)) == 2
        assert len(tasks.of_family("shop", "shop-migrate", 5)) == 5

    def test_there_are_no_tasks_when_nobody_knows_the_family(
        self, tasks: EcsTasks | FakeTasks
    ) -> None:
        tasks.run(arguments())

        assert tasks.of_family("shop", "shop", 10) == []

    def test_tasks_of_a_family_are_not_found_when_there_is_no_cluster(
        self, tasks: EcsTasks | FakeTasks
    ) -> None:
        with pytest.raises(NotFound):
            tasks.of_family("nowhere", "shop-migrate", 10)

    def test_placement_is_not_found_when_there_is_no_service(self, tasks: Tasks) -> None:
        with pytest.raises(NotFound, match="no active service web"):
            tasks.placement("shop", "web")

    def test_containers_are_not_found_when_there_is_no_task_definition(self, tasks: Tasks) -> None:
        with pytest.raises(NotFound):
            tasks.containers("nothing")


class StubbedEcs:
    """The real adapter on a client that answers as it is told, and checks what it is asked."""

    def __init__(self) -> None:
        ecs = boto3.client("ecs", region_name=REGION)
        self.stub = Stubber(ecs)
        self.tasks = EcsTasks(ecs)


@pytest.fixture
def ecs() -> Iterator[StubbedEcs]:
    stubbed = StubbedEcs()
    with stubbed.stub:
        yield stubbed


# What RunTask tells of a task that has stopped, when it has seen the client token before.
REPEATED: Any = {
    "tasks": [{"taskArn": TASK, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}],
    "failures": [],
}


def test_repeated_start_finds_the_task_when_it_has_stopped_since(ecs: StubbedEcs) -> None:
    ecs.stub.add_response("run_task", REPEATED)
    stopped = {
        **REPEATED["tasks"][0],
        "clusterArn": CLUSTER,
        "startedBy": "me",
        "containers": [{"name": "app", "exitCode": 3}],
    }
    ecs.stub.add_response("describe_tasks", {"tasks": [stopped], "failures": []})

    task = ecs.tasks.run(arguments("me"))

    assert (task["lastStatus"], task["clusterArn"], task["startedBy"]) == ("STOPPED", CLUSTER, "me")
    assert task["containers"] == [{"name": "app", "exitCode": 3}]


def test_repeated_start_tells_what_is_certain_when_the_task_is_forgotten(ecs: StubbedEcs) -> None:
    ecs.stub.add_response("run_task", REPEATED)
    missing = {"arn": TASK, "reason": "MISSING"}
    ecs.stub.add_response("describe_tasks", {"tasks": [], "failures": [missing]})

    certain: TaskState = {
        "taskArn": TASK,
        "clusterArn": CLUSTER,
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "startedBy": "me",
        "containers": [],
    }
    assert ecs.tasks.run(arguments("me")) == certain


def test_times_are_utc_and_codes_are_kept_when_a_task_has_stopped(ecs: StubbedEcs) -> None:
    started = datetime(2024, 5, 2, 12, 15, 30, tzinfo=timezone(timedelta(hours=2)))
    ecs.stub.add_response(
        "describe_tasks",
        {
            "tasks": [
                {
                    "taskArn": TASK,
                    "clusterArn": CLUSTER,
                    "lastStatus": "STOPPED",
                    "containers": [{"name": "app", "exitCode": 0}, {"name": "x", "reason": "why"}],
                    "stopCode": "EssentialContainerExited",
                    "stoppedReason": "Essential container in task exited",
                    "startedBy": "run_task/shop",
                    "taskDefinitionArn": DEFINITION,
                    "startedAt": started,
                    "stoppedAt": datetime(2024, 5, 2, 10, 16, tzinfo=UTC),
                }
            ],
            "failures": [],
        },
        {"cluster": CLUSTER, "tasks": [TASK]},
    )

    assert ecs.tasks.describe(CLUSTER, TASK) == {
        "taskArn": TASK,
        "clusterArn": CLUSTER,
        "lastStatus": "STOPPED",
        "containers": [{"name": "app", "exitCode": 0}, {"name": "x", "reason": "why"}],
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "startedBy": "run_task/shop",
        "taskDefinitionArn": DEFINITION,
        "startedAt": "2024-05-02T10:15:30.000Z",
        "stoppedAt": "2024-05-02T10:16:00.000Z",
    }


# The words of https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
@pytest.mark.parametrize(
    "failure",
    [
        {"reason": "RESOURCE:MEMORY"},
        {"reason": "RESOURCE:ENI"},
        {"reason": "AGENT", "detail": "not connected"},
        {"reason": "Capacity is unavailable at this time. Please try again later"},
        {"reason": "You've reached the limit on the number of tasks you can run concurrently"},
    ],
)
def test_it_is_worth_another_try_when_ecs_places_no_task(
    ecs: StubbedEcs, failure: dict[str, str]
) -> None:
    ecs.stub.add_response("run_task", {"tasks": [], "failures": [failure]})

    with pytest.raises(NotPlaced, match=re.escape(failure["reason"])):
        ecs.tasks.run(arguments())


@pytest.mark.parametrize(
    "failure",
    [
        {"reason": "ATTRIBUTE", "detail": "gpu"},
        {"reason": "MISSING"},
        {"reason": "LOCATION"},
        {"reason": "INACTIVE"},
        {"reason": "EMPTY CAPACITY PROVIDER"},
    ],
)
def test_it_is_not_worth_another_try_when_a_person_has_to_mend_it(
    ecs: StubbedEcs, failure: dict[str, str]
) -> None:
    ecs.stub.add_response("run_task", {"tasks": [], "failures": [failure]})

    with pytest.raises(AwsFailure, match=failure["reason"]) as failed:
        ecs.tasks.run(arguments())

    assert failed.value.code == failure["reason"]


def test_it_is_worth_another_try_when_the_cluster_has_no_instance_yet(ecs: StubbedEcs) -> None:
    told = "No Container Instances were found in your cluster."
    ecs.stub.add_client_error("run_task", "InvalidParameterException", told, http_status_code=400)

    with pytest.raises(NotPlaced, match=told):
        ecs.tasks.run(arguments() | {"launchType": "EC2"})


def test_no_retry_helps_when_a_launch_type_was_forgotten(ecs: StubbedEcs) -> None:
    told = "No Container Instances were found in your cluster."
    ecs.stub.add_client_error("run_task", "InvalidParameterException", told, http_status_code=400)
    forgotten = arguments()
    del forgotten["launchType"]

    with pytest.raises(AwsFailure, match=told):
        ecs.tasks.run(forgotten)


def test_role_is_to_blame_when_ecs_may_not_assume_it(ecs: StubbedEcs) -> None:
    told = "ECS was unable to assume the role 'arn:aws:iam::1:role/x' that was provided"
    ecs.stub.add_client_error("run_task", "ClientException", told, http_status_code=400)

    with pytest.raises(RoleNotAssumed) as refused:
        ecs.tasks.run(arguments())

    assert str(refused.value) == f"RunTask failed: ClientException: {told}"
    assert refused.value.code == "ClientException"


def test_all_running_tasks_are_found_when_ecs_lists_them_in_pages(ecs: StubbedEcs) -> None:
    arns = [f"{TASK}{number}" for number in range(150)]
    asked = {"cluster": "shop", "startedBy": "me"}
    ecs.stub.add_response("list_tasks", {"taskArns": arns[:100], "nextToken": "more"}, asked)
    ecs.stub.add_response("list_tasks", {"taskArns": arns[100:]}, {**asked, "nextToken": "more"})
    for part in (arns[:100], arns[100:]):
        described = [
            {
                "taskArn": arn,
                "clusterArn": CLUSTER,
                # ECS lists by startedBy; should it ever not, nobody else's task is to be stopped.
                "startedBy": "me" if arn != arns[0] else "somebody else",
                "createdAt": datetime(2024, 5, 2, 10, 15, tzinfo=UTC),
            }
            for arn in part
        ]
        ecs.stub.add_response(
            "describe_tasks", {"tasks": described}, {"cluster": "shop", "tasks": part}
        )

    found = ecs.tasks.running("shop", "me")

    assert [task["taskArn"] for task in found] == arns[1:]
    assert found[0]["createdAt"] == "2024-05-02T10:15:00.000Z"


def test_task_of_a_family_is_told_once_when_it_is_stopped_or_forgotten_meanwhile(
    ecs: StubbedEcs,
) -> None:
    kept, stopping, gone = (f"{TASK}{number}" for number in range(3))
    asked = {"cluster": "shop", "family": "shop-migrate"}
    ecs.stub.add_response(
        "list_tasks", {"taskArns": [kept, stopping]}, {**asked, "desiredStatus": "RUNNING"}
    )
    ecs.stub.add_response(
        "list_tasks", {"taskArns": [stopping, gone]}, {**asked, "desiredStatus": "STOPPED"}
    )
    ecs.stub.add_response(
        "describe_tasks",
        {
            "tasks": [{"taskArn": arn, "clusterArn": CLUSTER} for arn in (kept, stopping)],
            "failures": [{"arn": gone, "reason": "MISSING"}],
        },
        {"cluster": "shop", "tasks": [kept, stopping, gone]},
    )

    found = ecs.tasks.of_family("shop", "shop-migrate", 1000)

    assert [task["taskArn"] for task in found] == [kept, stopping]


def test_all_tasks_of_a_family_are_described_when_ecs_lists_them_in_pages(ecs: StubbedEcs) -> None:
    arns = [f"{TASK}{number}" for number in range(150)]
    asked = {"cluster": "shop", "family": "shop-migrate", "desiredStatus": "RUNNING"}
    ecs.stub.add_response("list_tasks", {"taskArns": arns[:100], "nextToken": "more"}, asked)
    # No page is asked for beyond the limit, though there is one.
    ecs.stub.add_response(
        "list_tasks",
        {"taskArns": arns[100:], "nextToken": "further"},
        {**asked, "nextToken": "more"},
    )
    ecs.stub.add_response("list_tasks", {"taskArns": []}, {**asked, "desiredStatus": "STOPPED"})
    for part in (arns[:100], arns[100:130]):
        described = [{"taskArn": arn, "clusterArn": CLUSTER} for arn in part]
        ecs.stub.add_response(
            "describe_tasks", {"tasks": described}, {"cluster": "shop", "tasks": part}
        )

    found = ecs.tasks.of_family("shop", "shop-migrate", 130)

    assert [task["taskArn"] for task in found] == arns[:130]


@pytest.mark.parametrize(
    ("operation", "raised"),
    [("list_tasks", "ThrottlingException"), ("describe_tasks", "ServerException")],
)
def test_tasks_of_a_family_may_be_there_later_when_ecs_has_no_answer(
    ecs: StubbedEcs, operation: str, raised: str
) -> None:
    if operation == "describe_tasks":
        ecs.stub.add_response("list_tasks", {"taskArns": [TASK]})
        ecs.stub.add_response("list_tasks", {"taskArns": []})
    ecs.stub.add_client_error(operation, raised)

    with pytest.raises(Transient):
        ecs.tasks.of_family("shop", "shop-migrate", 10)


def test_reason_for_stopping_is_cut_to_what_ecs_takes(ecs: StubbedEcs) -> None:
    ecs.stub.add_response("stop_task", {}, {"cluster": CLUSTER, "task": TASK, "reason": "r" * 255})

    ecs.tasks.stop(CLUSTER, TASK, "r" * 999)


def test_placement_is_read_when_the_service_is_active(ecs: StubbedEcs) -> None:
    awsvpc = {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}
    strategy = [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]
    service = {
        "status": "ACTIVE",
        "launchType": "FARGATE",
        "capacityProviderStrategy": strategy,
        "platformVersion": "1.4.0",
        "networkConfiguration": {"awsvpcConfiguration": awsvpc},
    }
    ecs.stub.add_response(
        "describe_services", {"services": [service]}, {"cluster": "shop", "services": ["web"]}
    )

    # RunTask takes a launch type or a strategy, not both.
    assert ecs.tasks.placement("shop", "web") == {
        "capacityProviderStrategy": strategy,
        "platformVersion": "1.4.0",
        "awsvpcConfiguration": awsvpc,
    }


def test_launch_type_is_read_when_the_service_has_no_strategy(ecs: StubbedEcs) -> None:
    service = {"status": "ACTIVE", "launchType": "EC2"}
    ecs.stub.add_response("describe_services", {"services": [service]})

    assert ecs.tasks.placement("shop", "web") == {"launchType": "EC2"}


def test_placement_is_not_found_when_the_service_is_being_deleted(ecs: StubbedEcs) -> None:
    ecs.stub.add_response("describe_services", {"services": [{"status": "DRAINING"}]})

    with pytest.raises(NotFound):
        ecs.tasks.placement("shop", "web")


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ConflictException", 400, Conflict),
        ("ClusterNotFoundException", 400, NotFound),
        ("ThrottlingException", 400, Transient),
        ("ServerException", 500, Transient),
        ("AccessDeniedException", 400, AwsFailure),
        ("ClientException", 400, AwsFailure),
    ],
)
def test_error_is_one_of_ours_when_run_task_fails(
    ecs: StubbedEcs, code: str, status: int, error: type[Exception]
) -> None:
    ecs.stub.add_client_error("run_task", code, "why", http_status_code=status)

    with pytest.raises(error):
        ecs.tasks.run(arguments())


def test_task_is_none_when_ecs_calls_it_missing(ecs: StubbedEcs) -> None:
    ecs.stub.add_response(
        "describe_tasks", {"tasks": [], "failures": [{"arn": TASK, "reason": "MISSING"}]}
    )

    assert ecs.tasks.describe(CLUSTER, TASK) is None


def test_it_is_a_failure_when_ecs_refuses_to_describe_for_another_reason(ecs: StubbedEcs) -> None:
    ecs.stub.add_response(
        "describe_tasks", {"tasks": [], "failures": [{"arn": TASK, "reason": "INACTIVE"}]}
    )

    with pytest.raises(AwsFailure) as failed:
        ecs.tasks.describe(CLUSTER, TASK)

    assert failed.value.code == "INACTIVE"


def test_no_log_is_known_when_the_driver_is_not_awslogs(ecs: StubbedEcs) -> None:
    log = {"logDriver": "awsfirelens", "options": {"awslogs-group": "/not/this"}}
    ecs.stub.add_response(
        "describe_task_definition",
        {
            "taskDefinition": {
                "containerDefinitions": [
                    {"name": "app", "essential": False, "logConfiguration": log}
                ]
            }
        },
    )

    (container,) = ecs.tasks.containers("shop-migrate")

    assert not container.essential
    assert container.log_group == ""


def test_reading_is_refused_when_access_is_denied(ecs: StubbedEcs) -> None:
    ecs.stub.add_client_error("describe_task_definition", "AccessDeniedException", "no")

    with pytest.raises(AwsFailure):
        ecs.tasks.containers("shop-migrate")
