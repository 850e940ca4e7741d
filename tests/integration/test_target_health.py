"""Which tasks a load balancer sends requests, from answers in AWS's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from ecs_ops.aws.target_health import TargetHealth
from ecs_ops.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

BLUE = "arn:aws:elasticloadbalancing:us-west-2:111122223333:targetgroup/blue/0123456789abcdef"
GREEN = BLUE.replace("blue", "green")
INSTANCE = "arn:aws:ecs:us-west-2:111122223333:container-instance/shop/1"


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stubber]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    ecs, elbv2 = boto3.client("ecs", "us-west-2"), boto3.client("elbv2", "us-west-2")
    with Stubber(ecs) as tasks, Stubber(elbv2) as targets:
        yield {"ecs": tasks, "elbv2": targets}
        tasks.assert_no_pending_responses()
        targets.assert_no_pending_responses()


def balancer(group: str = BLUE, port: int = 80, **fields: Any) -> Any:
    return {"targetGroupArn": group, "containerName": "app", "containerPort": port, **fields}


def target_health(stubs: dict[str, Stubber], *balancers: Any) -> TargetHealth:
    return TargetHealth(lambda service: stubs[service].client, "shop", balancers, {})


def answer(
    stubs: dict[str, Stubber], *targets: tuple[str, int, str], group: str = BLUE, reason: str = ""
) -> None:
    """Queue an answer of DescribeTargetHealth: address, port and state of each target."""
    described = [
        {
            "Target": {"Id": address, "Port": port},
            "TargetHealth": {"State": state, **({"Reason": reason} if reason else {})},
        }
        for address, port, state in targets
    ]
    stubs["elbv2"].add_response(
        "describe_target_health", {"TargetHealthDescriptions": described}, {"TargetGroupArn": group}
    )


def own_address(address: str, kind: str = "privateIPv4Address") -> Any:
    """Return a task in awsvpc mode."""
    details = [{"name": "subnetId", "value": "subnet-1"}, {"name": kind, "value": address}]
    return {
        "taskArn": f"task/{address}",
        "containerInstanceArn": INSTANCE,
        "attachments": [{"type": "ElasticNetworkInterface", "details": details}],
    }


def on_instance(name: str, *bindings: tuple[str, int, int], instance: str = INSTANCE) -> Any:
    """Return a task in bridge or host mode: container, its port, the host's port."""
    return {
        "taskArn": f"task/{name}",
        "containerInstanceArn": instance,
        "attachments": [],
        "containers": [
            {
                "name": container,
                "networkBindings": [{"containerPort": port, "hostPort": host, "protocol": "tcp"}],
            }
            for container, port, host in bindings
        ],
    }


@pytest.mark.parametrize(
    "state",
    ["initial", "unhealthy", "unhealthy.draining", "unused", "draining", "unavailable"],
)
def test_task_is_reachable_when_its_target_is_healthy_only(
    stubs: dict[str, Stubber], state: str
) -> None:
    answer(stubs, ("10.0.0.1", 80, "healthy"), ("10.0.0.2", 80, state))

    reachable, draining = target_health(stubs, balancer()).look(
        [own_address("10.0.0.1"), own_address("10.0.0.2"), own_address("10.0.0.3")]
    )

    assert reachable == {"task/10.0.0.1"}
    assert draining == (state == "draining")


def test_nothing_is_asked_when_there_is_no_target_group(stubs: dict[str, Stubber]) -> None:
    classic = {"loadBalancerName": "old", "containerName": "app", "containerPort": 80}
    targets = target_health(stubs, classic)

    assert targets.look([own_address("10.0.0.1")]) == (frozenset({"task/10.0.0.1"}), 0)
    assert targets.deregistration_delay() == 0


def test_task_without_an_address_is_not_reachable_when_it_has_just_begun(
    stubs: dict[str, Stubber],
) -> None:
    answer(stubs, ("10.0.0.1", 80, "healthy"))

    reachable, _ = target_health(stubs, balancer()).look([{"taskArn": "task/new"}])

    assert reachable == frozenset()


def test_port_decides_when_two_services_share_an_address(stubs: dict[str, Stubber]) -> None:
    answer(stubs, ("10.0.0.1", 9000, "healthy"))

    reachable, _ = target_health(stubs, balancer()).look([own_address("10.0.0.1")])

    assert reachable == frozenset()


def test_task_is_reachable_when_its_target_has_an_ipv6_address(stubs: dict[str, Stubber]) -> None:
    answer(stubs, ("2001:db8::1", 80, "healthy"))

    reachable, _ = target_health(stubs, balancer()).look(
        [own_address("2001:db8::1", "ipv6Address")]
    )

    assert reachable == {"task/2001:db8::1"}


