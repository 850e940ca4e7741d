"""Application Auto Scaling keeps a service within its bounds, for whoever may set them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.sandbox.conftest import allow, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.sandbox.conftest import Cluster
    from tests.sandbox.account import Account


class Target:
    """The scalable target of a service without tasks that take time."""

    def __init__(self, account: Account, cluster: Cluster, count: int) -> None:
        self.client = account.client("application-autoscaling")
        self.cluster = cluster
        self.about = {
            "ServiceNamespace": "ecs",
            "ResourceId": f"service/{cluster.name}/web",
            "ScalableDimension": "ecs:service:DesiredCount",
        }
        cluster.create_service(cluster.define("sleep 60"), count)

    def register(self, **bounds: int) -> str:
        return str(
            self.client.register_scalable_target(**self.about, **bounds)["ScalableTargetARN"]
        )

    def described(self) -> list[dict[str, Any]]:
        answer = self.client.describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[self.about["ResourceId"]]
        )
        return list(answer["ScalableTargets"])

    def desired(self) -> int:
        return int(self.cluster.service()["desiredCount"])


@pytest.fixture
def target(account: Account, cluster: Cluster) -> Target:
    return Target(account, cluster, count=2)


def test_other_bound_stays_when_one_is_registered(target: Target) -> None:
    arn = target.register(MinCapacity=1, MaxCapacity=3)

    assert target.register(MaxCapacity=4) == arn
    assert target.register(MinCapacity=2) == arn

    (described,) = target.described()
    assert (described["MinCapacity"], described["MaxCapacity"]) == (2, 4)
    assert described["ScalableTargetARN"] == arn
    assert target.desired() == 2


@pytest.mark.parametrize(("bounds", "count"), [((3, 5), 3), ((0, 1), 1), ((1, 2), 2)])
def test_desired_count_moves_within_the_bounds_when_they_are_registered(
    target: Target, bounds: tuple[int, int], count: int
) -> None:
    target.register(MinCapacity=bounds[0], MaxCapacity=bounds[1])

    assert target.desired() == count


def test_person_may_leave_the_bounds_until_they_are_registered_again(target: Target) -> None:
    target.register(MinCapacity=1, MaxCapacity=3)

    target.cluster.ecs.update_service(cluster=target.cluster.name, service="web", desiredCount=4)
    assert target.desired() == 4

    target.register()
    assert target.desired() == 3


def test_target_is_unknown_when_it_is_deregistered(target: Target) -> None:
    target.register(MinCapacity=1, MaxCapacity=3)

    target.client.deregister_scalable_target(**target.about)

    assert target.described() == []
    with pytest.raises(target.client.exceptions.ObjectNotFoundException):
        target.client.deregister_scalable_target(**target.about)


@pytest.mark.parametrize("bounds", [{"MaxCapacity": 3}, {"MinCapacity": 3, "MaxCapacity": 1}])
def test_target_is_refused_when_its_bounds_make_no_sense(
    target: Target, bounds: dict[str, int]
) -> None:
    with pytest.raises(target.client.exceptions.ValidationException):
        target.register(**bounds)

    assert target.described() == []


def test_describing_is_allowed_on_everything_alone(
    target: Target, client_as: Callable[..., Any]
) -> None:
    arn, action = target.register(MinCapacity=1, MaxCapacity=3), "DescribeScalableTargets"
    may = client_as("application-autoscaling", allow(f"application-autoscaling:{action}"))
    may_not = client_as("application-autoscaling", allow("application-autoscaling:*", arn))

    assert not refused(lambda: may.describe_scalable_targets(ServiceNamespace="ecs"))
    assert action in refused(lambda: may_not.describe_scalable_targets(ServiceNamespace="ecs"))


def test_registering_is_allowed_by_target_and_by_namespace(
    target: Target, client_as: Callable[..., Any]
) -> None:
    arn, action = (
        target.register(MinCapacity=1, MaxCapacity=3),
        "application-autoscaling:RegisterScalableTarget",
    )
    key = "application-autoscaling:service-namespace"

    def attempt(*statement: Any, **condition: Any) -> str:
        client = client_as(
            "application-autoscaling",
            allow(action, *statement, **condition),
            allow("ecs:*"),
        )
        return refused(lambda: client.register_scalable_target(**target.about, MaxCapacity=4))

    assert not attempt(arn)
    assert not attempt("*", StringEquals={key: "ecs"})
    assert action in attempt(arn[:-1])
    assert action in attempt("*", StringEquals={key: "dynamodb"})


def test_registering_is_refused_when_the_caller_may_not_update_the_service(
    target: Target, client_as: Callable[..., Any]
) -> None:
    client = client_as(
        "application-autoscaling",
        allow("application-autoscaling:*"),
        allow("ecs:DescribeServices"),
    )

    with pytest.raises(ClientError, match="ecs:UpdateService") as refusal:
        client.register_scalable_target(**target.about, MinCapacity=1, MaxCapacity=3)

    assert refusal.value.response["Error"]["Code"] == "ValidationException"
