"""EcsService keeps the contract of `Services` over moto; then what moto does not do."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from moto.moto_api import state_manager

from ecs_ops.aws.ecs_services import STOP_REASON, EcsService
from ecs_ops.errors import AwsFailure, NotFound, Transient
from ecs_ops.recycle import Services
from tests.services_contract import (
    AlarmsContract,
    BoundsContract,
    ServicesContract,
    Stage,
    TargetsContract,
)

NOWHERE = "arn:aws:ecs:us-west-2:123456789012:task/shop/00000000000000000000000000000000"
CLUSTER = "arn:aws:ecs:us-west-2:123456789012:cluster/shop"
SERVICE = "arn:aws:ecs:us-west-2:123456789012:service/shop/web"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@cache
def client(service: str) -> Any:
    """Return a client: making one takes longer than most tests here."""
    return boto3.client(cast("Any", service), region_name="us-west-2")


@pytest.fixture
def account() -> Iterator[None]:
    # By itself, moto lets a task run through its whole life from call to call.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 100})
    with mock_aws():
        yield
    state_manager.unset_transition("ecs::task")


def web(*, target_groups: tuple[str, ...] = ()) -> EcsService:
    """Make the service shop/web; moto starts no task for it, so two are run in its name."""
    ecs, subnet = client("ecs"), client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    ecs.create_cluster(clusterName="shop")
    ecs.register_task_definition(
        family="web",
        networkMode="awsvpc",
        containerDefinitions=[
            {"name": "app", "image": "app", "memory": 512, "portMappings": [{"containerPort": 80}]}
        ],
    )
    created = ecs.create_service(
        cluster="shop",
        serviceName="web",
        taskDefinition="web",
        desiredCount=2,
        launchType="FARGATE",
        loadBalancers=[
            {"targetGroupArn": arn, "containerName": "app", "containerPort": 80}
            for arn in target_groups
        ],
    )["service"]
    ecs.run_task(
        cluster="shop",
        taskDefinition="web",
        count=2,
        launchType="FARGATE",
        startedBy=created["deployments"][0]["id"],
        networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": []}},
    )
    return EcsService(client, "shop", "web")


@pytest.mark.usefixtures("account")
class TestEcsService(ServicesContract, BoundsContract, AlarmsContract, TargetsContract):
    @pytest.fixture
    def stage(self) -> Stage:
        return Stage(web(), EcsService(client, "shop", "nowhere"))

    @pytest.fixture(params=[("shop", "web"), (CLUSTER, SERVICE)])
    def scaled(self, request: pytest.FixtureRequest) -> Services:
        web()
        client("application-autoscaling").register_scalable_target(
            ServiceNamespace="ecs",
            ResourceId="service/shop/web",
            ScalableDimension="ecs:service:DesiredCount",
            MinCapacity=1,
            MaxCapacity=4,
        )
        return EcsService(client, *request.param)

    @pytest.fixture
    def alarmed(self) -> Services:
        cloudwatch = client("cloudwatch")
        for name, state in (("calm", "OK"), ("loud", "ALARM"), ("new", "INSUFFICIENT_DATA")):
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                Namespace="shop",
                MetricName="errors",
                ComparisonOperator="GreaterThanThreshold",
                EvaluationPeriods=1,
                Period=60,
                Statistic="Sum",
                Threshold=1,
            )
            cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")
        return web()

    @pytest.fixture
    def balanced(self) -> Services:
        elbv2 = client("elbv2")
        vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        group = elbv2.create_target_group(
            Name="web", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip"
        )["TargetGroups"][0]["TargetGroupArn"]
        elbv2.modify_target_group_attributes(
            TargetGroupArn=group,
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}],
        )
        service = web(target_groups=(group,))
        arns = [task.arn for task in service.look().tasks]
        for task in client("ecs").describe_tasks(cluster="shop", tasks=arns)["tasks"]:
            (address,) = (
                detail["value"]
                for detail in task["attachments"][0]["details"]
                if detail["name"] == "privateIPv4Address"
            )
            elbv2.register_targets(TargetGroupArn=group, Targets=[{"Id": address, "Port": 80}])
        return service


@pytest.mark.usefixtures("account")
def test_error_names_the_cluster_when_it_does_not_exist() -> None:
    with pytest.raises(NotFound, match=r"^cluster nowhere does not exist$"):
        EcsService(client, "nowhere", "web").describe()


@pytest.mark.usefixtures("account")
def test_service_is_inactive_when_it_was_deleted() -> None:
    service = web()
    client("ecs").delete_service(cluster="shop", service="web", force=True)

    assert service.describe().status == "INACTIVE"


@pytest.mark.usefixtures("account")
def test_no_other_client_is_made_when_a_service_is_only_looked_at() -> None:
    asked: set[str] = set()

    def recorded(service: str) -> Any:
        asked.add(service)
        return client(service)

    web()
    service = EcsService(recorded, "shop", "web")
    service.look()
    service.ringing([])

    assert asked == {"ecs"}


# What follows are answers that moto does not give.


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with Stubber(boto3.client("ecs", "us-west-2")) as stubber:
        yield stubber


def stubbed(stub: Stubber) -> EcsService:
    return EcsService({"ecs": stub.client}.__getitem__, "shop", "web", clock=NOW.timestamp)


def describe(stub: Stubber, **fields: Any) -> None:
    """Queue an answer of DescribeServices."""
    service = {"serviceArn": SERVICE, "status": "ACTIVE", "desiredCount": 2, **fields}
    stub.add_response(
        "describe_services",
        {"services": [service], "failures": []},
        {"cluster": "shop", "services": ["web"]},
    )


def test_primary_deployment_is_told_when_another_is_going_on(stub: Stubber) -> None:
    describe(
        stub,
        deployments=[
            {"id": "ecs-svc/1", "status": "ACTIVE"},
            {"id": "ecs-svc/2", "status": "PRIMARY"},
        ],
        schedulingStrategy="DAEMON",
        deploymentController={"type": "CODE_DEPLOY"},
    )

    found = stubbed(stub).describe()

    assert (found.arn, found.deployment, found.deployments) == (SERVICE, "ecs-svc/2", 2)
    assert (found.scheduling_strategy, found.deployment_controller) == ("DAEMON", "CODE_DEPLOY")


def test_failure_is_no_missing_service_when_aws_gives_another_reason(stub: Stubber) -> None:
    stub.add_response(
        "describe_services", {"services": [], "failures": [{"reason": "ACCESS", "detail": "no"}]}
    )

    with pytest.raises(AwsFailure, match="ACCESS: no"):
        stubbed(stub).describe()


def test_every_page_is_read_when_a_service_has_many_tasks(stub: Stubber) -> None:
    arns = [f"{NOWHERE[:-3]}{number:03}" for number in range(150)]
    question = {"cluster": "shop", "serviceName": "web", "desiredStatus": "RUNNING"}
    stub.add_response("list_tasks", {"taskArns": arns[:100], "nextToken": "more"}, question)
    stub.add_response("list_tasks", {"taskArns": arns[100:]}, question | {"nextToken": "more"})
    for batch in (arns[:100], arns[100:]):
        tasks = [
            {
                "taskArn": arn,
                "lastStatus": "RUNNING",
                "desiredStatus": "RUNNING",
                "availabilityZone": "us-west-2a",
                "startedAt": NOW,
                "startedBy": "ecs-svc/1",
            }
            for arn in batch
        ]
        stub.add_response("describe_tasks", {"tasks": tasks}, {"cluster": "shop", "tasks": batch})
    describe(stub)

    seen = stubbed(stub).look().tasks

    assert [task.arn for task in seen] == arns
    assert {(task.zone, task.since, task.deployment) for task in seen} == {
        ("us-west-2a", NOW.timestamp(), "ecs-svc/1")
    }


def test_name_is_used_where_no_arn_is_known_to_work_when_an_arn_is_given(stub: Stubber) -> None:
    service = EcsService({"ecs": stub.client}.__getitem__, CLUSTER, SERVICE)
    described: dict[str, Any] = {
        "services": [{"serviceArn": SERVICE, "status": "ACTIVE", "desiredCount": 2}],
        "failures": [],
    }
    stub.add_response("describe_services", described, {"cluster": CLUSTER, "services": [SERVICE]})
    stub.add_response(
        "update_service", {}, {"cluster": CLUSTER, "service": "web", "desiredCount": 3}
    )
    stub.add_response(
        "list_tasks",
        {"taskArns": []},
        {"cluster": CLUSTER, "serviceName": "web", "desiredStatus": "RUNNING"},
    )

    assert service.change_desired_count(2, 3) == 3
    assert service.look().tasks == ()


def test_task_is_left_out_when_it_ends_between_the_calls(stub: Stubber) -> None:
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
    describe(stub)

    assert stubbed(stub).look().tasks == ()


def test_target_groups_are_learnt_anew_when_the_service_is_described(stub: Stubber) -> None:
    service = stubbed(stub)
    for _ in range(2):
        describe(stub)
        service.describe()
    stub.add_response("list_tasks", {"taskArns": []})
    service.look()
    describe(stub, loadBalancers=[{"targetGroupArn": "arn:group", "containerPort": 80}])
    service.describe()
    stub.add_response("list_tasks", {"taskArns": []})

    with pytest.raises(KeyError, match="elbv2"):
        service.look()


def test_tasks_are_protected_when_their_protection_has_not_expired(stub: Stubber) -> None:
    arns = [f"{NOWHERE[:-3]}{number:03}" for number in range(130)]
    told = {
        "protectedTasks": [
            {"taskArn": arns[0], "protectionEnabled": True, "expirationDate": NOW.replace(hour=13)},
            {"taskArn": arns[1], "protectionEnabled": True, "expirationDate": NOW.replace(hour=11)},
            {"taskArn": arns[2], "protectionEnabled": False},
        ],
        "failures": [{"arn": arns[3], "reason": "MISSING"}],
    }
    stub.add_response("get_task_protection", told, {"cluster": "shop", "tasks": arns[:100]})
    told = {"protectedTasks": [{"taskArn": arns[-1], "protectionEnabled": True}], "failures": []}
    stub.add_response("get_task_protection", told, {"cluster": "shop", "tasks": arns[100:]})

    assert stubbed(stub).protected(arns) == {arns[0], arns[-1]}


def test_protection_is_not_guessed_when_ecs_cannot_tell(stub: Stubber) -> None:
    failures = [{"arn": NOWHERE, "reason": "TASK_NOT_VALID"}]
    stub.add_response("get_task_protection", {"protectedTasks": [], "failures": failures})

    with pytest.raises(AwsFailure, match="TASK_NOT_VALID"):
        stubbed(stub).protected([NOWHERE])


def test_reason_is_given_when_a_task_is_stopped(stub: Stubber) -> None:
    stub.add_response("stop_task", {}, {"cluster": "shop", "task": NOWHERE, "reason": STOP_REASON})

    stubbed(stub).stop(NOWHERE)

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
    stub: Stubber, code: str, expected: type[Exception]
) -> None:
    stub.add_client_error("stop_task", code)

    with pytest.raises(expected):
        stubbed(stub).stop(NOWHERE)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("describe_services", EcsService.describe),
        ("list_tasks", EcsService.look),
        ("describe_tasks", lambda service: service.was_recycled(NOWHERE)),
        ("get_task_protection", lambda service: service.protected([NOWHERE])),
    ],
)
def test_error_is_transient_when_aws_is_busy(
    stub: Stubber, operation: str, call: Callable[[EcsService], object]
) -> None:
    stub.add_client_error(operation, "ThrottlingException")

    with pytest.raises(Transient):
        call(stubbed(stub))