def test_every_target_group_counts_when_there_are_two(stubs: dict[str, Stubber]) -> None:
    addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    for group, port, states in (
        (BLUE, 80, ("healthy", "healthy", "initial")),
        (GREEN, 81, ("healthy", "draining", "healthy")),
    ):
        targets = zip(addresses, (port,) * 3, states, strict=True)
        answer(stubs, *targets, group=group)

    found = target_health(stubs, balancer(), balancer(GREEN, 81)).look(
        [own_address(address) for address in addresses]
    )

    assert found == (frozenset({"task/10.0.0.1"}), 1)


def test_target_group_does_not_count_when_no_load_balancer_uses_it(
    stubs: dict[str, Stubber],
) -> None:
    targets = (("10.0.0.1", 80, "unused"), ("10.0.0.2", 80, "unused"))
    answer(stubs, *targets, reason="Target.NotInUse")

    reachable, _ = target_health(stubs, balancer()).look([own_address("10.0.0.1")])

    assert reachable == {"task/10.0.0.1"}


@pytest.mark.parametrize("reason", ["Target.InvalidState", "Target.NotRegistered"])
def test_target_group_counts_when_its_targets_are_unused_for_another_reason(
    stubs: dict[str, Stubber], reason: str
) -> None:
    answer(stubs, ("10.0.0.1", 80, "unused"), reason=reason)

    reachable, _ = target_health(stubs, balancer()).look([own_address("10.0.0.1")])

    assert reachable == frozenset()


def test_target_group_counts_when_it_is_empty(stubs: dict[str, Stubber]) -> None:
    answer(stubs)

    reachable, _ = target_health(stubs, balancer()).look([own_address("10.0.0.1")])

    assert reachable == frozenset()


def test_either_target_group_will_do_when_one_is_the_alternate(stubs: dict[str, Stubber]) -> None:
    answer(stubs, ("10.0.0.3", 80, "draining"))
    answer(stubs, ("10.0.0.1", 80, "healthy"), ("10.0.0.2", 80, "unhealthy"), group=GREEN)
    both = balancer(advancedConfiguration={"alternateTargetGroupArn": GREEN})

    found = target_health(stubs, both).look([own_address("10.0.0.1"), own_address("10.0.0.2")])

    assert found == (frozenset({"task/10.0.0.1"}), 1)


def test_instance_and_host_port_are_the_target_when_a_task_has_no_address(
    stubs: dict[str, Stubber],
) -> None:
    tasks = [
        on_instance("a", ("sidecar", 80, 32768), ("app", 80, 32769)),
        on_instance("b", ("app", 80, 32770)),
    ]
    stubs["ecs"].add_response(
        "describe_container_instances",
        {"containerInstances": [{"containerInstanceArn": INSTANCE, "ec2InstanceId": "i-1"}]},
        {"cluster": "shop", "containerInstances": [INSTANCE]},
    )
    targets = target_health(stubs, balancer())

    answer(stubs, ("i-1", 32768, "healthy"), ("i-1", 32770, "healthy"))
    assert targets.look(tasks) == (frozenset({"task/b"}), 0)
    # The second time the instance is known.
    answer(stubs, ("i-1", 32769, "healthy"), ("i-1", 32770, "initial"))
    assert targets.look(tasks) == (frozenset({"task/a"}), 0)


def test_instances_are_asked_for_by_the_hundred_when_there_are_many(
    stubs: dict[str, Stubber],
) -> None:
    arns = [f"{INSTANCE}{number:03}" for number in range(130)]
    for batch in (arns[:100], arns[100:]):
        stubs["ecs"].add_response(
            "describe_container_instances",
            {
                "containerInstances": [
                    {"containerInstanceArn": arn, "ec2InstanceId": f"i-{arn[-3:]}"} for arn in batch
                ]
            },
            {"cluster": "shop", "containerInstances": batch},
        )
    answer(stubs, *((f"i-{number:03}", 32768, "healthy") for number in range(130)))
    tasks = [on_instance(arn[-3:], ("app", 80, 32768), instance=arn) for arn in arns]

    reachable, _ = target_health(stubs, balancer()).look(tasks)

    assert len(reachable) == 130


def test_delay_is_the_longest_when_target_groups_differ(stubs: dict[str, Stubber]) -> None:
    for group, seconds in ((BLUE, "30"), (GREEN, "300")):
        stubs["elbv2"].add_response(
            "describe_target_group_attributes",
            {
                "Attributes": [
                    {"Key": "stickiness.enabled", "Value": "false"},
                    {"Key": "deregistration_delay.timeout_seconds", "Value": seconds},
                ]
            },
            {"TargetGroupArn": group},
        )

    # The same group twice is asked once.
    targets = target_health(stubs, balancer(), balancer(port=81), balancer(GREEN))

    assert targets.deregistration_delay() == 300


@pytest.mark.parametrize(("code", "status"), [("Throttling", 400), ("HealthUnavailable", 500)])
def test_error_is_transient_when_elastic_load_balancing_is_busy(
    stubs: dict[str, Stubber], code: str, status: int
) -> None:
    stubs["elbv2"].add_client_error("describe_target_health", code, http_status_code=status)

    with pytest.raises(Transient):
        target_health(stubs, balancer()).look([])
